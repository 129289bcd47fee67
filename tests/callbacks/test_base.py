"""The order of the hooks, and that no exception in one ends a run."""

import inspect

import numpy as np
import pytest

from optix.callbacks.base import HOOKS, Hooks, LoopCallback
from optix.types import Event
from tests.callbacks.reports import report


class Recorder:
    """Not a LoopCallback: anything with some of the hooks will do."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, *args))


def test_the_eight_hooks_and_their_arguments():
    signatures = {
        name: list(inspect.signature(getattr(LoopCallback, name)).parameters)[1:]
        for name in HOOKS
    }
    assert signatures == {
        "on_loop_start": [],
        "on_loop_stop": [],
        "on_episode_end": ["episode_id", "eval_metrics"],
        "on_improvement": ["snapshot"],
        "on_plateau": ["episode_id", "state"],
        "on_dormant": ["episode_id"],
        "on_degradation": ["episode_id", "eval_metrics"],
        "on_hyperparam_update": ["old", "new"],
    }


def test_a_round_with_every_event_calls_the_hooks_in_order():
    recorder = Recorder()
    hooks = Hooks([recorder], [{"rate": 0.5}, {"rate": 0.25}])
    events = (
        Event.IMPROVEMENT
        | Event.PLATEAU
        | Event.DORMANT
        | Event.DEGRADATION
        | Event.HYPERPARAMS
    )
    hooks.start()
    hooks.round(1, report(7, 3.5, events, rate=0.125, loss=2.0))
    hooks.round(1, report(8, 3.0, Event.HYPERPARAMS, rate=1.0))
    hooks.round(0, report(9, 2.0))
    hooks.stop()
    names = [name for name, *_ in recorder.calls]
    assert names == [
        "on_loop_start",
        "on_improvement",
        "on_plateau",
        "on_dormant",
        "on_degradation",
        "on_hyperparam_update",
        "on_episode_end",
        "on_hyperparam_update",
        "on_episode_end",
        "on_episode_end",
        "on_loop_stop",
    ]
    _, improvement, plateau, dormant, degradation, update, end, second, *_ = (
        recorder.calls
    )
    evaluated = end[2]
    assert evaluated.primary_score == 3.5 and evaluated.metrics == {"loss": 2.0}
    assert (evaluated.episode_id, evaluated.seed) == (7, 1)
    assert improvement[1].hyperparams == {"rate": 0.25}  # not the centre after it
    assert improvement[1].eval_metrics == evaluated
    assert plateau[1:] == (7, "COOLING") and dormant[1:] == (7,)
    assert degradation[1:] == (7, evaluated)
    assert update[1:] == ({"rate": 0.25}, {"rate": 0.125})
    assert second[1:] == ({"rate": 0.125}, {"rate": 1.0})


def test_an_exception_is_reported_once_with_its_traceback(caplog):
    class Broken(LoopCallback):
        calls = 0

        def on_episode_end(self, episode_id, eval_metrics):
            self.calls += 1
            raise RuntimeError("the disk of the callback is full")

    broken, recorder = Broken(), Recorder()
    hooks = Hooks([broken, recorder], [{"rate": 0.1}])
    for round_ in range(3):
        hooks.round(0, report(round_))
    assert broken.calls == 3
    assert [name for name, *_ in recorder.calls] == ["on_episode_end"] * 3
    (record,) = caplog.records
    assert "Broken.on_episode_end raised" in record.message
    assert "the disk of the callback is full" in record.exc_text
    assert "test_base.py" in record.exc_text
    hooks.stop()
    assert (
        caplog.records[-1].message == "Broken.on_episode_end raised 3 times in this run"
    )


def test_an_interrupt_is_not_an_exception_of_a_callback():
    class Interrupted(LoopCallback):
        def on_loop_start(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Hooks([Interrupted()], []).start()


def test_a_hook_that_no_run_calls_is_refused():
    class Misspelt(LoopCallback):
        def on_episode_ended(self, episode_id, eval_metrics):
            pass

    with pytest.raises(
        ValueError, match="on_episode_ended.*did you mean 'on_episode_end'"
    ):
        Hooks([Misspelt()], [])


def test_a_score_that_is_not_finite_is_passed_on():
    recorder = Recorder()
    Hooks([recorder], [{"rate": 0.1}]).round(0, report(0, np.nan))
    assert np.isnan(recorder.calls[0][2].primary_score)
