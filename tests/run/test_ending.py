"""What is left of a run that has ended: the policy that it reported, and its figures."""

import json
import os
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.checks import OptionError
from optix.loop.loop import loop
from optix.make import make
from optix.run.description import decoded, encoded
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolder, RunFolderError
from optix.run.train import rebuild, resume, train
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

QUIET = {"progress": False, "checkpoint_seconds": 0.0}
TINY = {
    **{"num_envs": 2, "num_steps": 8, "num_minibatches": 2, "hidden": (4,)},
    **{"evaluation_episodes": 2, "final_scores": 2, "max_rounds": 2},
}


def lucky(max_rounds=60):
    """The best of many noisy scores is luck; the last policy is the better one."""
    return loop(
        scripted_learner(lambda w, key: 0.5 * w + 20.0 * jax.random.normal(key)),
        fixed(),
        max_rounds=max_rounds,
        final_scores=64,
        dormant_threshold=10**6,
        rollback=False,
    )


def test_what_is_played_is_what_was_reported(tmp_path):
    directory = tmp_path / "run"
    result = train(lucky(), seeds=3, directory=directory, **QUIET)
    seed = result.best_seed
    rounds = np.asarray(result.state.best.round)
    assert rounds[seed] == 59  # the luckiest round was another one
    played = evaluate(directory, 50, loop=lucky())
    assert (played.seed, played.round) == (seed, rounds[seed])
    assert played.final and played.stored == result.scores[seed]
    assert f"for which the run reported {result.scores[seed]:.5g}" in played.message

    told = json.loads((directory / "result.json").read_text())
    assert told["best_seed"] == seed and told["message"] == result.message
    assert told["scores"] == result.scores.tolist()
    assert told["best_rounds"] == rounds.tolist() and told["rounds"] == [60] * 3
    assert told["stop_reasons"] == ["MAX_ROUNDS"] * 3
    assert told["env_steps"] == [600] * 3

    # nothing is left to do: the same again, and nothing is written twice
    kept = sorted(os.listdir(directory / "best"))
    again = resume(directory, lucky(), **QUIET)
    assert again.scores.tolist() == result.scores.tolist()
    assert sorted(os.listdir(directory / "best")) == kept

    # a later session plays on past it: the best by the scores of the run, again
    going = resume(directory, lucky(), max_rounds=10**6, max_seconds=1e-9, **QUIET)
    assert going.paused == "max_seconds" and (going.state.round > 60).all()
    played = evaluate(directory, 50, loop=lucky())
    assert not played.final and played.stored > result.scores[seed]
    assert "chosen by its score of" in played.message


def test_a_disk_that_is_full_at_the_end_costs_no_result(tmp_path, monkeypatch):
    whole = train(lucky(), progress=False)
    original = CheckpointRegistry.save

    def save(self, step, *args, **kwargs):
        if step >= 60:
            raise CheckpointError("the disk is full")
        return original(self, step, *args, **kwargs)

    monkeypatch.setattr(CheckpointRegistry, "save", save)
    (tmp_path / "run").mkdir()
    with pytest.warns(UserWarning) as caught:
        result = train(lucky(), directory=tmp_path / "run", **QUIET)
    said = "\n".join(str(w.message) for w in caught)
    assert "the disk is full; the run can be resumed from the checkpoint before" in said
    assert "the result could not be written to" in said
    assert result.scores.tolist() == whole.scores.tolist()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rounds"] == [60]


def test_a_failing_first_checkpoint_is_an_error_at_once(tmp_path, monkeypatch):
    def full(path, arrays, record):
        raise OSError("the disk is full")

    monkeypatch.setattr("optix.checkpoints.store.write", full)
    with pytest.raises(
        RunFolderError, match="run can not hold checkpoints.*disk is full"
    ):
        train(lucky(), directory=tmp_path / "run", **QUIET)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["run[1]", "a[b]/lr=[0.1,0.2]", "back\\slash", "gs:"])
def test_a_folder_of_any_name_is_trained_resumed_and_played(tmp_path, name):
    directory = tmp_path / name
    train(lucky(3), directory=directory, **QUIET)
    result = resume(directory, lucky(3), max_rounds=5, **QUIET)
    assert result.state.round.tolist() == [5]
    assert evaluate(directory, 2, loop=lucky(3)).stored == result.scores[0]


def test_what_can_not_be_read_back_is_an_error_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "optix.checkpoints.store.read_arrays",
        lambda path, like: [np.zeros_like(array) for array in like],
    )
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "run", tmp_path / "empty"):
        with pytest.raises(RunFolderError, match="can not hold checkpoints"):
            train(lucky(), directory=directory, **QUIET)
    assert os.listdir(tmp_path) == ["empty"] and os.listdir(tmp_path / "empty") == []


# --------------------------------------------------------------------- before a folder


def counting(calls):
    """A learner that counts how often Python looks at its step."""
    base = scripted_learner(lambda windows, key: windows)

    def step(state, hyperparams, key, active):
        calls.append("step")
        return base.step(state, hyperparams, key, active)

    return loop(base._replace(step=step), fixed(), max_rounds=3, final_scores=1)


def test_tracing_before_the_folder_is_no_further_tracing(tmp_path):
    calls = []
    from optix.run.programs import programs

    made = counting(calls)
    run = programs(made, False)
    state = run.init(jax.random.split(jax.random.key(0), 1))
    jax.block_until_ready(run.advance(state, np.int32(1)))
    once = len(calls)
    calls.clear()
    train(counting(calls), directory=tmp_path / "run", **QUIET)
    assert len(calls) == once


