"""Advantages, returns and their scale over windows [T, B], in NumPy.

What agents of other frameworks share. `optix.math.returns` and `optix.math.running` have
the same mathematics for one trajectory in JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.host.normalizers import ObsNormalizer

_LARGEST = float(np.finfo(np.float32).max)


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    discount: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimation (https://arxiv.org/abs/1506.02438).

    Args:
      rewards: [T, B].
      values: [T, B] of the observations acted on.
      next_values: [T, B] of the observations that followed, before any reset.
      terminated: [T, B] bool, the return ends here.
      truncated: [T, B] bool, the episode is cut here, its future is bootstrapped.
      discount: in [0, 1].
      gae_lambda: in [0, 1].

    Returns:
      [T, B] float32 advantages; adding `values` gives the value targets.

    >>> never = np.zeros((2, 1), bool)
    >>> zero = np.zeros((2, 1), np.float32)
    >>> rewards = np.ones((2, 1), np.float32)
    >>> advantages(rewards, zero, zero, never, never, 0.5, 1.0).tolist()
    [[1.5], [1.0]]
    """
    # a terminated step may have any number, NaN too, for what follows it
    following = np.where(terminated, np.float32(0), next_values)
    delta = rewards + np.float32(discount) * following - values
    delta = np.asarray(delta, np.float32)
    decay = np.float32(discount * gae_lambda) * ~(terminated | truncated)
    for t in range(len(delta) - 2, -1, -1):
        delta[t] += decay[t] * delta[t + 1]
    return delta


def following_values(
    values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    value_after: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the values of the observations that followed, from those acted on.

    What followed a step was acted on in the next one. Only where an episode was cut, and
    at the window's last step, `value_after` is asked.

    Args:
      values: [T, B] of the observations acted on.
      terminated: [T, B] bool; what follows there means nothing and is zero.
      truncated: [T, B] bool.
      value_after: `(step [K], environment [K]) -> [K]` values of what followed.

    Returns:
      [T, B] float32.

    >>> values = np.array([[1.0], [2.0], [3.0]], np.float32)
    >>> cut = np.array([[True], [False], [False]])
    >>> never = np.zeros((3, 1), bool)
    >>> following_values(values, never, cut, lambda t, b: 10.0 * t + 7)[:, 0].tolist()
    [7.0, 3.0, 27.0]
    """
    following = np.zeros_like(values)
    following[:-1] = values[1:]
    asked = truncated.copy()
    asked[-1] = True
    asked &= ~terminated
    following[terminated] = 0.0
    where = np.nonzero(asked)
    if len(where[0]):
        following[where] = value_after(*where)
    return following


def inverse_deviation(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return one over the standard deviation, as `optix.math.running` has it.

    A deviation below a ten-thousandth of the mean counts as that: it may be rounding. Of
    what has only been zero, and of no data, it is one.

    >>> inverse_deviation(np.zeros(2), np.array([4.0, 0.0])).tolist()
    [0.5, 1.0]
    """
    variance = np.maximum(variance, np.square(1e-4 * np.asarray(mean)))
    varies = variance > 0
    return np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1.0)), 1.0)


def discounted_returns(
    rewards: np.ndarray, ended: np.ndarray, running: np.ndarray, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the discounted sums of rewards up to each step, and what goes on.

    Args:
      rewards: [T, B].
      ended: [T, B] bool, the next step begins an episode.
      running: [B] the sum before the first step.
      discount: in [0, 1].

    Returns:
      [T, B] sums, and [B] the sum before the step after the window.

    >>> rewards, ended = np.ones((3, 1)), np.array([[False], [True], [False]])
    >>> sums, running = discounted_returns(rewards, ended, np.zeros(1), 0.5)
    >>> sums[:, 0].tolist(), running.tolist()
    ([1.0, 1.5, 1.0], [1.0])
    """
    sums = np.empty(rewards.shape)
    for t, reward in enumerate(rewards):
        sums[t] = running = discount * running + reward
        running = np.where(ended[t], 0.0, running)
    return sums, running


class ReturnScale:
    """The deviation of the discounted return, by which rewards are divided.

    The returns of episodes under way go on from one window to the next.

    >>> scale = ReturnScale()
    >>> ends = np.array([[False], [True]])
    >>> scale.observe(np.array([[1.0], [3.0]]), ends, np.array([True]), 0.0)
    >>> float(scale.inverse())
    1.0
    """

    def __init__(self):
        """Begin without data."""
        self._seen = ObsNormalizer(())
        self._running = np.zeros(0)  # [B] of the episodes under way

    def observe(
        self, rewards: np.ndarray, ended: np.ndarray, began: np.ndarray, discount: float
    ) -> None:
        """Take in a window.

        Args:
          rewards: [T, B].
          ended: [T, B] bool, for either reason.
          began: [B] bool, the first step was the first of its episode.
          discount: in [0, 1].
        """
        running = self._running
        if running.shape != began.shape:
            running = np.zeros(began.shape)
        running = np.where(began, 0.0, running)
        returns, running = discounted_returns(rewards, ended, running, discount)
        self._running = np.where(np.isfinite(running), running, 0.0)
        self._seen.update(returns.reshape(-1))

    def inverse(self) -> np.float32:
        """Return what rewards are multiplied by: one over the deviation."""
        variance = np.minimum(self._seen.var, _LARGEST)
        return np.float32(inverse_deviation(self._seen.mean, variance))

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save, as plain arrays."""
        return {**self._seen.state(), "running": self._running.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        moments = dict(state)
        if "running" not in moments:
            raise checks.OptionError(
                f"running must be in the state of a ReturnScale, got {sorted(moments)}; "
                "restore what `state` returned"
            )
        self._running = np.array(moments.pop("running"), np.float64)
        self._seen.restore(moments)
