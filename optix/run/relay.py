"""What `RLOptimizer` tells its callbacks, and what it sees of its run meanwhile."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from optix.callbacks.base import (
    EvalMetrics,
    Hooks,
    LoopCallback,
    PolicySnapshot,
    Rounds,
    RunInfo,
)
from optix.callbacks.terminal import say
from optix.run.score_function import ScoreFunction, validations
from optix.types import DIAGNOSES, Event, Phase


class Relay(LoopCallback):
    """Hands what it is told on to the callbacks.

    phase: where the run stands after the rounds told.
    best: the best policy so far, None before there is one.
    """

    def __init__(
        self,
        callbacks: Iterable[Any],
        judge: Any,
        temporary: bool,
        phase: Phase,
        begins: Callable[[], None],
    ):
        """Relay to `callbacks`; of a `temporary` folder they are told nothing."""
        self._begins = begins
        self._callbacks, self._temporary = list(callbacks), temporary
        self._judge = judge if isinstance(judge, ScoreFunction) else None
        self._hooks: Hooks | None = None
        self.phase = phase
        self.best: PolicySnapshot | None = None

    def on_loop_start(self, info: RunInfo) -> None:  # type: ignore[override]
        """Tell that the run begins."""
        self._begins()
        if self._temporary:
            info = info._replace(directory=None)
        if self._judge is not None:
            self._judge.told.clear()
        self._hooks = Hooks([_Best(self), *self._callbacks], info.hyperparams)
        self._hooks.start(info)

    def on_rounds(self, rounds: Rounds) -> None:
        """Tell of the rounds of a dispatch, with what a second validation came to."""
        assert self._hooks is not None
        reports = rounds.reports
        self.phase = standing(reports.phase[-1], reports.events[-1])
        if self._judge is not None and self._judge.validation is not None:
            came_to = validations(self._judge.told, np.asarray(reports.lane_scores))
            self._judge.told.clear()
            metrics = {**reports.metrics, "validation": np.asarray(came_to, np.float32)}
            rounds = Rounds(rounds.seeds, reports._replace(metrics=metrics))
        self._hooks.rounds(rounds)

    def on_loop_stop(self) -> None:
        """Tell that the run ends or pauses."""
        if self._hooks is not None:
            self._hooks.stop()


class _Best(LoopCallback):
    """Notes the best policy before anybody else is told of it."""

    def __init__(self, relay: Relay):
        self._relay = relay

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """Note it."""
        self._relay.best = snapshot


class Teller(LoopCallback):
    """Says in a line what happens in a run."""

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """Say the new best score."""
        metrics = snapshot.eval_metrics
        _say(metrics.episode_id, f"best score {metrics.primary_score:.5g}")

    def on_plateau(self, episode_id: int, state: str) -> None:
        """Say the phase."""
        _say(episode_id, state)

    def on_dormant(self, episode_id: int) -> None:
        """Say the phase."""
        _say(episode_id, "DORMANT")

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Say that the scores fall."""
        _say(episode_id, f"the scores fall, {eval_metrics.primary_score:.5g}")

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Say what diagnostics found."""
        report = eval_metrics.report
        events = Event.NONE if report is None else Event(int(report.events))
        for event, words in DIAGNOSES.items():
            if event in events:
                _say(episode_id, words)

    def on_hyperparam_update(
        self, old: dict[str, float], new: dict[str, float]
    ) -> None:
        """Say the new values."""
        moved = [f"{n} {v:.4g}" for n, v in new.items() if v != old[n]]
        say(f"hyperparameters: {', '.join(moved)}", sys.stdout)


def _say(episode_id: int, text: str) -> None:
    say(f"round {episode_id + 1}: {text}", sys.stdout)


def standing(phase: Any, events: Any) -> Phase:
    """Return the phase as users know it: what stopped since it is dormant, is DORMANT."""
    if Phase(int(phase)) is Phase.STOPPED and Event.DORMANT in Event(int(events)):
        return Phase.DORMANT
    return Phase(int(phase))
