"""Training from the host: `train` starts a run, `resume` continues it."""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.callbacks.base import Hooks
from optix.callbacks.console import Console
from optix.callbacks.jsonl import JsonlLog
from optix.callbacks.plot import CurvePlot
from optix.checkpoints.registry import CheckpointError
from optix.drive import (
    Pause,
    Programs,
    enable_compilation_cache,
    next_count,
    own_errors,
    programs,
    rows,
    vectorized,
    with_limits,
)
from optix.make import make
from optix.result import Result, best_seed
from optix.run_folder import RunFolder, RunFolderError
from optix.types import Loop, LoopState, StopReason


def train(
    environment_or_loop: Any,
    *,
    agent: str = "ppo",
    seeds: int = 1,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    callbacks: Iterable[Any] = (),
    max_seconds: float | None = None,
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
    vectorize: bool | None = None,
    **options: Any,
) -> Result:
    """Train until every seed has stopped by itself, and return what came of it.

    SIGINT (Ctrl-C), SIGTERM and `max_seconds` pause the run: it is saved and `resume`
    continues it bit for bit, as it does after a kill, from the last checkpoint.

    Args:
        environment_or_loop: what `optix.make` takes, or the `Loop` itself.
        agent: the algorithm, for `optix.make`.
        seeds: how many runs side by side; their results have a leading axis [seeds].
        seed: of the random numbers.
        directory: where the run is kept: checkpoints, the best policies, log and
            learning curve. None keeps nothing.
        callbacks: `LoopCallback`s, told of every round after it is over.
        max_seconds: wall clock after which the run is paused.
        checkpoint_seconds: time between two checkpoints, 0 for as often as possible.
        progress: show a progress bar.
        vectorize: map over the seeds all at once. None does so except on a CPU, where
            one after another is faster.
        **options: of `optix.make`: sizes, hyperparameters, budgets.

    Raises:
        ValueError: an option that is unknown or out of range.
        RunFolderError: the directory is in use, or holds a run or something else.

    Example:
        >>> small = dict(num_envs=4, num_steps=8, evaluation_episodes=2)
        >>> result = train("CartPole-v1", max_rounds=2, progress=False, **small)
        >>> result.message, result.scores.shape
        ('the budget of rounds is spent', (1,))
    """
    checks.positive_int("seeds", seeds)
    checks.positive_int("seed", seed, minimum=0)
    if isinstance(environment_or_loop, Loop):
        checks.known_names("option beside a loop", options, ())
        loop, recipe = environment_or_loop, None
    else:
        loop = make(environment_or_loop, agent, **options)
        recipe = _recipe(environment_or_loop, agent, options)
    enable_compilation_cache()
    config = {
        "environment": recipe and recipe["environment"],
        "recipe": recipe,
        "seeds": seeds,
        "seed": seed,
        "vectorize": vectorized(loop, vectorize),
        "budgets": {},
        "platform": _platform(),
    }
    with contextlib.ExitStack() as stack:
        pause = stack.enter_context(Pause(max_seconds))
        folder = None
        if directory is not None:
            folder = stack.enter_context(RunFolder.create(directory, config))
        run = _Run(loop, programs(loop, config["vectorize"]), folder, pause)
        state = run.programs.init(_keys(config))
        title = f"{recipe['environment']} {agent}" if recipe else "training"
        return run.play(state, title, callbacks, checkpoint_seconds, progress)


def resume(
    directory: str | os.PathLike,
    loop: Loop | None = None,
    *,
    callbacks: Iterable[Any] = (),
    max_seconds: float | None = None,
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
    **budgets: Any,
) -> Result:
    """Continue a run from its last checkpoint, bit for bit as if it had never paused.

    That holds for the same versions and devices; a warning tells when they differ.

    Args:
        directory: of the run.
        loop: the loop of the run, needed only if `train` was given one.
        callbacks: as for `train`.
        max_seconds: as for `train`.
        checkpoint_seconds: as for `train`.
        progress: as for `train`.
        **budgets: new values of max_rounds, max_env_steps and target_score. Seeds that
            had stopped for one of these go on if the new one allows it.

    Raises:
        RunFolderError: no run there, or one that is under way.
        CheckpointError: no intact checkpoint, or one of another configuration.
        ValueError: an unknown budget.
    """
    with contextlib.ExitStack() as stack:
        pause = stack.enter_context(Pause(max_seconds))
        folder = stack.enter_context(RunFolder.open(directory, write=True))
        config = folder.config
        loop = loop or rebuild(folder)
        enable_compilation_cache()
        _warn_of_differences(config["platform"])
        run = _Run(loop, programs(loop, config["vectorize"]), folder, pause)
        target = jax.eval_shape(run.programs.init, _keys(config))
        state = folder.load_state(target, loop)
        if state is None:  # killed before the first checkpoint
            state = run.programs.init(_keys(config))
        budgets = {**config["budgets"], **budgets}
        state = with_limits(state, budgets)
        folder.configure(budgets=budgets)  # a kill must not forget them
        title = f"{config['environment'] or 'training'}, resumed"
        return run.play(state, title, callbacks, checkpoint_seconds, progress)


def rebuild(folder: RunFolder, **changes: Any) -> Loop:
    """Return the loop of a run from what its folder says, with other options if given.

    Raises:
        RunFolderError: the run was not made by names and numbers alone.
    """
    recipe = folder.config["recipe"]
    if recipe is None:
        raise RunFolderError(
            f"{folder.path} can not be rebuilt by name: the run was made from objects; "
            "make the same loop again and pass it as loop="
        )
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recipe["options"].items()
    }
    return make(recipe["environment"], recipe["agent"], **{**options, **changes})


