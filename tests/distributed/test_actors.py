"""The loop around actors: same bits, seeds, a folder, what does not go together."""

import importlib.util
import json

import gymnax
import jax
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.cli import main
from optix.envs.device import device
from optix.run.folder import RunFolderError
from tests.distributed.acting.playing import TINY


def made(env="CartPole-v1", agent="impala", **options):
    return optix.make(env, agent, **{**TINY, "actors": 2, **options})


def leaves(loop):
    policy = optix.train(loop, progress=False).state.learner.policy
    return [np.asarray(leaf) for leaf in jax.tree.leaves(policy)]


def test_lockstep_is_the_same_bit_for_bit_on_each_engine():
    inline, threads = made(), made(engine="threads", lockstep=1)
    first = leaves(inline)
    for again in (leaves(inline), leaves(threads)):  # the first one with other actors
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)


def test_two_seeds_of_a_box_in_a_folder_that_is_logged_resumed_and_loaded(tmp_path):
    run = tmp_path / "run"
    options = {**TINY, "actors": 2, "engine": "threads", "seeds": 2, "progress": False}
    result = optix.train("Pendulum-v1", agent="impala", directory=run, **options)
    assert result.state.env_steps.tolist() == [3 * 2 * 2 * 8] * 2
    with pytest.warns(RuntimeWarning, match="goes on with fresh episodes"):
        result = optix.resume(run, max_rounds=5, progress=False)
    assert result.state.round.tolist() == [5, 5]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    for row in rows:
        figures = row["metrics"]
        assert (
            0 <= figures["policy_lag"] <= 8 and figures["actor_steps_per_second"] >= 0
        )
        assert figures["dropped"] == figures["restarts"] == 0
    assert optix.load(run).act(np.zeros(3, np.float32)).shape == (1,)
    assert np.isfinite(optix.evaluate(run, 2).mean)


def test_agents_with_a_carry_and_tuners_of_one_lane():
    options = {"tuner": "trust", "validation": "CartPole-v1", "num_minibatches": 2}
    loop = made(agent="recurrent_ppo", **options)
    assert optix.train(loop, progress=False).state.round.tolist() == [3]


def test_what_can_not_be_is_refused():
    with pytest.raises(OptionError, match="num_envs must be divisible"):
        made(actors=3)
    with pytest.raises(OptionError, match="learn from windows"):
        optix.make("CartPole-v1", "dqn", actors=2)
    with pytest.raises(OptionError, match="the tuner has 2 lanes"):
        made(tuner="spsa")
    with pytest.raises(OptionError, match="did you mean threads|threads"):
        made(engine="thread")
    with pytest.raises(OptionError, match="async_envs"):
        made(async_envs=True)
    with pytest.raises(OptionError, match="^actors must be an integer >= 1, got 0"):
        made(actors=0)
    with pytest.raises(OptionError, match=r"deadline must be in \(0, 1e\+09\), got 0"):
        made(deadline=0)
    with pytest.raises(OptionError, match="^engine is of actors; pass actors= beside"):
        optix.make("CartPole-v1", "impala", engine="ray")


def test_what_the_device_plays_is_refused_by_name():
    for world, told in (
        ("Breakout-MinAtar", "'Breakout-MinAtar'"),
        ("craftax:Craftax-Classic-Symbolic-v1", "'craftax:Craftax"),
        (gymnax.make("CartPole-v1")[0], "CartPole"),
        (device("CartPole-v1"), "the Environment CartPole-v1"),
    ):
        said = f"actors play a name of Gymnasium.*got .*{told}.*leave actors out"
        with pytest.raises(OptionError, match=said):
            optix.make(world, "impala", actors=2)
        agent = optix.make_agent("CartPole-v1", "impala")
        with pytest.raises(OptionError, match=said):
            optix.distributed.actors(agent, world)
    with pytest.raises(OptionError, match="must act on observations of Pendulum-v1"):
        optix.distributed.actors(agent, "Pendulum-v1")


def test_actors_that_name_no_algorithm_play_for_impala():
    clips = {
        "rho_clip" in optix.make(name, actors=2).learner.hyperparams
        for name in ("CartPole-v1", "Pendulum-v1")
    }
    assert clips == {True}


def test_a_policy_that_ray_trained_can_be_had_without_ray(tmp_path, monkeypatch):
    options = {**TINY, "actors": 1, "engine": "threads", "max_rounds": 1}
    optix.train("CartPole-v1", directory=tmp_path / "r", progress=False, **options)
    told = json.loads((tmp_path / "r" / "run.json").read_text())
    told["recipe"]["options"]["engine"] = "ray"
    del told["checksum"]
    (tmp_path / "r" / "run.json").write_text(json.dumps(told))
    find = importlib.util.find_spec
    absent = lambda name: None if name == "ray" else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert optix.load(tmp_path / "r").act(np.zeros(4)).shape == ()
    assert optix.evaluate(tmp_path / "r", 2).scores.shape == (2,)
    with pytest.raises(RunFolderError, match="needs the package ray: pip install"):
        optix.resume(tmp_path / "r", max_rounds=2)


def test_devices_do_not_go_together_with_actors(tmp_path, capsys):
    words = [
        "train",
        "CartPole-v1",
        "--actors",
        "2",
        "--directory",
        str(tmp_path / "r"),
    ]
    assert main([*words, "--engine", "threads", "--devices", "2"]) == 2
    assert "devices must be" in capsys.readouterr().err
    assert main(["train", "CartPole-v1", "--engine", "ray"]) == 2
    assert "--actors N" in capsys.readouterr().err
