"""The hooks that a run offers to observers on the host.

They are driven from the reports of rounds that are already over, between two dispatches
to the device, so nothing in a callback can change the run or slow a round down.
"""

import contextlib
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.types import Event, StepReport

_LOGGER = logging.getLogger("optix.callbacks")


class EvalMetrics(NamedTuple):
    """What one round of one seed came to."""

    primary_score: float
    metrics: dict[str, float]
    episode_id: int  # the round, from 0
    seed: int  # its place among the seeds of the run, from 0
    report: StepReport | None  # everything else, as NumPy scalars; None where only the
    # log knows the round

    @property
    def generalization_gap(self) -> float:
        """How much better the episodes of training were than those of the score."""
        return self.metrics.get("return", math.nan) - self.primary_score


class PolicySnapshot(NamedTuple):
    """A new best policy; `optix.train` keeps its arrays in the folder `best`."""

    eval_metrics: EvalMetrics
    hyperparams: dict[str, float]  # those of the tuner's centre, never a probe's
    weights_path: Path | None = None  # what `load_weights` of the agent reads; None
    # until a run of `RLOptimizer` is over


class RunInfo(NamedTuple):
    """What is about to run, for `on_loop_start`."""

    environment: str | None  # its name, None if the run was made from objects
    agent: str | None  # likewise
    seeds: int  # side by side
    seed: int  # of the random numbers
    directory: Path | None  # of the run, None if nothing is kept
    config: dict[str, Any]  # as in run.json: the recipe with all options, the platform
    resumed_from: tuple[int, ...] | None  # rounds behind each seed; None at a beginning
    hyperparams: tuple[dict[str, float], ...]  # per seed, those of the tuner's centre
    env_steps: tuple[int, ...] = ()  # behind each seed
    # how actors do, {name: [actors]}; None where there are none
    actors: Callable[[], dict[str, np.ndarray]] | None = None


@dataclass(frozen=True)
class Rounds:
    """N rounds of several seeds that are over: round by round, in each seed by seed.

    Iterating gives pairs (seed, StepReport of NumPy scalars).
    """

    seeds: np.ndarray  # [N] int, the places of the seeds in the run
    reports: StepReport  # NumPy arrays [N, ...]

    def __len__(self) -> int:
        """Return N."""
        return len(self.seeds)

    def __iter__(self) -> Iterator[tuple[int, StepReport]]:
        """Yield one round after the other."""
        leaves, tree = jax.tree.flatten(self.reports)
        for seed, *values in zip(self.seeds.tolist(), *leaves, strict=True):
            yield seed, jax.tree.unflatten(tree, values)


