"""The bounds of an environment's actions, and an agent's own units between them."""

from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.envs.actions import float32_ends


class Bounds(NamedTuple):
    """How an agent's actions, in [-1, 1] where there are ends, are the environment's.

    Between two finite ends, -1 and 1 are the ends; where these are one, the action is
    that. With one, that end is -1 or 1 and the unit is the environment's. An entry
    without ends is left alone.
    """

    low: np.ndarray  # [size] float32
    high: np.ndarray  # [size] float32
    centre: np.ndarray  # [size] float32 what 0 is
    unit: np.ndarray  # [size] float32 what 1 is beyond that
    shape: tuple[int, ...]  # of the environment's action

    def decode(self, action: np.ndarray) -> np.ndarray:
        """Return the environment's actions [..., *shape] of the agent's [..., size]."""
        action = np.clip(action * self.unit + self.centre, self.low, self.high)
        return action.reshape(*action.shape[:-1], *self.shape)

    def encode(self, action: Any) -> np.ndarray:
        """Return the agent's actions [..., size] of the environment's."""
        action = np.asarray(action, np.float32)
        lead = action.shape[: action.ndim - len(self.shape)]
        return (action.reshape(*lead, -1) - self.centre) / self.unit


def bounds(low: Any, high: Any) -> Bounds:
    """Return the `Bounds` between two ends, numbers or arrays [*shape].

    Raises:
      ValueError: an end that is NaN, or a low one above its high one.

    >>> ends = bounds(np.array([-2.0]), np.array([2.0]))
    >>> ends.decode(np.array([[0.5], [9.0]], np.float32)).tolist()
    [[1.0], [2.0]]
    >>> ends.encode([[1.0]]).tolist()
    [[0.5]]
    """
    low, high = float32_ends(
        *np.broadcast_arrays(*(np.asarray(end, np.float64) for end in (low, high)))
    )
    if not (low <= high).all() or (low == np.inf).any() or (high == -np.inf).any():
        raise checks.OptionError(
            f"the bounds of actions must be low <= high, got {low} and {high}"
        )
    shape, low, high = low.shape, low.reshape(-1), high.reshape(-1)
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    both = has_low & has_high
    finite_low, finite_high = np.where(both, low, 0), np.where(both, high, 0)
    centre = np.select(
        [both, has_low, has_high],
        [finite_low / 2 + finite_high / 2, low + 1, high - 1],
        0.0,
    )
    unit = np.where(both & (low < high), finite_high / 2 - finite_low / 2, 1.0)
    return Bounds(low, high, centre.astype(np.float32), unit.astype(np.float32), shape)


def action_bounds(action_dim: int, ends: Any) -> Bounds:
    """Return the `Bounds` of so many actions between (low, high).

    Raises:
      ValueError: a pair that is none, or one of other actions.
    """
    size = checks.positive_int("action_dim", action_dim)
    try:
        low, high = ends
    except (TypeError, ValueError):
        raise checks.OptionError(
            f"bounds must be a pair (low, high) of numbers or arrays, got {ends!r}"
        ) from None
    # an array [] is of an environment whose action is one number
    if not any(np.ndim(end) or isinstance(end, np.ndarray) for end in (low, high)):
        low = np.full(size, low)
    made = bounds(low, high)
    if len(made.unit) != size:
        raise checks.OptionError(
            f"bounds must be of action_dim={size} actions, got {len(made.unit)}"
        )
    return made


class BoxActions:
    """What agents of a box of actions have in every framework."""

    bounds: Any  # `Bounds`

    def checked(self, out: Any, per_action: int, what: str) -> Any:
        """Return what the actor gave, or raise ValueError if it is of another form."""
        size = len(self.bounds.unit)
        if len(out.shape) != 2 or out.shape[1] != per_action * size:
            raise checks.OptionError(
                f"actor must give {what} of {size} actions, [N, {per_action * size}], "
                f"got the shape {list(out.shape)}"
            )
        return out

    def _encoded(self, actions: np.ndarray) -> np.ndarray:
        return self.bounds.encode(actions)

    def _decoded(self, action: np.ndarray) -> np.ndarray:
        return self.bounds.decode(action)
