"""Playing a run: dispatches, what is told and saved between them, and how it ends."""

import copy
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.callbacks.base import Hooks, RunInfo
from optix.callbacks.console import Console
from optix.callbacks.curve import CurvePlot
from optix.callbacks.hyperparams import HyperparamsPlot
from optix.callbacks.jsonl import JsonlLog
from optix.callbacks.members import MembersLog
from optix.callbacks.terminal import say
from optix.checkpoints.registry import CheckpointError
from optix.distributed.mesh import agreed
from optix.population.state import PopulationState
from optix.run.batch import Batch, alike
from optix.run.ending import keep
from optix.run.folder import RunFolder
from optix.run.pace import Pace
from optix.run.pause import Watch
from optix.run.programs import Programs, own_errors, rows
from optix.run.result import Result, best_seed
from optix.types import Loop, LoopState, StopReason


class Session(NamedTuple):
    """A run that is being played: what stays the same meanwhile."""

    loop: Loop
    programs: Programs
    folder: RunFolder | None
    watch: Watch
    config: Mapping[str, Any]  # as in run.json

    @property
    def drop_stopped(self) -> bool | None:
        """Whether seeds that have stopped leave a vmapped batch; see `train`."""
        return self.config.get("drop_stopped")

    def play(
        self,
        state: LoopState,
        title: str,
        callbacks: Iterable[Any],
        checkpoint_seconds: float,
        memory_every: int,
        progress: bool,
    ) -> Result:
        """Play until all seeds have stopped, or until something pauses the run."""
        began = time.monotonic()
        centres = self._centres(state)
        hooks = self._hooks(state, title, callbacks, progress, centres)
        checkpoints = _Checkpoints(self, checkpoint_seconds, memory_every)
        try:
            hooks.start(self._info(state, centres))
            checkpoints.save(state, must=True)
            state, speed = self._advance(state, hooks, checkpoints)
            checkpoints.save_last(state)
            paused = self.watch.reason if np.asarray(state.active).any() else None
            if paused is None:
                with own_errors(self.loop):
                    state = jax.block_until_ready(self.programs.finish(state))
            result = Result(
                state=state,
                scores=np.asarray(state.best.score),
                stop_reasons=tuple(StopReason(int(r)) for r in state.stop_reason),
                best_seed=best_seed(state),
                paused=paused,
                seconds=time.monotonic() - began,
                steps_per_second=speed,
                directory=None if self.folder is None else self.folder.path,
                continue_with=self.watch.continue_with,
            )
            if paused is None and self.folder is not None:
                keep(self.folder, self.loop, result)
        finally:
            hooks.stop()
            # actors, which need not outlive the session
            if callable(rest := getattr(self.loop.learner.host, "rest", None)):
                rest()
        if paused is not None:
            say(result.message, sys.stderr)
        return result

    def _advance(
        self, state: LoopState, hooks: Hooks, checkpoints: "_Checkpoints"
    ) -> tuple[LoopState, float]:
        """Dispatch rounds; return the state and the environment steps per second."""
        host = self.loop.learner.host
        pace = Pace(exact=self.drop_stopped is None)
        batch = Batch(state, np.arange(len(state.round)))
        while batch.running.any() and not self._leaves(pace):
            batch, share = self._fitting(batch, pace)
            state, steps_before = batch.state, _steps(batch.state)
            clock = time.monotonic()
            try:
                with own_errors(self.loop):
                    after, *outcome = self.programs.advance(state, np.int32(pace.count))
                    reports, rounds = jax.device_get(outcome)
            except Exception:
                # a large replay was donated, and with it the state
                if host is not None and not state.round.is_deleted():
                    checkpoints.rescue(state)
                raise
            state, elapsed = after, time.monotonic() - clock
            if host is not None:
                host.keep(state)
            batch = batch._replace(state=state)
            try:
                hooks.rounds(rows(reports, rounds, batch.seeds))
            except SystemExit:  # a callback's wish to leave
                checkpoints.rescue(batch.on_host())
                raise
            pace.took(elapsed, _steps(state) - steps_before, share)
            if checkpoints.due():
                checkpoints.save(batch.on_host())
        return batch.whole(), pace.steps_per_second

    def _leaves(self, pace: Pace) -> bool:
        """Return whether to pause; a clock that is short leaves time for one dispatch."""
        asked = self.watch.reason if pace.dispatches else self.watch.asked
        return asked is not None

    def _fitting(self, batch: Batch, pace: Pace) -> tuple[Batch, float]:
        """Return the batch to play, and the share of its seeds that could be dropped."""
        if not self.programs.shrinks or self.drop_stopped is False:
            return batch, 0.0
        size = batch.smaller()
        share = 1 - size / len(batch.seeds)
        if not pace.pays(share, batch.rounds_left()):
            return batch, share
        small, seconds = batch.cut(size), None
        if self.drop_stopped is None:  # only where it makes no difference
            clock = time.monotonic()
            batch, small, same = alike(batch, small, self.programs.advance)
            seconds = time.monotonic() - clock
            if not same:
                pace.refuse()
                return batch, share
        pace.cut(share, seconds)
        return small, 0.0

    def _hooks(
        self,
        state: LoopState,
        title: str,
        callbacks: Iterable[Any],
        progress: bool,
        centres: list[dict[str, float]],
    ) -> Hooks:
        observers = list(callbacks)
        if self.folder is not None:
            rounds = np.asarray(state.round).tolist()
            logs: list[Any] = [JsonlLog(self.folder.log, rounds)]
            if isinstance(state, PopulationState):
                logs.append(MembersLog(self.folder.members, rounds))
            curve = CurvePlot(self.folder.log, self.folder.curve, title)
            hyperparams = HyperparamsPlot(
                self.folder.log, self.folder.hyperparams, title, self.loop.tuner.bounds
            )
            observers = [*logs, *observers, curve, hyperparams]
        if progress:
            observers.append(Console(state, title))
        return Hooks(observers, centres)

    def _centres(self, state: LoopState) -> list[dict[str, float]]:
        """Return the hyperparameters of each seed's centre."""
        centres = jax.device_get(jax.vmap(self.loop.tuner.centre)(state.tuner))
        return [
            {name: float(values[seed]) for name, values in centres.items()}
            for seed in range(len(state.round))
        ]

    def _info(self, state: LoopState, centres: list[dict[str, float]]) -> RunInfo:
        rounds = tuple(np.asarray(state.round).tolist())
        recipe = self.config["recipe"] or {}
        return RunInfo(
            environment=self.config["environment"],
            agent=recipe.get("agent"),
            seeds=len(rounds),
            seed=self.config["seed"],
            directory=None if self.folder is None else self.folder.path,
            config=copy.deepcopy(dict(self.config)),
            resumed_from=rounds if any(rounds) else None,
            hyperparams=tuple(dict(centre) for centre in centres),
            env_steps=tuple(np.asarray(state.env_steps).tolist()),
        )


