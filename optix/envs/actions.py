"""Spaces of actions, and how actions go from the agent to the environment and back."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.envs.kinds import count, first_of, is_a, sizes_of
from optix.forms import action_form
from optix.types import ActionSpace, Box, Discrete, MultiDiscrete, Numbered


def action_space(name: str, space: Any) -> ActionSpace:
    """Return the space in which agents act, for a space of gymnax or Gymnasium.

    Entries of a MultiDiscrete of several axes follow with the last axis varying fastest;
    each of a MultiBinary is a choice of two.

    Args:
      name: of the environment, for messages.
      space: of gymnax or Gymnasium.

    Raises:
      ValueError: it is no Discrete, MultiDiscrete or MultiBinary space and no Box of
        numbers with bounds.
    """
    if is_a(space, "Discrete"):
        return Discrete(count(f"actions of {name}", space))
    if is_a(space, "MultiDiscrete"):
        return MultiDiscrete(sizes_of(f"actions of {name}", space))
    if is_a(space, "MultiBinary"):
        return MultiDiscrete((2,) * math.prod(space.shape))
    if is_a(space, "Box") and _numbers(space):
        size = math.prod(int(size) for size in space.shape)
        if not size:
            raise checks.OptionError(
                f"actions of {name} must have at least one entry, got {space}; give "
                "what takes no action one that it ignores"
            )
        _bounds(name, space)
        return Box((size,))
    raise checks.OptionError(
        f"actions of {name} must be Discrete, MultiDiscrete or a Box of numbers, got "
        f"{space}; number its combinations in an ActionWrapper to make it Discrete"
    )


def action_decoder(name: str, space: Any) -> Callable[[jax.Array], jax.Array]:
    """Return `(action of the agent) -> action of the environment`.

    A Box is honoured entry by entry. Between two finite ends, -1 and 1 are the ends and
    what is beyond is clipped. With a low end alone, -1 is that end and what is below is
    clipped; with a high end alone, 1 is that end and what is above is clipped; the unit
    is the environment's. An entry without ends is left alone. An end that float32 does
    not hold counts as infinite. Of a box of integers the nearest one is taken. Numbers of
    a Discrete space begin at its start, and those of a MultiDiscrete have its shape.
    """
    if isinstance(action_space(name, space), Numbered):
        start = start_of(space)
        if start.ndim:
            return lambda action: action.reshape(start.shape) + start
        first = first_of(space)
        return (lambda action: action + first) if first else lambda action: action
    low, high = _bounds(name, space)
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    both = has_low & has_high
    zero = np.zeros_like(low)
    finite_low, finite_high = np.where(both, low, zero), np.where(both, high, zero)
    # where 0 of the agent lies beside a single end
    shift = np.select([both, has_low, has_high], [zero, low + 1, high - 1], zero)
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)

    def nearest(action):
        whole = jnp.iinfo(dtype)
        # float32 rounds large ends, so that they are held to once more as integers
        ends = (np.clip(end, whole.min, whole.max) for end in (space.low, space.high))
        rounded = jnp.round(action).astype(dtype)
        return jnp.clip(rounded, *(np.asarray(end, dtype) for end in ends))

    def decode(action):
        action = action.reshape(low.shape)
        # no difference of the ends, which may overflow
        share = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
        between = finite_low * (1.0 - share) + finite_high * share
        # a mean of two ends that are alike may be rounded to a number beyond both
        action = jnp.clip(jnp.where(both, between, action + shift), low, high)
        whole = jnp.issubdtype(dtype, jnp.integer)
        return nearest(action) if whole else action.astype(dtype)

    return decode


def action_encoder(name: str, space: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return `(actions of the environment [N, ...]) -> [N, ...]` of the agent, in NumPy.

    What `action_decoder` undone gives; where the ends of a Box are one, 0.
    """
    acted = action_space(name, space)
    if isinstance(acted, Numbered):
        start, shape = start_of(space), action_form(acted).shape
        return lambda actions: (np.asarray(actions) - start).reshape(-1, *shape)
    low, high = (end.reshape(-1) for end in _bounds(name, space))
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    both = has_low & has_high
    varies = both & (high > low)
    # no difference of the ends, which may overflow, and none of infinite ones
    halves = np.where(both, low / 2, 0.0), np.where(both, high / 2, 0.0)
    middle = halves[0] + halves[1]
    half = np.where(varies, halves[1] - halves[0], 1.0)
    shift = np.select([both, has_low, has_high], [middle, low + 1, high - 1], 0.0)

    def encode(actions):
        actions = np.asarray(actions, np.float64).reshape(-1, low.size)
        share = (actions - shift) / half
        share = np.where(both, np.where(varies, np.clip(share, -1.0, 1.0), 0.0), share)
        return share.astype(np.float32)

    return encode


def start_of(space: Any) -> np.ndarray:
    """Return the first numbers of a space of numbered actions, in its shape."""
    first = getattr(space, "start", 0)  # neither gymnax's nor MultiBinary has one
    return np.broadcast_to(np.asarray(first, np.int32), space.shape)


def _numbers(space: Any) -> bool:
    """Whether a Box holds floats or integers."""
    kinds = jnp.floating, jnp.integer
    return any(jnp.issubdtype(space.dtype, kind) for kind in kinds)


def float32_ends(low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of numbers in float32, within the given ones where that can be.

    One beyond float32 is infinite; one of integers is the nearest.

    >>> low, high = float32_ends(0.1, 0.3)
    >>> 0.1 <= float(low), float(high) <= 0.3, float(np.float32(0.3)) <= 0.3
    (True, True, False)
    """
    ends = np.asarray(low), np.asarray(high)
    with np.errstate(over="ignore"):
        near = [end.astype(np.float32) for end in ends]
    inner = [_inner(ends[0], near[0], np.inf), _inner(ends[1], near[1], -np.inf)]
    fits = inner[0] <= inner[1]  # else no number of float32 is between them
    low, high = (np.where(fits, *pair) for pair in zip(inner, near, strict=True))
    return low, high


def _inner(end: np.ndarray, near: np.ndarray, towards: float) -> np.ndarray:
    """Return what is nearest to an end, or the next number if that is beyond it."""
    if end.dtype.kind in "iu":
        return near
    beyond = near < end if towards > 0 else near > end
    following = np.nextafter(near, np.float32(towards))
    return np.where(beyond & np.isfinite(near), following, near)


def _bounds(name: str, space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of each entry of a Box in float32, [*shape]."""
    try:
        low, high = (
            np.broadcast_to(end, space.shape) for end in (space.low, space.high)
        )
        low, high = float32_ends(low, high)
    except ValueError:
        low, high = np.full(1, np.nan), np.full(1, np.nan)
    if not (low <= high).all() or (low == np.inf).any() or (high == -np.inf).any():
        raise checks.OptionError(
            f"the bounds of actions of {name} must be low <= high for each entry, got "
            f"{space}; mend them in the environment or in a wrapper"
        )
    return low, high