class LoopCallback:
    """Observer of a run: override the hooks you need.

    In a round they come in the order improvement, plateau, dormant, degradation,
    hyperparameters, end of the episode. An "episode" of the hooks is a round of the
    loop. `on_loop_start` may take one argument, the `RunInfo`.

    A hook that raises an Exception is logged by its name with the traceback, once, its
    further errors are counted, and the run goes on. SystemExit, as of `sys.exit()`,
    saves the run and leaves; KeyboardInterrupt leaves at once, as a second Ctrl-C does.

    With hundreds of seeds the objects made for every round cost more than the rounds. A
    callback with a method `on_rounds(rounds)`, which takes the `Rounds` of a whole
    dispatch as arrays, and none of the hooks of a round costs nearly nothing.

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
_BATCH = "on_rounds"


def checked(callbacks: Iterable[Any]) -> list[Any]:
    """Return the callbacks as a list.

    Raises:
        ValueError: they are no iterable of objects, or an object has an `on_...` that
            no run ever calls or that can not be called.
    """
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str | bytes):
        raise checks.OptionError(
            "callbacks must be an iterable of callbacks, such as a list, got one "
            f"{_name(callbacks)}"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        if isinstance(callback, type):
            raise checks.OptionError(
                f"callbacks must be objects, got the class {callback.__name__}; pass "
                f"{callback.__name__}()"
            )
        methods = [name for name in dir(callback) if name.startswith("on_")]
        checks.known_names(f"hook of {_name(callback)}", methods, (*HOOKS, _BATCH))
        if not any(hasattr(callback, name) for name in (*HOOKS, _BATCH)):
            raise checks.OptionError(
                f"callbacks must have one of the hooks {', '.join(HOOKS)}, got "
                f"{callback!r}; derive it from optix.LoopCallback"
            )
        for name in methods:
            if not callable(getattr(callback, name)):
                raise checks.OptionError(
                    f"{_name(callback)}.{name} must be a method, got "
                    f"{getattr(callback, name)!r}"
                )
    return callbacks


class Hooks:
    """Calls the hooks of several callbacks and survives their exceptions.

    Args:
        callbacks: called in this order.
        centres: per seed, the tuner's centre before the first round.

    Raises:
        ValueError: as of `checked`.
    """

    def __init__(
        self, callbacks: Iterable[Any], centres: Sequence[Mapping[str, float]]
    ):
        """See the class."""
        callbacks = checked(callbacks)
        self._methods = {
            hook: [(_name(c), own) for c in callbacks if (own := _own(c, hook))]
            for hook in (*HOOKS, _BATCH)
        }
        ends = ("on_loop_start", "on_loop_stop", _BATCH)
        self._each = any(
            methods for hook, methods in self._methods.items() if hook not in ends
        )
        self._centres = [dict(centre) for centre in centres]
        self._failures: Counter[tuple[str, str]] = Counter()

    def start(self, info: RunInfo | None = None) -> None:
        """Tell that the run begins; who takes an argument is given the `info`."""
        hook = "on_loop_start"
        for name, method in self._methods[hook]:
            self._guarded(name, hook, method, *([info] if _takes_one(method) else []))

    def stop(self) -> None:
        """Tell that the run ends or pauses, and how often which hook has failed."""
        hook = "on_loop_stop"
        with contextlib.ExitStack() as all_of_them:  # whatever one of them raises
            all_of_them.callback(self._tell_failures)
            for name, method in reversed(self._methods[hook]):
                all_of_them.callback(self._guarded, name, hook, method)

    def _tell_failures(self) -> None:
        for (name, hook), count in self._failures.items():
            if count > 1:
                _LOGGER.error("%s.%s raised %d times in this run", name, hook, count)

    def rounds(self, rounds: Rounds) -> None:
        """Tell of the rounds of a dispatch."""
        if len(rounds):
            self._call(_BATCH, rounds)
            if self._each:  # objects are made for those only who want them
                for seed, report in rounds:
                    self._round(seed, report)

    def round(self, seed: int, report: StepReport) -> None:
        """Tell of one round of one seed."""
        self.rounds(
            Rounds(
                np.array([seed]), jax.tree.map(lambda x: np.asarray(x)[None], report)
            )
        )

    def _round(self, seed: int, report: StepReport) -> None:
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
        for name, method in self._methods[hook]:
            self._guarded(name, hook, method, *args)

    def _guarded(self, name: str, hook: str, method: Callable, *args: Any) -> None:
        try:
            method(*args)
        except Exception:
            self._failures[name, hook] += 1
            if self._failures[name, hook] == 1:
                _LOGGER.exception(
                    "%s.%s raised; the run goes on, and further errors of this hook "
                    "are only counted",
                    name,
                    hook,
                )


def _own(callback: Any, hook: str) -> Callable | None:
    """Return the hook that a callback has, None if it is that of `LoopCallback`."""
    method = getattr(callback, hook, None)
    inherited = getattr(method, "__func__", None) is vars(LoopCallback).get(hook, hook)
    return None if inherited else method


def _takes_one(method: Callable) -> bool:
    """Return whether a method can be called with one positional argument."""
    try:
        inspect.signature(method).bind(None)
    except (TypeError, ValueError):  # it takes none, or nobody knows
        return False
    return True


def _name(callback: Any) -> str:
    return type(callback).__name__


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
