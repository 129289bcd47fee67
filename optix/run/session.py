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
from optix.callbacks.terminal import say
from optix.checkpoints.registry import CheckpointError
from optix.distributed.mesh import agreed
from optix.distributed.peers import ALONE, Peers
from optix.run.batch import Batch, alike
from optix.run.ending import keep
from optix.run.folder import RunFolder, without_memory
from optix.run.pace import Pace
from optix.run.pause import Watch
from optix.run.programs import Programs, own_errors, rows
from optix.run.result import Result, best_seed
from optix.types import Loop, LoopState, StopReason


class Session(NamedTuple):
    """A run that is being played: what stays the same meanwhile."""

    loop: Loop
    programs: Programs
    folder: RunFolder | None  # of several processes, the first one's
    watch: Watch
    config: Mapping[str, Any]  # as in run.json
    peers: Peers = ALONE

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
        """Play until all seeds have stopped, or until something pauses the run.

        Of several processes the first one tells, writes and decides.
        """
        began = time.monotonic()
        if not self.peers.leads:
            callbacks, progress = (), False
        view = self.peers.on_host(_without_learner(state))
        centres = self._centres(view)
        hooks = self._hooks(view, title, callbacks, progress, centres)
        checkpoints = _Checkpoints(self, checkpoint_seconds, memory_every)
        try:
            hooks.start(self._info(view, centres))
            checkpoints.save(state, must=True)
            state, speed, paused = self._advance(state, hooks, checkpoints)
            checkpoints.save_last(state)
            if paused is None:
                with own_errors(self.loop):
                    state = jax.block_until_ready(self.programs.finish(state))
            state = self.peers.on_host(state)
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
        self.peers.meet()  # the first may write and draw for longer than the others
        if paused is not None and self.peers.leads:
            say(result.message, sys.stderr)
        return result

    def _advance(
        self, state: LoopState, hooks: Hooks, checkpoints: "_Checkpoints"
    ) -> tuple[LoopState, float, str | None]:
        """Dispatch rounds; return the state, steps per second and why it was paused."""
        host, reason = self.loop.learner.host, None
        pace = Pace(exact=self.drop_stopped is None)
        batch = Batch(state, np.arange(len(state.round)))
        steps, running = self._standing(state)
        while running and (reason := self._asked(pace)) is None:
            batch, share = self._fitting(batch, pace)
            state, steps_before = batch.state, steps
            count = self.peers.first(pace.count)
            clock = time.monotonic()
            try:
                with own_errors(self.loop):
                    after, *outcome = self.programs.advance(state, np.int32(count))
                    reports, rounds = jax.device_get(self.peers.on_host(outcome))
            except Exception:
                # a large replay was donated, and with it the state
                if host is not None and not state.round.is_deleted():
                    checkpoints.rescue(state)
                raise
            state, elapsed = after, time.monotonic() - clock
            if host is not None:
                host.keep(state)
            batch = batch._replace(state=state)
            leaves = None
            try:
                hooks.rounds(rows(reports, rounds, batch.seeds))
            except SystemExit as error:  # a callback's wish to leave
                leaves = error
            due, code = self.peers.first((checkpoints.due(), _code(leaves)))
            if code is not None:
                checkpoints.rescue(batch.on_host())
                raise leaves or SystemExit(code)
            steps, running = self._standing(state)
            pace.took(elapsed, steps - steps_before, share)
            if due:
                checkpoints.save(batch.on_host())
        return batch.whole(), pace.steps_per_second, reason

    def _asked(self, pace: Pace) -> str | None:
        """Return why any process is to pause; a short clock leaves time for a dispatch."""
        asked = self.watch.reason if pace.dispatches else self.watch.asked
        reasons = self.peers.all(asked)
        return next((reason for reason in reasons if reason is not None), None)

    def _standing(self, state: LoopState) -> tuple[int, bool]:
        """Return the environment steps of all seeds, and whether one goes on."""
        told = self.peers.on_host((state.env_steps, state.stop_reason))
        steps, reasons = (np.asarray(x) for x in told)
        return int(steps.sum()), bool((reasons == StopReason.RUNNING).any())

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
            logs = self.folder.logs(state, rounds)
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
        seeds = len(state.round)  # hyperparameters may be none
        centres = jax.vmap(self.loop.tuner.centre, axis_size=seeds)(state.tuner)
        centres = jax.device_get(centres)
        return [
            {name: float(values[seed]) for name, values in centres.items()}
            for seed in range(seeds)
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
            actors=getattr(self.loop.learner.host, "told", None),
        )


def _code(leaves: SystemExit | None) -> int | None:
    """Return the exit code of a wish to leave."""
    if leaves is None:
        return None
    return leaves.code if isinstance(leaves.code, int) else int(leaves.code is not None)


def _without_learner(state: LoopState) -> LoopState:
    """Return the state without what is large and never told."""
    return state._replace(learner=())  # type: ignore[arg-type]


class _Checkpoints:
    """Saves a state when it is due and not yet saved."""

    def __init__(self, session: Session, seconds: float, memory_every: int):
        self._memory_every = memory_every
        self._without_memory = 0  # checkpoints since the last one with it
        folder = session.folder
        self._peers = session.peers
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
            if not self._peers.leads:
                return
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
            CheckpointError: what must be saved can not be written, in all processes.
        """
        peers, checksums = self._peers, None
        if self._checksums is not None:
            checksums = agreed(peers.on_host(self._checksums(state)))
        step = int(np.asarray(peers.on_host(state.round)).sum())
        complete = not (must and self._without_memory)
        missing = self._without_memory + 1
        memory = (
            must
            or missing >= self._memory_every
            or not jax.tree.leaves(state.learner.memory)
        )
        needless = self._folder is None or (step == self._saved and complete)
        needless, memory = peers.first((needless, memory))
        if needless:
            return
        start = time.monotonic()
        whole = peers.on_host(state if memory else without_memory(state))

        def write():
            assert self._folder is not None
            leader = best_seed(whole)
            self._folder.save(whole, self._loop, leader, memory, checksums)
            self._saved = step
            self._without_memory = 0 if memory else missing

        try:
            peers.on_first(write, CheckpointError)
        except CheckpointError as error:
            if must:
                raise
            if peers.leads:
                warnings.warn(f"{error}; the run goes on", stacklevel=2)
        now = time.monotonic()
        # large states: saving takes at most a tenth of the time, unless asked for more
        self._next = now + max(self._seconds, 9 * (now - start) * (self._seconds > 0))
