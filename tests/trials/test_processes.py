"""Searches in several processes, some of which are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import optuna

from optix.trials.samplers import quiet
from optix.trials.search import join_search, search
from optix.trials.storages import storage_at
from tests.trials.test_search import play

TINY = dict(num_envs=2, num_steps=8, hidden=(4,), evaluation_episodes=1, final_scores=1)
ROOT = Path(__file__).parents[2]
KILLED = (
    "from tests.trials.test_search import play;"
    "play(directory={!r}, pruner='none', report_every=1, confirm=0, slots=2)"
)


def trials_of(directory):
    """What the journal says, {number: trial}; {} before there is one."""
    with quiet():
        try:
            storage = storage_at(directory, None)
            study = optuna.load_study(study_name="search", storage=storage)
        except KeyError:
            return {}
        return {trial.number: trial for trial in study.trials}


def wait_for(directory, there, process=None):
    """Look at the journal until `there(trials)` is true, and return what that says."""
    for _ in range(2400):
        if (directory / "study.journal").exists():
            found = there(trials_of(directory))
            if found:
                return found
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing came of it")


def test_a_search_that_is_killed_loses_nothing_but_what_was_under_way(tmp_path):
    directory = tmp_path / "it"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(str(directory))],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )

    def enough(trials):
        states = [trial.state.name for trial in trials.values()]
        under_way = [t for t in trials.values() if t.state.name == "RUNNING"]
        reported = any(t.intermediate_values for t in under_way)
        return reported and states.count("COMPLETE") >= 2

    try:
        wait_for(directory, enough, process)
    finally:
        process.kill()
        process.communicate()
    before = trials_of(directory)
    done = {n: t for n, t in before.items() if t.state.is_finished()}
    running = [t for t in before.values() if t.state.name == "RUNNING"]
    assert running
    result = play(
        directory=directory, pruner="none", report_every=1, confirm=0, slots=2
    )
    after = trials_of(directory)
    assert sorted(after) == list(range(len(after)))  # no number twice
    assert len(result.trials) == 12
    for number, trial in done.items():
        assert (after[number].value, after[number].params) == (
            trial.value,
            trial.params,
        )
    for trial in running:
        assert after[trial.number].state.name == "FAIL"
        (again,) = (
            t for t in after.values() if t.user_attrs.get("key_of") == trial.number
        )
        assert again.state.is_finished()
        # the kill may have come before all of them were drawn
        assert trial.params.items() <= again.params.items()
        for step, value in trial.intermediate_values.items():  # with the same key
            assert np.isclose(again.intermediate_values[step], value, atol=1e-6)


def test_two_workers_share_a_search_and_one_is_killed(tmp_path):
    """Its trial is taken over; the one that is left plays the rest."""
    directory, killed = tmp_path / "it", []

    def kill():
        def owner(trials):
            for trial in trials.values():
                if trial.state.name == "RUNNING" and trial.intermediate_values:
                    return trial.number, trial.user_attrs["worker"]
            return None

        number, name = wait_for(directory, owner)
        os.kill(int(name.split("/")[1]), signal.SIGKILL)
        killed.append(number)

    threading.Thread(target=kill, daemon=True).start()
    result = search(
        "CartPole-v1",
        {"learning_rate": ("log_float", 1e-4, 1e-2)},
        5,
        20,
        confirm=1,
        repeats=2,
        pruner="none",
        directory=directory,
        workers=2,
        report_every=1,
        progress=False,
        **TINY,
    )
    assert [trial.state for trial in result.trials] == ["COMPLETE"] * 5
    assert len(result.best.confirmed) == 2 and result.score == np.mean(
        result.best.confirmed
    )
    after = trials_of(directory)
    assert sorted(after) == list(range(6))  # one is there again
    assert after[killed[0]].state.name == "FAIL"
    roots = [t.user_attrs.get("key_of") for t in after.values()]
    assert [root for root in roots if root is not None] == killed
    owners = {t.user_attrs["worker"] for t in after.values()}
    assert len(owners) == 2
    # whoever joins when all is over has nothing to do
    late = join_search(directory, progress=False)
    assert late.trials == result.trials
