"""What actors are asked for, how old it may be when learned from, who is replaced."""

import collections
import functools
import itertools
import secrets
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.distributed.acting.actor import Rollout, fault
from optix.distributed.acting.engines import Engine, Failed
from optix.types import PyTree

_START = 120.0  # seconds that an actor may take more for its first answer
_WAITING = 2  # windows that are collected ahead, at most
_POLL = 0.2


class ActorsFailedError(RuntimeError):
    """Actors have failed more often than they may."""


class Stream(NamedTuple):
    """Whose experience goes on: the mark of a crew and a number there."""

    number: jax.Array  # [2] int32


class Settings(NamedTuple):
    """How a crew works; see `optix.distributed.acting.learner.actors`."""

    num_actors: int
    lockstep: int | None
    max_lag: int
    deadline: float
    max_restarts: int
    steps: int  # of an actor's part of a window
    name: str  # of the environment


class _Job(NamedTuple):
    actor: int
    stream: int  # 0 for an evaluation
    version: int
    since: float
    call: tuple[Any, ...]


class _Line:
    """A stream: what is under way and what is ready."""

    def __init__(self, seed: int):
        self.seed, self.version = seed, -1
        self.asked: collections.deque[int] = collections.deque()  # jobs, oldest first
        self.ready: dict[int, tuple[int, int, Any]] = {}  # job: actor, version, ...


