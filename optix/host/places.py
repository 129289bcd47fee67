"""The copies of a pipeline's environments, each played by one at a time."""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from optix.types import PyTree


class Place:
    """One copy, and where its episodes stand.

    env: an environment, or a vector of them.
    observation: to act on next; None where an episode begins.
    count: steps of the episode so far, of one environment.
    seeds: of the episodes to come.
    """

    def __init__(self, env: Any, close: Callable[[Any], None], lock: threading.Lock):
        """Stand before the first episode."""
        self.env = env
        self.observation: PyTree = None
        self.count = 0
        self.seeds: Iterator[int] = iter(())
        self._close, self.lock = close, lock
        self._closed = False

    def close(self) -> None:
        """Close the environment, once."""
        if not self._closed:
            self._closed = True
            self._close(self.env)


class Places:
    """Opens the copies, and sees to it that nobody is disturbed without noticing.

    Args:
      first: the environment that is there already.
      make: makes one more, or None: then all play in the first, one after another.
      name: for messages.
      close: closes an environment.
    """

    def __init__(
        self,
        first: Any,
        make: Callable[[], Any] | None,
        name: str,
        close: Callable[[Any], None],
    ):
        """Open none yet."""
        self.first, self.name = first, name
        self._make, self._close = make, close
        self._unused = True  # the first one
        self._lock, self._judge = threading.Lock(), threading.Lock()
        self._last: Place | None = None  # who played in the only one
        self._opened: weakref.WeakSet[Place] = weakref.WeakSet()

    @property
    def copies(self) -> int | None:
        """How many there can be, None for any number."""
        return 1 if self._make is None else None

    def open(self) -> Place:
        """Return one more copy; where there can be none, one that plays in the first."""
        if self._make is None or self._unused:
            place = Place(self.first, self._close, self._lock)
        else:
            place = Place(self._make(), self._close, threading.Lock())
        self._unused = False
        self._opened.add(place)
        return place

    @contextlib.contextmanager
    def playing(self, place: Place) -> Iterator[None]:
        """Play in a copy; forget its episode if another has played in it since."""
        with self._alone(place.lock):
            if self._make is None and self._last is not place:
                place.observation = None
            self._last = place
            yield

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """Play an evaluation, in the only environment if there can be no other."""
        with self._alone(self._lock if self._make is None else self._judge):
            self._last = None
            yield

    def close(self) -> None:
        """Close all of them."""
        for place in list(self._opened):
            place.close()
        if self._unused:
            self._close(self.first)

    @contextlib.contextmanager
    def _alone(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.name} is being played already, by another run in another "
                "thread; make a pipeline for each run"
            )
        try:
            yield
        finally:
            lock.release()


def episode_seeds(seed: int) -> Iterator[int]:
    """Yield the seeds of episodes without end."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def chunks(seed: int, episodes: int, most: int) -> Iterator[list[int]]:
    """Yield the seeds of so many episodes, at most `most` at once."""
    seeds = itertools.islice(episode_seeds(seed), episodes)
    while chunk := list(itertools.islice(seeds, most)):
        yield chunk