def broken(where):
    def fail(*args):
        raise TypeError(f"a mistake in {where}")

    learner = scripted_learner(lambda windows, key: windows)
    return loop(learner._replace(**{where: fail}), fixed(), max_rounds=3)


@pytest.mark.parametrize("where", ["init", "step", "evaluate"])
def test_a_mistake_that_tracing_finds_leaves_no_folder(tmp_path, where):
    with pytest.raises(TypeError, match=f"a mistake in {where}"):
        train(broken(where), directory=tmp_path / "run", progress=False)
    assert os.listdir(tmp_path) == []


def test_max_seconds_below_the_time_to_compile_make_one_round_a_session(tmp_path):
    directory = tmp_path / "run"
    first = train(lucky(), directory=directory, max_seconds=1e-9, **QUIET)
    assert first.paused == "max_seconds" and first.state.round.tolist() == [1]
    second = resume(directory, lucky(), max_seconds=1e-9, **QUIET)
    assert second.paused == "max_seconds" and second.state.round.tolist() == [2]


# ------------------------------------------------------------------------ what is said


def test_values_come_back_from_json_as_they_were():
    for value in (
        *(1, 1.5, True, None, "x", float("inf"), float("-inf"), 2**70),
        *((1, (2, "x")), {"a": (0.5, float("inf"))}, ()),
    ):
        text = json.dumps(encoded(value), allow_nan=False)
        back = decoded(json.loads(text))
        assert back == value and type(back) is type(value)
    for number in (np.float32(0.1), np.int64(3), np.bool_(True), jnp.float32(0.1)):
        back = decoded(json.loads(json.dumps(encoded(number))))
        assert back == number and type(back) in (int, float, bool)
    for value in (object(), np.zeros(3), {1: 2}, {"float": "x"}, {"a": [object()]}):
        with pytest.raises(TypeError):
            encoded(value)


@pytest.fixture(scope="module")
def by_name(tmp_path_factory):
    """A run by names and numbers, with those that JSON has none for."""
    directory = tmp_path_factory.mktemp("by-name") / "run"
    options = TINY | {"target_score": float("inf"), "learning_rate": np.float32(1e-3)}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*run.json")
        train("CartPole-v1", directory=directory, progress=False, **options)
    return directory


def test_numbers_that_json_has_none_for_are_kept(by_name):
    folder = RunFolder.open(by_name, write=False)
    options = folder.config["recipe"]["options"]
    assert options["target_score"] == float("inf") and options["hidden"] == (4,)
    assert options["learning_rate"] == np.float32(1e-3)
    assert rebuild(folder).learner.hyperparams["learning_rate"] == np.float32(1e-3)
    assert evaluate(by_name, 2).final


def test_a_target_can_be_taken_away_again(by_name, tmp_path):
    directory = shutil.copytree(by_name, tmp_path / "run")
    for score, text in ((50.5, 50.5), (float("inf"), {"float": "inf"})):
        result = resume(directory, target_score=score, progress=False)
        config = json.loads((directory / "run.json").read_text())
        assert config["budgets"] == {"target_score": text}
        assert result.state.limits.target_score[0] == score
    assert sorted(p.name for p in directory.iterdir() if "tmp" in p.name) == []


def test_a_description_that_names_no_run_of_ours_is_named(by_name, tmp_path):
    directory = shutil.copytree(by_name, tmp_path / "run")
    config = json.loads((directory / "run.json").read_text())
    config.pop("checksum")
    for change in ({"agent": "pop"}, {"options": {"num_envs": "x"}}):
        text = json.dumps(config | {"recipe": config["recipe"] | change})
        (directory / "run.json").write_text(text)
        for act in (resume, evaluate):
            with pytest.raises(
                RunFolderError, match="run.json names a run that can not"
            ):
                act(directory)


def test_limits_are_the_same_at_the_start_and_later(by_name):
    for limit in (
        {"max_rounds": 99999999999},
        {"max_env_steps": 2**31},
        {"max_rounds": 0},
        {"target_score": float("nan")},
    ):
        with pytest.raises(ValueError) as at_first:
            make("CartPole-v1", **(TINY | limit))
        with pytest.raises(OptionError) as later:
            resume(by_name, **limit)
        assert str(at_first.value) == str(later.value)
    for seed in (-1, 2**63, "x", 1.5):
        with pytest.raises(OptionError, match="seed must be"):
            train("CartPole-v1", seed=seed)


def test_what_can_not_be_rebuilt_is_said_at_the_start(tmp_path):
    options = TINY | {"score": lambda policy, hyperparams, key: jnp.float32(0)}
    with pytest.warns(UserWarning, match="score can not be written to run.json"):
        train("CartPole-v1", directory=tmp_path / "run", progress=False, **options)
    with pytest.raises(RunFolderError, match="score was made from objects.*loop=loop"):
        resume(tmp_path / "run")


# ------------------------------------------------------------------- without the system

NO_FCNTL = """
import sys
sys.modules["fcntl"] = None
import os
import optix
del os.register_at_fork
from optix.run.folder import RunFolder, RunFolderError
try:
    RunFolder.create(sys.argv[1], {})
except RunFolderError as error:
    print(error)
"""


def test_without_locks_optix_imports_and_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NO_FCNTL, str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert "can not be locked on this system" in done.stdout, done.stderr
    assert "Windows" in done.stdout
