"""Copies of hosted environments, by the stream of experience that each belongs to.

An environment outside the device can not be forked, rolled back or saved with the state
that names it. So the state holds a number, the stream, which is exchanged for a new one
where a window begins: whoever comes with the number that a copy was left with goes on
there, and any other number, as in the second of two forks or after a resume, means
fresh episodes.
"""

import contextlib
import functools
import itertools
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from optix.envs.vectors import Stage, Stepped, Vector
from optix.types import HostPart, PyTree

Stream = tuple[int, int]


class _Copy:
    """A vector of environments, and what somebody is doing there."""

    def __init__(self, vector: Vector, count: int):
        self.vector, self.count = vector, count
        self.steps = 0  # that are still going to be taken
        self.play = False  # only until the episodes end, which are then evaluated
        self.running = np.ones(count, bool)  # rows whose episode has not ended


class Copies:
    """Copies of one environment, opened as they are needed: `Environment.host`.

    Where `limit` of them wait for their windows to go on, a new stream takes the one that
    was left alone for the longest, whose own stream then begins afresh; more there are
    only while more are in the middle of a window. As many wait for evaluations.

    Attributes:
      limit: how many wait.
      show: opens one more environment, which can be seen, for `optix.play`.
      error: the last exception that an environment raised, or None.
    """

    def __init__(
        self,
        name: str,
        open_copy: Callable[[int], Vector],
        limit: int,
        show: Callable[[], Stage],
    ):
        """Open nothing yet."""
        self.limit, self.show = limit, show
        self.error: BaseException | None = None
        self._name, self._open = name, open_copy
        self._lock = threading.RLock()  # several devices may call at once
        # of this object alone: a state of another process must not find a copy here
        self._mark = 1 + secrets.randbelow(2**31 - 2)
        self._numbers = itertools.count(1)
        self._taken: dict[int, _Copy] = {}  # by stream, the longest untouched first
        self._spare: list[_Copy] = []  # nobody's

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._taken) + len(self._spare)

    def claim(
        self, stream: Stream, seed: int, count: int, steps: int, play: bool
    ) -> tuple[Stream, PyTree | None]:
        """Return the stream to go on in, and its first observations where it is fresh.

        Args:
          stream: the mark of an object like this, and a number there.
          seed: of fresh episodes.
          count: environments side by side.
          steps: that are going to be taken before the next claim.
          play: until the first end of each at most; then it is nobody's.
        """
        with self._lock:
            mark, number = stream
            copy = self._taken.get(number) if mark == self._mark else None
            if copy is not None and copy.count == count:
                obs = None
                del self._taken[number]
            else:
                copy = self._free(count, play)
                obs = copy.vector.reset(seed)
            copy.steps, copy.play = steps, play
            copy.running[:] = True
            new = next(self._numbers)
            self._taken[new] = copy
            return (self._mark, new), obs

    def step(self, stream: Stream, actions: np.ndarray) -> Stepped:
        """Step the copy of a stream that was claimed.

        Raises:
          RuntimeError: it was not claimed, or was closed meanwhile.
        """
        mark, number = stream
        copy = self._taken.get(number) if mark == self._mark else None
        if copy is None:
            raise RuntimeError(
                f"no environments of {self._name} are behind the stream {number}; a "
                "window begins with Environment.claim, and after an error in another "
                "one begins anew"
            )
        stepped = copy.vector.step(actions, not copy.play)
        copy.steps -= 1
        if copy.play:
            copy.running &= ~(stepped.terminated | stepped.truncated)
            if copy.steps == 0 or not copy.running.any():
                self._give_back(number)
        return stepped

    def guarded(self, function: Callable) -> Callable:
        """Return the function as a callback whose exception is kept."""

        @functools.wraps(function)
        def call(*args):
            try:
                return function(*args)
            except BaseException as error:
                self.error = error
                with contextlib.suppress(Exception):  # it says what is wrong
                    self.close()
                raise

        return call

    def close(self) -> None:
        """Close all copies; whoever goes on begins afresh."""
        with self._lock:
            copies = [*self._taken.values(), *self._spare]
            self._taken, self._spare = {}, []
        for copy in copies:
            copy.vector.close()

    def raise_if_failed(self) -> None:
        """Raise the exception of an environment itself, once.

        A jitted program raises only `jax.errors.JaxRuntimeError` in its place.
        """
        error, self.error = self.error, None
        if error is not None:
            raise error

    def keep(self, state: PyTree) -> None:
        """Do nothing: there are few copies, whatever a state names."""

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return nothing: a copy can not be saved."""
        del tree
        return {}

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Do nothing: a stream that is resumed begins afresh."""

    def _free(self, count: int, play: bool) -> _Copy:
        """Return a copy of so many environments that nobody is stepping."""
        fitting = [copy for copy in self._spare if copy.count == count]
        if fitting:
            self._spare.remove(fitting[0])
            return fitting[0]
        waiting = [number for number, copy in self._taken.items() if copy.steps <= 0]
        if not play and len(waiting) >= self.limit:
            copy = self._taken.pop(waiting[0])
            if copy.count == count:
                return copy
            copy.vector.close()
        return _Copy(self._open(count), count)

    def _give_back(self, number: int) -> None:
        """Keep a copy whose evaluation is over for the next one."""
        with self._lock:
            self._spare.append(self._taken.pop(number))
            oldest = self._spare.pop(0) if len(self._spare) > self.limit else None
        if oldest is not None:
            oldest.vector.close()


class Together(NamedTuple):
    """Several parts outside the device as one, which keep nothing of a state."""

    parts: tuple[HostPart, ...]

    def raise_if_failed(self) -> None:
        """Raise the exception of one that failed."""
        for part in self.parts:
            part.raise_if_failed()

    def keep(self, state: PyTree) -> None:
        """Let each forget what a state does not name."""
        for part in self.parts:
            part.keep(state)

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return nothing."""
        del tree
        return {}

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Do nothing."""

    @property
    def told(self) -> Callable[[], dict[str, np.ndarray]] | None:
        """How the actors among them do, None where none are."""
        found = [getattr(part, "told", None) for part in self.parts]
        return next((told for told in found if told is not None), None)

    def rest(self) -> None:
        """End what has an end, see `HostPart`."""
        for part in self.parts:
            if callable(end := getattr(part, "rest", None)):
                end()


def together(*hosts: HostPart | None) -> HostPart | None:
    """Return those environments' parts that there are as one, None if there are none."""
    parts = tuple(host for host in hosts if host is not None)
    return Together(parts) if len(parts) > 1 else next(iter(parts), None)
