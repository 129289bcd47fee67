"""Actors for a learner: its windows and scores, and how old what it learns from may be."""

import collections
import functools
import itertools
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.distributed.acting.actor import Rollout
from optix.distributed.acting.engines import Engine
from optix.distributed.acting.lines import Line, Part
from optix.distributed.acting.roster import Roster, Settings
from optix.types import PyTree

_WAITING = 2  # parts of an actor that are collected ahead, at most
_RECENT = 64  # windows over which speed is measured


class Stream(NamedTuple):
    """Whose experience goes on: the mark of a crew and a number there."""

    number: jax.Array  # [2] int32


class Crew:
    """Actors and what they play, the `Learner.host` of it; they start when needed."""

    def __init__(
        self, start: Callable[[], Engine], settings: Settings, expected: Rollout
    ):
        """Start nothing yet."""
        self._start, self._settings, self._expected = start, settings, expected
        self._roster: Roster | None = None  # of the latest actors
        self._end: weakref.finalize | None = None  # of those that are at work
        self._lock = threading.RLock()
        self._mark = 1 + secrets.randbelow(2**31 - 2)
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._at: dict[int, int] = {}  # number in a state: name of a line
        self._lines: dict[int, Line] = {}
        self._playing: dict[int, Line] = {}  # by job
        self._lag = np.zeros(settings.num_actors, int)  # of the latest part of each
        self._pace: collections.deque = collections.deque(maxlen=_RECENT)
        self.error: BaseException | None = None

    def window(
        self, stream: Any, seed: int, shared: PyTree
    ) -> tuple[np.ndarray, Rollout, float]:
        """Return the stream to go on in, the next window of it, and how old that is.

        Args:
          stream: [2], as the last window left it; any other begins fresh episodes.
          seed: of fresh episodes.
          shared: (policy, hyperparams) of NumPy arrays, the next version.
        """
        roster, count = self._at_work(), self._settings.num_actors
        mark, number = np.asarray(stream).tolist()
        name = self._at.pop(number, None) if mark == self._mark else None
        if name is None:
            name = next(self._names)
            self._lines[name] = Line(seed, count)
        line = self._lines[name]
        line.version += 1
        handle, ahead = roster.share(shared), self._settings.lockstep
        # asked for before the learner has learned from this window, and after it
        self._fill(name, handle, _WAITING if ahead is None else max(ahead, 1))
        parts = self._ready(line, count)
        while len(parts) < count:
            self._hear()
            parts += self._ready(line, count - len(parts))
            if ahead is None:
                self._fill(name, handle, _WAITING)
        self._fill(name, handle, _WAITING if ahead is None else ahead)
        new = next(self._numbers)
        self._at[new] = name
        self._pace.append((time.monotonic(), roster.steps.copy()))
        lag = float(np.mean([line.version - part.version for part in parts]))
        rollouts = [part.rollout for part in parts]
        joined = jax.tree.map(lambda *x: np.concatenate(x, 1), *rollouts)
        return np.array([self._mark, new], np.int32), joined, lag

    def evaluate(self, seed: int, episodes: int, shared: PyTree) -> float:
        """Return the mean return of whole episodes, played by all actors."""
        roster, count = self._at_work(), self._settings.num_actors
        handle, scores = roster.share(shared), {}
        shares = [episodes // count + (n < episodes % count) for n in range(count)]
        asked = [
            roster.ask(actor, "evaluate", (seed + 10_007 * actor) % 2**30, n, handle)
            for actor, n in enumerate(shares)
            if n
        ]
        while not scores.keys() >= set(asked):
            scores |= self._hear()
        return float(np.concatenate([scores[job] for job in asked]).mean())

    def told(self) -> dict[str, np.ndarray]:
        """Return how the latest actors do, {name: [num_actors]}.

        steps_per_second over the latest windows; policy_lag of what was last learned
        from; dropped steps and restarts since they have started.
        """
        nothing = np.zeros(self._settings.num_actors)
        speed, roster = nothing, self._roster
        if len(self._pace) > 1:
            (began, before), (now, after) = self._pace[0], self._pace[-1]
            speed = (after - before) / max(now - began, 1e-9)
        return {
            "steps_per_second": speed,
            "policy_lag": self._lag.copy(),
            "dropped": nothing if roster is None else roster.dropped.copy(),
            "restarts": nothing if roster is None else roster.restarts.copy(),
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
                jobs = self._lines.pop(name).under_way()
                for job in jobs:
                    del self._playing[job]
                if self._roster is not None:
                    self._roster.forget(jobs)

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return nothing: episodes can not be saved."""
        del tree
        return {}

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Do nothing: a stream that is resumed begins afresh."""

    def rest(self) -> None:
        """End the actors; whoever goes on starts others and begins fresh episodes."""
        with self._lock:
            end, self._end = self._end, None
            self._at, self._lines, self._playing = {}, {}, {}
        if end is not None:
            end()

    def _at_work(self) -> Roster:
        """Return the actors, started if they are not."""
        if self._end is None or self._roster is None:
            engine = self._start()
            self._end = weakref.finalize(self, engine.close)
            self._roster = Roster(engine, self._settings, self._expected)
            self._pace.clear()
        return self._roster

    def _fill(self, name: int, handle: Any, ahead: int) -> None:
        """Let each actor have so many parts of windows under way or ready."""
        line, live = self._lines[name], tuple(self._at.values())
        for actor in line.lacking(ahead):
            job = self._at_work().ask(actor, "rollout", name, live, line.seed, handle)
            line.ask(actor, job)
            self._playing[job] = line

    def _hear(self) -> dict[int, Any]:
        """Take what actors have done; return the scores, by job."""
        scores = {}
        for job, actor, outcome in self._at_work().hear():
            if job in self._playing:
                self._playing.pop(job).came(job, actor, outcome)
            else:
                scores[job] = outcome
        return scores

    def _ready(self, line: Line, count: int) -> list[Part]:
        """Return parts of a window that are there, at most so many.

        In lockstep it is whole or nothing; otherwise what is too old is dropped.
        """
        if self._settings.lockstep is not None:
            parts = line.in_turn()
        else:
            parts = []
            while len(parts) < count and (part := line.first()) is not None:
                if line.version - part.version <= self._settings.max_lag:
                    parts.append(part)
                else:
                    self._at_work().dropped[part.actor] += self._settings.steps
        for part in parts:
            self._lag[part.actor] = line.version - part.version
        return parts
