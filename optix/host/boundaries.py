"""Where a window of a live stream ends, if its source does not end the episode before."""

import dataclasses
from collections.abc import Callable
from typing import Any

from optix import checks
from optix.types import PyTree

Boundary = Callable[[int, float, PyTree], Any]  # (steps, seconds, observation) -> bool


@dataclasses.dataclass(frozen=True)
class EveryNSteps:
    """Windows whose length is known."""

    steps: int

    def __call__(self, steps: int, seconds: float, observation: PyTree) -> bool:
        """Whether the window is over."""
        return steps >= self.steps


def every_n_steps(n: int) -> Boundary:
    """Return the boundary function of windows of `n` steps.

    >>> every_n_steps(3)(3, 0.5, None)
    True
    """
    return EveryNSteps(checks.positive_int("n", n))


def every_n_seconds(n: float) -> Boundary:
    """Return the boundary function of windows that last `n` seconds.

    They are counted by a clock that nobody sets, from the first action of the window,
    and looked at when an item arrives.

    >>> every_n_seconds(300)(3, 0.5, None)
    False
    """
    least = checks.within("n", n, 0, 1e9, open_ends=True)
    return lambda steps, seconds, observation: seconds >= least


def on_done_signal() -> Boundary:
    """Return the boundary function of windows that only the source ends.

    >>> on_done_signal()(3, 0.5, None)
    False
    """
    return lambda steps, seconds, observation: False
