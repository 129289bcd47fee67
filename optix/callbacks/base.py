"""The hooks that a run offers to observers on the host.

They are driven from the reports of rounds that are already over, between two dispatches
to the device, so nothing in a callback can change the run or slow a round down.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from optix import checks
from optix.types import Event, StepReport

_LOGGER = logging.getLogger("optix.callbacks")


class EvalMetrics(NamedTuple):
    """What one round of one seed came to."""

    primary_score: float
    metrics: dict[str, float]
    episode_id: int  # the round, from 0
    seed: int  # its place among the seeds of the run, from 0
    report: StepReport  # everything else, as NumPy scalars


class PolicySnapshot(NamedTuple):
    """A new best policy; `optix.train` keeps its arrays in the folder `best`."""

    eval_metrics: EvalMetrics
    hyperparams: dict[str, float]  # those of the tuner's centre, never a probe's


class LoopCallback:
    """Observer of a run: override the hooks you need.

    In a round they come in the order improvement, plateau, dormant, degradation,
    hyperparameters, end of the episode. An "episode" of the hooks is a round of the
    loop. An exception in a hook is logged with its traceback and the run goes on.

    Example:
        >>> class Print(LoopCallback):
        ...     def on_episode_end(self, episode_id, eval_metrics):
        ...         print(episode_id, eval_metrics.primary_score)
    """

    def on_loop_start(self) -> None:
        """Before the first round, or the first after a resume."""

    def on_loop_stop(self) -> None:
        """After the last round, also when the run is paused or fails."""

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """After every round of every seed, last of its hooks."""

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """After a round with a new best score."""

    def on_plateau(self, episode_id: int, state: str) -> None:
        """After a round that leaves the run COOLING; `state` is the phase's name."""

    def on_dormant(self, episode_id: int) -> None:
        """After a round that finds that learning no longer pays."""

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """After a round that finds that the scores fall consistently."""

    def on_hyperparam_update(
        self, old: dict[str, float], new: dict[str, float]
    ) -> None:
        """After a round that moved the tuner's centre."""


HOOKS = tuple(name for name in vars(LoopCallback) if name.startswith("on_"))


class Hooks:
    """Calls the hooks of several callbacks and survives their exceptions.

    Args:
        callbacks: called in this order.
        centres: per seed, the tuner's centre before the first round.

    Raises:
        ValueError: a callback has an `on_...` method that no run ever calls.
    """

    def __init__(
        self, callbacks: Iterable[Any], centres: Sequence[Mapping[str, float]]
    ):
        """See the class."""
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            methods = [name for name in dir(callback) if name.startswith("on_")]
            checks.known_names(f"hook of {_name(callback)}", methods, HOOKS)
        self._centres = [dict(centre) for centre in centres]
        self._failures: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Tell that the run begins."""
        self._call("on_loop_start")

    def stop(self) -> None:
        """Tell that the run ends or pauses, and how often which hook has failed."""
        self._call("on_loop_stop")
        for (name, hook), count in self._failures.items():
            if count > 1:
                _LOGGER.error("%s.%s raised %d times in this run", name, hook, count)

    def round(self, seed: int, report: StepReport) -> None:
        """Tell of one round of one seed."""
        episode = int(report.round)
        events = Event(int(report.events))
        evaluated = EvalMetrics(
            primary_score=float(report.score),
            metrics=_floats(report.metrics),
            episode_id=episode,
            seed=seed,
            report=report,
        )
        old, new = self._centres[seed], _floats(report.centre)
        self._centres[seed] = new
        if Event.IMPROVEMENT in events:
            self._call("on_improvement", PolicySnapshot(evaluated, old))
        if Event.PLATEAU in events:
            self._call("on_plateau", episode, "COOLING")
        if Event.DORMANT in events:
            self._call("on_dormant", episode)
        if Event.DEGRADATION in events:
            self._call("on_degradation", episode, evaluated)
        if Event.HYPERPARAMS in events:
            self._call("on_hyperparam_update", old, new)
        self._call("on_episode_end", episode, evaluated)

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, hook, _nothing)(*args)
            except Exception:
                place = (_name(callback), hook)
                self._failures[place] += 1
                if self._failures[place] == 1:
                    _LOGGER.exception(
                        "%s.%s raised; the run goes on, and further errors of this "
                        "hook are only counted",
                        *place,
                    )


def _nothing(*args: Any) -> None:
    """Stand in for a hook that a callback does not have."""


def _name(callback: Any) -> str:
    return type(callback).__name__


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
