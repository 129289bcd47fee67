"""Numbers that are drawn as often as they are great: a sum tree in NumPy."""

import numpy as np

BRANCHES = 32  # few levels, each a handful of NumPy calls for a whole batch
FLOOR, CEILING = 1e-30, 1e28


class SumTree:
    """Priorities [capacity] and their sums, over levels of 32 children each.

    A parent is always computed from its children, so rounding errors do not add up.

    >>> tree = SumTree(4)
    >>> tree.write(np.array([1, 3]), np.array([1.0, 3.0]))
    >>> tree.total, tree.find(np.array([0.0, 0.99, 1.0, 3.99])).tolist()
    (4.0, [1, 1, 3, 3])
    """

    def __init__(self, capacity: int):
        """Make a tree of zeros, which are never drawn."""
        size, self._levels = capacity, []
        while True:
            rows = -(-size // BRANCHES)
            self._levels.append(np.zeros(rows * BRANCHES))
            if rows == 1:
                break
            size = rows

    @property
    def leaves(self) -> np.ndarray:
        """The priorities; do not write into them."""
        return self._levels[0]

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._levels[-1].sum())

    def write(self, index: np.ndarray, priority: np.ndarray) -> None:
        """Set the priorities at `index` [M]; of several for one place the greatest counts.

        They are held to [1e-30, 1e28], so that zero is practically never drawn. A NaN,
        an infinite or a negative one changes nothing.
        """
        sound = np.isfinite(priority) & (priority >= 0)
        index = index[sound]
        priority = np.clip(priority[sound], FLOOR, CEILING)
        self.leaves[index] = 0.0
        np.maximum.at(self.leaves, index, priority)
        for below, level in zip(self._levels[:-1], self._levels[1:], strict=True):
            index = np.unique(index // BRANCHES)
            level[index] = below.reshape(-1, BRANCHES)[index].sum(1)

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Return the places [M] at which the running sum of priorities passes `mass` [M].

        Rounding may put what is left at or beyond the end of a row: then it is the last
        child with a priority. One without is never taken.
        """
        group, left = np.zeros(len(mass), np.int64), mass.astype(np.float64)
        every = np.arange(len(mass))
        for level in reversed(self._levels):
            rows = level.reshape(-1, BRANCHES)[group]
            ends = rows.cumsum(1)
            last = BRANCHES - 1 - (rows[:, ::-1] > 0).argmax(1)
            child = np.minimum((ends <= left[:, None]).sum(1), last)
            left = left - (ends[every, child] - rows[every, child])
            group = group * BRANCHES + child
        return group