def _steps(state: LoopState) -> int:
    return int(np.asarray(state.env_steps).sum())


class _Checkpoints:
    """Saves a state when it is due and not yet saved."""

    def __init__(self, session: Session, seconds: float, memory_every: int):
        self._memory_every = memory_every
        self._without_memory = 0  # checkpoints since the last one with it
        folder = session.folder
        self._folder, self._loop, self._seconds = folder, session.loop, seconds
        self._checksums = session.programs.checksums
        steps = [] if folder is None else folder.states.steps()
        self._saved = steps[-1] if steps else None
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def save_last(self, state: LoopState) -> None:
        """Save what a session ends with; a failure is a warning, for it has a result."""
        try:
            self.save(state, must=True)
        except CheckpointError as error:
            warnings.warn(
                f"{error}; the run can be resumed from the checkpoint before only",
                stacklevel=2,
            )

    def rescue(self, state: LoopState) -> None:
        """Save before an exception goes on, which nothing here may take the place of."""
        try:
            self.save(state, must=True)
        except Exception as error:
            rounds = int(np.asarray(state.round).sum()) - (self._saved or 0)
            if self._folder is not None:
                warnings.warn(
                    f"{rounds} rounds since the last checkpoint were not saved: {error}",
                    stacklevel=2,
                )

    def save(self, state: LoopState, must: bool = False) -> None:
        """Save; unless it `must` succeed, a failure is a warning and tried again.

        What must be saved is where a session begins or ends, and holds the memory.

        Raises:
            DevicesDifferError: devices that play one run have come apart, folder or not.
        """
        checksums = None if self._checksums is None else agreed(self._checksums(state))
        step = int(np.asarray(state.round).sum())
        complete = not (must and self._without_memory)
        if self._folder is None or (step == self._saved and complete):
            return
        start = time.monotonic()
        missing = self._without_memory + 1
        memory = (
            must
            or missing >= self._memory_every
            or not jax.tree.leaves(state.learner.memory)
        )
        try:
            self._folder.save(state, self._loop, best_seed(state), memory, checksums)
            self._saved = step
            self._without_memory = 0 if memory else missing
        except CheckpointError as error:
            if must:
                raise
            warnings.warn(f"{error}; the run goes on", stacklevel=2)
        now = time.monotonic()
        # large states: saving takes at most a tenth of the time, unless asked for more
        self._next = now + max(self._seconds, 9 * (now - start) * (self._seconds > 0))
