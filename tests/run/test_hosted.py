"""Runs in environments of Gymnasium: by name, resumed, failing."""

import json
import traceback

import gymnasium
import jax
import numpy as np
import pytest

import optix
from optix.cli import main
from optix.run.programs import own_errors
from tests.envs.counting import Counting

TINY = {"num_steps": 8, "hidden": (4,), "evaluation_episodes": 2, "final_scores": 1}


def test_a_name_of_gymnasium_trains_resumes_and_plays(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTIX_COMPILATION_CACHE", "0")
    settings = [f"--set={name}={value}" for name, value in TINY.items()]
    command = ["train", "gymnasium:CartPole-v1", "--num-envs", "2", *settings]
    assert main([*command, "--max-rounds", "2", "--no-progress"]) == 0
    folder = tmp_path / "runs" / "gymnasium-CartPole-v1-ppo-1"
    recipe = json.loads((folder / "run.json").read_text())["recipe"]
    assert recipe["environment"] == "gymnasium:CartPole-v1"
    assert recipe["options"]["num_envs"] == 2
    resumed = ["resume", str(folder), "--max-rounds", "3", "--no-progress"]
    with pytest.warns(RuntimeWarning, match="goes on with fresh episodes"):
        assert main(resumed) == 0
    assert main(["eval", str(folder), "--episodes", "2"]) == 0
    assert "mean of 2 episodes" in capsys.readouterr().out
    monkeypatch.setattr("optix.run.playing._SIDE_BY_SIDE", 2)
    played = optix.evaluate(folder, 5)  # two, two, and one of two
    assert played.scores.shape == (5,) and len({*played.scores.tolist()}) > 1
    assert played.mean == played.scores.mean() and (played.scores >= 8).all()
    action = optix.load(folder).act(np.zeros(4))
    assert gymnasium.make("CartPole-v1").action_space.contains(action)


class BrokenError(Exception):
    """What a user's environment raises."""


class Failing(Counting):
    def step(self, action):
        if self.steps == 40:
            self.fall_over()
        return super().step(action)

    def fall_over(self):
        raise BrokenError("the table is gone")


def test_an_exception_of_an_environment_arrives_as_it_was_raised():
    with pytest.raises(BrokenError, match="the table is gone") as caught:
        optix.train(
            Failing, agent="ppo", num_envs=1, num_minibatches=2, progress=False, **TINY
        )
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fall_over" in frames


def test_an_exception_of_the_validation_environment_arrives_too():
    loop = optix.make(Counting, "ppo", validation=Failing, num_envs=2, **TINY)
    policy, score = loop.learner.agent.init(jax.random.key(0)), jax.jit(loop.score)
    with pytest.raises(BrokenError, match="the table is gone"), own_errors(loop):
        for seed in range(20):
            key = jax.random.key(seed)
            jax.block_until_ready(score(policy, loop.learner.hyperparams, key))