class _Run(NamedTuple):
    """What stays the same while a run is played."""

    loop: Loop
    programs: Programs
    folder: RunFolder | None
    pause: Pause

    def play(
        self,
        state: LoopState,
        title: str,
        callbacks: Iterable[Any],
        checkpoint_seconds: float,
        progress: bool,
    ) -> Result:
        """Play until all seeds have stopped, or until something pauses the run."""
        began = time.monotonic()
        hooks = self._hooks(state, title, callbacks, progress)
        checkpoints = _Checkpoints(self.folder, self.loop, checkpoint_seconds)
        hooks.start()
        try:
            checkpoints.save(state, must=True)
            state, speed = self._advance(state, hooks, checkpoints)
            checkpoints.save(state, must=True)
            paused = self.pause.reason if np.asarray(state.active).any() else None
            leader = best_seed(state)  # before it is scored again
            if paused is None:
                with own_errors(self.loop):
                    state = jax.block_until_ready(self.programs.finish(state))
        finally:
            hooks.stop()
        result = Result(
            state=state,
            scores=np.asarray(state.best.score),
            stop_reasons=tuple(StopReason(int(r)) for r in state.stop_reason),
            best_seed=leader,
            paused=paused,
            seconds=time.monotonic() - began,
            steps_per_second=speed,
            directory=None if self.folder is None else self.folder.path,
        )
        if paused is not None:
            print(result.message, file=sys.stderr)
        return result

    def _advance(
        self, state: LoopState, hooks: Hooks, checkpoints: "_Checkpoints"
    ) -> tuple[LoopState, float]:
        """Dispatch rounds; return the state and the environment steps per second."""
        host = self.loop.learner.host
        count, compiled, seconds, steps = 1, False, 0.0, 0
        while np.asarray(state.active).any() and self.pause.reason is None:
            clock, steps_before = time.monotonic(), np.asarray(state.env_steps).sum()
            try:
                with own_errors(self.loop):
                    after, *outcome = self.programs.advance(state, np.int32(count))
                    reports, rounds = jax.device_get(outcome)
            except Exception:
                if host is not None:  # else the state was donated
                    checkpoints.save(state, must=True)
                raise
            state, elapsed = after, time.monotonic() - clock
            if host is not None:
                host.retain(host.slots_in(state))
            for seed, report in rows(reports, rounds):
                hooks.round(seed, report)
            if compiled:
                count = next_count(count, elapsed)
                seconds += elapsed
                steps += int(np.asarray(state.env_steps).sum() - steps_before)
            compiled = True
            if checkpoints.due():
                checkpoints.save(state)
        return state, steps / seconds if seconds else 0.0

    def _hooks(
        self, state: LoopState, title: str, callbacks: Iterable[Any], progress: bool
    ) -> Hooks:
        observers = list(callbacks)
        if self.folder is not None:
            log = JsonlLog(self.folder.log, np.asarray(state.round).tolist())
            curve = CurvePlot(self.folder.log, self.folder.curve, title)
            observers = [log, *observers, curve]
        if progress:
            observers.append(Console(state, title))
        centres = jax.device_get(jax.vmap(self.loop.tuner.centre)(state.tuner))
        return Hooks(
            observers,
            [
                {name: float(values[seed]) for name, values in centres.items()}
                for seed in range(len(state.round))
            ],
        )


class _Checkpoints:
    """Saves a state when it is due and not yet saved."""

    def __init__(self, folder: RunFolder | None, loop: Loop, seconds: float):
        if not seconds >= 0:
            raise ValueError(f"checkpoint_seconds must be >= 0, got {seconds!r}")
        self._folder, self._loop, self._seconds = folder, loop, seconds
        steps = [] if folder is None else folder.states.steps()
        self._saved = steps[-1] if steps else None
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def save(self, state: LoopState, must: bool = False) -> None:
        """Save; unless it `must` succeed, a failure is a warning and tried again."""
        step = int(np.asarray(state.round).sum())
        if self._folder is None or step == self._saved:
            return
        start = time.monotonic()
        try:
            self._folder.save(state, self._loop, best_seed(state))
            self._saved = step
        except CheckpointError as error:
            if must:
                raise
            warnings.warn(f"{error}; the run goes on", stacklevel=2)
        now = time.monotonic()
        # large states: saving takes at most a tenth of the time, unless asked for more
        self._next = now + max(self._seconds, 9 * (now - start) * (self._seconds > 0))


def _keys(config: Mapping[str, Any]) -> jax.Array:
    return jax.random.split(jax.random.key(config["seed"]), config["seeds"])


def _recipe(
    environment: Any, agent: str, options: dict[str, Any]
) -> dict[str, Any] | None:
    """Return what rebuilds the loop, None if that takes more than names and numbers."""
    recipe = {"environment": environment, "agent": agent, "options": options}
    try:
        json.dumps(recipe, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return recipe


def _platform() -> dict[str, str]:
    try:
        version = metadata.version("tensor-optix-jax")
    except metadata.PackageNotFoundError:  # run from its source
        version = "source"
    return {
        "optix": version,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _warn_of_differences(then: Mapping[str, str]) -> None:
    for name, now in _platform().items():
        if then.get(name) != now:
            warnings.warn(
                f"the run began with {name} {then.get(name)} and goes on with {now}: "
                "not bit for bit as without the pause",
                stacklevel=3,
            )