class Crew:
    """Actors and their jobs: `Learner.host` of what they play for.

    Attributes:
      stats: {"lag", "dropped", "restarts", ...} per actor, [num_actors] each.
    """

    def __init__(
        self, start: Callable[[], Engine], settings: Settings, expected: Rollout
    ):
        """Start nothing yet."""
        self._begin_engine, self._settings, self._expected = start, settings, expected
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        self._mark = 1 + secrets.randbelow(2**31 - 2)
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._at: dict[int, int] = {}  # number in a state: line
        self._lines: dict[int, _Line] = {}
        self._jobs: dict[int, _Job] = {}
        self._scores: dict[int, Any] = {}
        count = settings.num_actors
        self._generations, self._heard = [0] * count, [0.0] * count
        self.error: BaseException | None = None
        self.stats = {
            name: np.zeros(count)
            for name in ("steps", "lag", "learned", "dropped", "restarts")
        }
        self._began = time.monotonic()

    def window(
        self, stream: Any, seed: int, shared: PyTree
    ) -> tuple[np.ndarray, Rollout]:
        """Return the stream to go on in, and the next window of it.

        Args:
          stream: [2], as the last window left it; any other begins fresh episodes.
          seed: of fresh episodes.
          shared: (policy, hyperparams) of NumPy arrays, the next version.
        """
        engine = self._started()
        mark, number = np.asarray(stream).tolist()
        name = self._at.pop(number, None) if mark == self._mark else None
        if name is None:
            name = next(self._names)
            self._lines[name] = _Line(seed)
        line = self._lines[name]
        line.version += 1
        handle = engine.share(shared)
        # asked for before the learner has learned from this window, and after it
        ahead = self._settings.lockstep
        self._fill(name, handle, _WAITING if ahead is None else max(ahead, 1))
        parts = self._in_order(name) if ahead is not None else self._as_they_come(name)
        while len(parts) < self._settings.num_actors:
            self._hear(name, handle)
            more = self._in_order if ahead is not None else self._as_they_come
            parts += more(name, self._settings.num_actors - len(parts))
        if ahead is None or ahead > 0:
            self._fill(name, handle, _WAITING if ahead is None else ahead)
        new = next(self._numbers)
        self._at[new] = name
        joined = jax.tree.map(lambda *x: np.concatenate(x, 1), *parts)
        return np.array([self._mark, new], np.int32), joined

    def evaluate(self, seed: int, episodes: int, shared: PyTree) -> float:
        """Return the mean return of whole episodes, played by all actors."""
        engine = self._started()
        handle = engine.share(shared)
        count = self._settings.num_actors
        shares = [episodes // count + (n < episodes % count) for n in range(count)]
        asked = {}
        for actor, share in enumerate(shares):
            if share:
                own = (seed + 10_007 * actor) % 2**30
                call = "evaluate", own, share, handle
                asked[actor] = self._ask(actor, 0, 0, call)
        while set(asked.values()) - set(self._scores):
            for old, new in self._hear(None, None).items():
                asked = {a: new if job == old else job for a, job in asked.items()}
        scores = [self._scores.pop(job) for job in asked.values()]
        return float(np.concatenate(scores).mean())

    def told(self) -> dict[str, np.ndarray]:
        """Return what each actor has done: {name: [num_actors]}."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        learned = np.maximum(self.stats["learned"], 1)
        return {
            "steps_per_second": self.stats["steps"] / seconds,
            "policy_lag": self.stats["lag"] / learned,
            "dropped": self.stats["dropped"],
            "restarts": self.stats["restarts"],
        }

    def guarded(self, function: Callable) -> Callable:
        """Return the function as a callback: one at a time, its exception kept."""

        @functools.wraps(function)
        def call(*arguments):
            with self._lock:
                try:
                    return function(*arguments)
                except BaseException as error:
                    self.error = error
                    self.rest()
                    raise

        return call

    def raise_if_failed(self) -> None:
        """Raise the exception of a callback itself, once."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def keep(self, state: PyTree) -> None:
        """Forget the streams that a state does not name."""
        leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Stream))
        named = [np.asarray(x.number) for x in leaves if isinstance(x, Stream)]
        rows = [row for array in named for row in array.reshape(-1, 2).tolist()]
        kept = {number for mark, number in rows if mark == self._mark}
        with self._lock:
            self._at = {n: name for n, name in self._at.items() if n in kept}
            for name in set(self._lines) - set(self._at.values()):
                del self._lines[name]  # what is under way for it is dropped as it comes

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return nothing: episodes can not be saved."""
        del tree
        return {}

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Do nothing: a stream that is resumed begins afresh."""

    def rest(self) -> None:
        """End the actors; whoever goes on starts others and begins fresh episodes."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._at, self._lines, self._jobs, self._scores = {}, {}, {}, {}
        if engine is not None:
            self._finalizer()

    def _started(self) -> Engine:
        if self._engine is None:
            self._engine = self._begin_engine()
            self._finalizer = weakref.finalize(self, self._engine.close)
            self._generations = [0] * self._settings.num_actors
            self._heard = [time.monotonic() + _START] * self._settings.num_actors
        return self._engine

    def _ask(self, actor: int, stream: int, version: int, call: tuple) -> int:
        job = next(self._numbers)
        self._jobs[job] = _Job(actor, stream, version, time.monotonic(), call)
        assert self._engine is not None
        self._engine.submit(actor, job, *call)
        return job

    def _fill(self, name: int, handle: Any, ahead: int) -> None:
        """Let each actor have so many parts of windows under way or ready."""
        line = self._lines[name]
        owners = {job: self._jobs[job].actor for job in line.asked if job in self._jobs}
        owners |= {job: actor for job, (actor, *_) in line.ready.items()}
        counts = collections.Counter(owners.values())
        live = tuple(self._at.values())
        for _ in range(ahead):
            for actor in range(self._settings.num_actors):
                if counts[actor] < ahead:
                    call = "rollout", name, live, line.seed, handle
                    line.asked.append(self._ask(actor, name, line.version, call))
                    counts[actor] += 1

    def _in_order(self, name: int, count: int | None = None) -> list[Rollout]:
        """Return the oldest window of a lockstep if all its parts are there."""
        line, size = self._lines[name], self._settings.num_actors
        oldest = list(line.asked)[:size]
        if len(oldest) < size or not all(job in line.ready for job in oldest):
            return []
        for _ in oldest:
            line.asked.popleft()
        # by actor: a part that had to be asked for again is a later job
        parts = sorted((line.ready.pop(job) for job in oldest), key=lambda p: p[0])
        return [self._learned(line, *part) for part in parts]

    def _as_they_come(self, name: int, count: int | None = None) -> list[Rollout]:
        """Return parts that are there and not too old, at most `count`."""
        line, parts = self._lines[name], []
        for job in list(line.ready):
            if len(parts) == (self._settings.num_actors if count is None else count):
                break
            actor, version, rollout = line.ready.pop(job)
            if line.version - version > self._settings.max_lag:
                self.stats["dropped"][actor] += self._settings.steps
            else:
                parts.append(self._learned(line, actor, version, rollout))
        return parts

    def _learned(self, line: _Line, actor: int, version: int, part: Rollout) -> Rollout:
        self.stats["lag"][actor] += line.version - version
        self.stats["learned"][actor] += 1
        return part

    def _hear(self, name: int | None, handle: Any) -> dict[int, int]:
        """Take what is done, replace who has failed; return jobs asked for again."""
        assert self._engine is not None
        again: dict[int, int] = {}
        outcomes: list[tuple[int, Any]] = self._engine.wait(_POLL) if self._jobs else []
        now = time.monotonic()
        for job, outcome in outcomes:
            asked = self._jobs.pop(job, None)
            if asked is None:
                continue  # of an actor that has been replaced
            self._heard[asked.actor] = now
            reason = None  # a score that is not finite is the loop's to judge
            if isinstance(outcome, Failed):
                reason = outcome.reason
            elif asked.stream:
                reason = fault(outcome, self._expected)
            if reason is not None:
                self._jobs[job] = asked
                again |= self._replace(asked.actor, reason)
            elif not asked.stream:
                self._scores[job] = outcome
            else:
                self.stats["steps"][asked.actor] += self._settings.steps
                line = self._lines.get(asked.stream)
                if line is not None:
                    line.ready[job] = asked.actor, asked.version, outcome
        for actor in {job.actor for job in self._jobs.values()}:
            since = min(j.since for j in self._jobs.values() if j.actor == actor)
            if now - max(since, self._heard[actor]) > self._settings.deadline:
                reason = f"no answer in {self._settings.deadline:g} s"
                again |= self._replace(actor, reason)
        if name is not None and self._settings.lockstep is None:
            self._fill(name, handle, _WAITING)
        return again

    def _replace(self, actor: int, reason: str) -> dict[int, int]:
        """Put another actor in the place of one; return its jobs, asked for again."""
        assert self._engine is not None
        limit = self._settings.max_restarts
        self.stats["restarts"][actor] += 1
        restarts = int(self.stats["restarts"].sum())
        said = f"actor {actor} of {self._settings.name} failed: {reason}"
        if restarts > limit:
            raise ActorsFailedError(
                f"actors have failed {restarts} times, and max_restarts is {limit}; the "
                f"last: {said}"
            )
        warnings.warn(
            f"{said}\nit is replaced ({restarts} of at most {limit} times)",
            RuntimeWarning,
            stacklevel=2,
        )
        self._generations[actor] += 1
        self._engine.restart(actor, self._generations[actor])
        self._heard[actor] = time.monotonic() + _START
        again = {}
        for job in [j for j, asked in self._jobs.items() if asked.actor == actor]:
            asked = self._jobs.pop(job)
            line = self._lines.get(asked.stream)
            if asked.stream:
                self.stats["dropped"][actor] += self._settings.steps
            if asked.stream and line is None:
                continue
            again[job] = self._ask(actor, asked.stream, asked.version, asked.call)
            if line is not None:
                line.asked[line.asked.index(job)] = again[job]
        return again
