"""A population in the hands of the driver: folder, logs, resume, command line."""

import io
import json

import jax
import numpy as np
import pytest

import optix
from optix.callbacks.console import Console
from optix.callbacks.jsonl import read_log
from optix.callbacks.members import MembersLog, read_members
from optix.callbacks.scalars import scalars
from optix.checks import OptionError
from optix.cli import main
from tests.population.members import LATE, SPAWNS, regression

LIFE, SEEDS = LATE, 2
QUIET = {"seeds": SEEDS, "progress": False}


class StopAfter(optix.LoopCallback):
    def __init__(self, pause, rounds):
        self.pause, self.left = pause, rounds

    def on_episode_end(self, episode_id, eval_metrics):
        if episode_id + 1 >= self.left:
            self.pause.stop()


class Told(optix.LoopCallback):
    """Keeps what it is told."""

    def __init__(self):
        self.dispatches = []

    def on_rounds(self, rounds):
        self.dispatches.append(rounds)


@pytest.fixture(scope="module")
def told():
    return Told()


@pytest.fixture(scope="module")
def whole(told, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return optix.train(regression(), directory=folder, callbacks=[told], **QUIET)


def test_a_pause_and_a_resume_change_no_bit(whole, tmp_path):
    pause = optix.Pause()
    folder = tmp_path / "run"
    paused = optix.train(
        regression(),
        directory=folder,
        callbacks=[StopAfter(pause, 1)],
        pause=pause,
        **QUIET,
    )
    assert paused.paused is not None
    assert 0 < int(paused.state.round[0]) < LIFE * (1 + SPAWNS)
    resumed = optix.resume(folder, regression(), progress=False)
    for x, y in zip(
        jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True
    ):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
    lines = [[*read_members(r.directory / "members.jsonl")] for r in (resumed, whole)]
    assert lines[0] == lines[1]


def test_each_place_has_a_replay_of_its_own():
    run = regression()
    step = jax.jit(run.step)
    states = [run.init(jax.random.key(0))]
    for _ in range(2 * LIFE - 1):
        states.append(step(states[-1])[0])
    begun, first, second = states[0], states[LIFE], states[-1]
    empty, one, two = (
        np.asarray(s.learner.memory.rows) for s in (begun, first, second)
    )
    assert not empty.any()
    # who begins near the best one goes on with the best one's replay
    assert first.origins.parent.tolist() == [-1, 0]
    np.testing.assert_array_equal(one[1], one[0])
    assert one[0].any()
    np.testing.assert_array_equal(two[0], one[0])  # and the best one's stays
    assert (two[1] != one[1]).any()


def test_the_log_has_a_line_per_member_and_per_decision(whole):
    lines = [*read_members(whole.directory / "members.jsonl")]
    decisions = [line for line in lines if "decision" in line]
    assert len(lines) - len(decisions) == SEEDS * LIFE * (1 + SPAWNS)
    assert len(decisions) == SEEDS * (1 + SPAWNS)
    first = decisions[0]
    assert (first["round"], first["member"], first["decision"]) == (
        LIFE - 1,
        0,
        "SPAWN",
    )
    assert (first["child"], first["parent"], first["gap"]) == (1, 0, 0.0)
    assert first["gain_limit"] is None  # no verdict after so few rounds
    assert [line["decision"] for line in decisions].count("STOP") == SEEDS
    member = lines[0]
    assert member["hyperparams"].keys() == {"rate"}
    assert (member["member_round"], member["stop_reason"]) == (0, "RUNNING")


def test_spawns_are_events_of_the_log_and_marks_of_the_curve(whole):
    records = [r for r in read_log(whole.log) if r["seed"] == 0]
    spawned = [r["round"] for r in records if "SPAWN" in r["events"]]
    assert spawned == [LIFE - 1, 2 * LIFE - 1, 3 * LIFE - 1]
    assert any("PRUNE" in r["events"] for r in records)
    assert len(records) == LIFE * (1 + SPAWNS)
    assert len(records[0]["lane_scores"]) == 2
    assert whole.curve.stat().st_size > 0
    assert whole.message.startswith("the population has settled")


def test_the_table_shows_policies_and_spawns(whole):
    columns = {str(c.header): list(c.cells) for c in whole.table().columns}
    assert columns["policies"] == ["2/2"] * SEEDS
    assert columns["spawns"] == [str(SPAWNS)] * SEEDS


def test_the_best_policy_of_all_is_in_the_folder(whole):
    played = optix.evaluate(whole.directory, episodes=4, loop=regression())
    assert played.final
    assert played.stored == whole.scores[whole.best_seed]
    kept = whole.state.best.policy.params["weights"][whole.best_seed]
    assert np.isfinite(kept).all()


def test_by_name_it_is_rebuilt_from_its_folder(tmp_path, capsys):
    folder = tmp_path / "run"
    sizes = ["num_steps=4", "hidden=4,", "evaluation_episodes=2", "max_spawns=1"]
    settings = [part for size in sizes for part in ("--set", size)]
    few = ["--num-envs", "2", "--max-rounds", "2", "--no-progress"]
    where = ["--directory", str(folder), "--policies", "2"]
    assert main(["train", "CartPole-v1", *where, *few, *settings]) == 0
    assert "policies" in capsys.readouterr().out
    options = json.loads((folder / "run.json").read_text())["recipe"]["options"]
    assert (options["policies"], options["max_spawns"]) == (2, 1)
    more = optix.resume(folder, max_rounds=3, progress=False)
    assert more.state.round.tolist() == [3]
    assert optix.load(folder).act(np.zeros((3, 4))).shape == (3,)


def test_loggers_are_told_of_policies_and_spawns(whole, told):
    reports = [r for rounds in told.dispatches for seed, r in rounds if seed == 0]
    tags = [scalars(report) for report in reports]
    assert [t["population/spawns"] for t in tags[::LIFE]] == [0, 1, 2, 3]
    assert tags[-1]["population/policies"] == 2


def test_the_console_counts_policies_and_spawns(whole, told):
    console = Console(whole.state, "regression", stream=io.StringIO())
    console.on_loop_start()
    for rounds in told.dispatches:
        console.on_rounds(rounds)
    assert "2/2 policies  3 spawns" in console.status()
    console.on_loop_stop()


@pytest.mark.parametrize("policies", ["0", "-3"])
def test_the_command_line_refuses_no_policies(policies, tmp_path, capsys):
    folder = ["--directory", str(tmp_path / "run")]
    assert main(["train", "CartPole-v1", "--policies", policies, *folder]) == 2
    assert "policies must be an integer >= 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_options_of_a_population_need_one():
    with pytest.raises(OptionError, match="max_spawns is of a population"):
        optix.make("CartPole-v1", max_spawns=3)
    with pytest.raises(OptionError, match="did you mean 'max_spawns'"):
        optix.make("CartPole-v1", policies=2, max_spawn=3)


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(OptionError, match="is a folder"):
        MembersLog(tmp_path)
    log = MembersLog(tmp_path / "members.jsonl", [3])
    log.path.write_text(
        '{"seed": 0, "round": 2, "member": 0}\nnothing\n[1]\n{"seed": 0}\n'
    )
    assert [r["round"] for r in read_members(log.path)] == [2]
    MembersLog(log.path, [2])
    assert not log.path.read_text()
