"""Playing a run: dispatches, what is told and saved between them, and how it ends."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.callbacks.base import Hooks
from optix.callbacks.console import Console
from optix.callbacks.curve import CurvePlot
from optix.callbacks.jsonl import JsonlLog
from optix.checkpoints.registry import CheckpointError
from optix.run.ending import keep
from optix.run.folder import RunFolder
from optix.run.programs import Pause, Programs, next_count, own_errors, rows
from optix.run.result import Result, best_seed
from optix.types import Loop, LoopState, StopReason


class Session(NamedTuple):
    """A run that is being played: what stays the same meanwhile."""

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
        memory_every: int,
        progress: bool,
    ) -> Result:
        """Play until all seeds have stopped, or until something pauses the run."""
        began = time.monotonic()
        hooks = self._hooks(state, title, callbacks, progress)
        checkpoints = _Checkpoints(
            self.folder, self.loop, checkpoint_seconds, memory_every
        )
        hooks.start()
        try:
            checkpoints.save(state, must=True)
            state, speed = self._advance(state, hooks, checkpoints)
            checkpoints.save_last(state)
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
            with contextlib.suppress(OSError):  # after SIGHUP nobody may be there
                print(result.message, file=sys.stderr)
        elif self.folder is not None:
            keep(self.folder, self.loop, result)
        return result

    def _advance(
        self, state: LoopState, hooks: Hooks, checkpoints: "_Checkpoints"
    ) -> tuple[LoopState, float]:
        """Dispatch rounds; return the state and the environment steps per second."""
        host = self.loop.learner.host
        count, compiled, seconds, steps = 1, False, 0.0, 0
        while np.asarray(state.active).any() and not self._pauses(compiled):
            clock, steps_before = time.monotonic(), np.asarray(state.env_steps).sum()
            try:
                with own_errors(self.loop):
                    after, *outcome = self.programs.advance(state, np.int32(count))
                    reports, rounds = jax.device_get(outcome)
            except Exception:
                if host is not None:  # else the state was donated
                    checkpoints.save_last(state)
                raise
            state, elapsed = after, time.monotonic() - clock
            if host is not None:
                host.keep(state)
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

    def _pauses(self, compiled: bool) -> bool:
        """Return whether to leave; not before a round because compiling took long."""
        reason = self.pause.reason
        return reason is not None and (compiled or reason != "max_seconds")

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

    def __init__(
        self, folder: RunFolder | None, loop: Loop, seconds: float, memory_every: int
    ):
        self._memory_every = memory_every
        self._without_memory = 0  # checkpoints since the last one with it
        self._folder, self._loop, self._seconds = folder, loop, seconds
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

    def save(self, state: LoopState, must: bool = False) -> None:
        """Save; unless it `must` succeed, a failure is a warning and tried again.

        What must be saved is where a session begins or ends, and holds the memory.
        """
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
            self._folder.save(state, self._loop, best_seed(state), memory)
            self._saved = step
            self._without_memory = 0 if memory else missing
        except CheckpointError as error:
            if must:
                raise
            warnings.warn(f"{error}; the run goes on", stacklevel=2)
        now = time.monotonic()
        # large states: saving takes at most a tenth of the time, unless asked for more
        self._next = now + max(self._seconds, 9 * (now - start) * (self._seconds > 0))
