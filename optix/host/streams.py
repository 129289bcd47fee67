"""Episodes that go on from window to window: copies of the environments, by number.

An environment can not be copied as a policy can. So what a state holds of its episodes
is a number, used once: the window that is asked to go on from a number finds the copy of
the environments that was left under it, plays on, and leaves it under a new one. Any
other number means fresh episodes: 0 of a beginning or a rollback, one that another lane
of a fork has used up, one of another process.
"""

import collections
import dataclasses
import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.host.agent import Pipeline
from optix.types import PyTree


class Stream(NamedTuple):
    """Where a host learner's episodes stand: `LearnerState.rollout`."""

    number: jax.Array  # [] int32, 0 for fresh ones


@dataclasses.dataclass(eq=False)
class Seat:
    """A copy of the environments and what belongs to the episodes under way in it."""

    envs: Any  # the pipeline's
    carry: PyTree = None  # the agent's, [B, ...]
    returns: np.ndarray | None = None  # [B] float64 so far
    latest: float = -math.inf  # mean return of the episodes that ended last

    def clear(self) -> None:
        """Forget the episodes."""
        self.carry, self.returns, self.latest = None, None, -math.inf


class Streams:
    """Copies of a pipeline's environments, at most `limit` of them.

    They are kept by last use: whoever comes where none is left takes the one that was
    left alone longest, and its owner starts afresh.

    limit: how many copies there can be.
    opened: how many there are.
    """

    def __init__(self, pipeline: Pipeline, copies: int):
        """Open none yet."""
        self._pipeline = pipeline
        most = getattr(pipeline, "copies", None)
        self.limit = copies if most is None else min(copies, most)
        self.opened = 0
        self._left: collections.OrderedDict[int, Seat] = collections.OrderedDict()
        self._idle: list[Seat] = []
        self._last = 0  # the highest number given
        self._taken: collections.deque[int] = collections.deque(maxlen=256)
        self._told = False

    def take(self, number: int) -> tuple[Seat, bool]:
        """Return a copy, and whether fresh episodes begin in it."""
        if number in self._left:
            return self._left.pop(number), False
        if number in self._taken and not self._told:
            self._told = True
            warnings.warn(
                f"more seeds and lanes than copies of the environments ({self.limit}): "
                "where the copy was lent to another, a window begins with fresh "
                "episodes; pass copies= to host(...), one for each seed and lane",
                stacklevel=2,
            )
        return self._any(), True

    def leave(self, seat: Seat) -> int:
        """Leave a copy where it is; return the number under which it goes on."""
        self._last += 1
        self._left[self._last] = seat
        return self._last

    def rest(self, seat: Seat) -> int:
        """Give back a copy whose episodes are over; return 0, the number of none."""
        seat.clear()
        self._idle.append(seat)
        return 0

    def drop(self, seat: Seat) -> None:
        """Close a copy that has failed, if there can be another in its place."""
        if getattr(self._pipeline, "copies", None) == 1:
            self.rest(seat)
        else:
            self._close(seat)

    def keep(self, numbers: Iterable[int]) -> None:
        """Close what nobody needs any more.

        Args:
          numbers: those of the streams that go on, one for each seed and lane; 0 where
            fresh episodes will begin.
        """
        numbers = list(numbers)
        for number in set(self._left) - set(numbers):
            self.rest(self._left.pop(number))
        while self._idle and self.opened > max(len(numbers), 1):
            self._close(self._idle.pop())

    def adopt(self, numbers: Iterable[int]) -> bool:
        """Return whether all these go on here; those of another process can not.

        No window will be given one of these numbers.
        """
        named = set(numbers) - {0}
        self._last = max([self._last, *named])
        return named <= set(self._left)

    def _any(self) -> Seat:
        """Return some copy, new if there may be one more."""
        if self._idle:
            return self._idle.pop()
        if self.opened < self.limit or not self._left:
            seat = Seat(self._pipeline.open())
            self.opened += 1
            return seat
        number, seat = self._left.popitem(last=False)
        self._taken.append(number)
        seat.clear()
        return seat

    def _close(self, seat: Seat) -> None:
        self.opened -= 1
        if callable(close := getattr(seat.envs, "close", None)):
            close()
