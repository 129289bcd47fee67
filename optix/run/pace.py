"""How many rounds a dispatch holds, and when a smaller batch of seeds pays."""

import math

from optix.run.programs import CAPACITY

DISPATCH_SECONDS = 0.5  # how long a dispatch should take, and Ctrl-C at most wait


class Pace:
    """The measured time of dispatches at the present size of the batch.

    A smaller batch is another program to compile. It pays, as far as that can be known
    without knowing when the last seed stops, once the stopped seeds have cost as much
    time as compiling took the last time: then a run takes at most about twice what the
    best choice afterwards would have. If the rounds that the budgets leave can not earn
    the time any more, the size stays. How much a smaller batch gains is measured: at
    first the share of the seeds that it drops, then what the last cut has brought.

    Args:
        exact: whether a smaller batch is tried before it is taken, for which both sizes
            must have been compiled. Where it failed, no other one is tried.

    Attributes:
        count: rounds of the next dispatch.
        dispatches: how many there were.
        seconds, steps: of dispatches in which nothing was compiled.
    """

    def __init__(self, exact: bool = True):
        """See the class."""
        self._exact, self._refused = exact, False
        self.count, self.dispatches = 1, 0
        self.seconds, self.steps = 0.0, 0
        self._first: tuple[float, int] | None = (
            None  # seconds and rounds, and compiling
        )
        self._round = math.inf  # seconds, the shortest at this size
        self._waste = 0.0  # seconds that stopped seeds have cost at this size
        self._last_cut: tuple[float, float] | None = None  # share, seconds per round

    @property
    def steps_per_second(self) -> float:
        """The environment's steps per second, 0 where nothing is known."""
        return self.steps / self.seconds if self.seconds else 0.0

    def took(self, seconds: float, steps: int, share: float) -> None:
        """Note a dispatch of `count` rounds; `share` of its seeds could be dropped."""
        self.dispatches += 1
        if self._first is None:
            self._first = seconds, self.count
            return
        self.seconds += seconds
        self.steps += steps
        self._round = min(self._round, seconds / self.count)
        self._waste += seconds * share * self._gain()
        self.count = next_count(self.count, seconds)

    def pays(self, share: float, rounds_left: int) -> bool:
        """Return whether to drop `share` of the seeds where so many rounds may be left."""
        if share <= 0 or self._refused:
            return False
        if self._first is None:  # no program of this size has been compiled yet
            return not self._exact
        if self._round == math.inf:
            return False  # how long a round takes is not known
        seconds, rounds = self._first
        compiling = max(seconds - rounds * self._round, 0.0)
        left = rounds_left * self._round * share * self._gain()
        return min(self._waste, left) >= compiling and self._gain() > 0

    def cut(self, share: float, seconds: float | None = None) -> None:
        """Note that `share` of the seeds were dropped, after a trial of `seconds`."""
        self._last_cut = (share, self._round) if self._round < math.inf else None
        self._first = None if seconds is None else (seconds, 1)
        self._round, self._waste = math.inf, 0.0

    def refuse(self) -> None:
        """Note that a smaller batch does not give the same bits."""
        self._refused = True

    def _gain(self) -> float:
        """Return the share of the time that the last cut has saved, per share of seeds."""
        if self._last_cut is None or self._round == math.inf:
            return 1.0
        share, before = self._last_cut
        return min(max((1 - self._round / before) / share, 0.0), 1.0)


def next_count(count: int, seconds: float) -> int:
    """Return how many rounds to dispatch after `count` of them took `seconds`."""
    wanted = int(count * DISPATCH_SECONDS / max(seconds, 1e-9))
    return max(1, min(wanted, 2 * count, CAPACITY))
