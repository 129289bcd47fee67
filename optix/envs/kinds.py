"""What kind of space an environment has, and how values go in and out of it.

A space is recognised by its type, gymnax's or Gymnasium's, never by an attribute that it
happens to have.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.types import Box, Discrete

# who has such a space imported its module; neither is imported for the question
_MODULES = ("gymnax.environments.spaces", "gymnasium.spaces")


def observation_shape(name: str, space: Any) -> tuple[int, ...]:
    """Return the shape in which agents see the observations of a space.

    Args:
      name: of the environment, for messages.
      space: of gymnax or Gymnasium.

    Raises:
      ValueError: it is no Box or Discrete space.
    """
    if _is(space, "Discrete"):
        return (_count(f"observations of {name}", space),)  # one-hot
    if _is(space, "Box"):
        shape = tuple(int(size) for size in space.shape)
        if 0 in shape:
            raise checks.OptionError(
                f"observations of {name} must have at least one entry, got the shape "
                f"{shape}; leave what is empty out with a wrapper"
            )
        return shape or (1,)
    raise checks.OptionError(
        f"observations of {name} must be a Box or Discrete, got {space}; flatten them "
        "with a wrapper (gymnasium.wrappers.FlattenObservation makes a Box of them)"
    )


def hosted_shape(name: str, space: Any) -> tuple[int, ...]:
    """Return the shape in which agents see observations of Gymnasium's, on the host.

    Images have their channels last.
    """
    shape = observation_shape(name, space)
    return (*shape[1:], shape[0]) if _channels_first(space) else shape


def hosted_encoder(name: str, space: Any) -> Callable[[jax.Array], jax.Array]:
    """Return `(observations [B, ...] of `kept_dtype`) -> [B, *shape]` as agents see them.

    Those of uint8 stay so.
    """
    if kept_dtype(space) != np.uint8:
        return jax.vmap(observation_encoder(name, space))
    shape = observation_shape(name, space)

    def encode(obs):
        obs = obs.reshape(-1, *shape)
        return jnp.moveaxis(obs, 1, -1) if _channels_first(space) else obs

    return encode


def kept_dtype(space: Any) -> np.dtype:
    """Return the type in which observations of a space of Gymnasium reach the device."""
    if _is(space, "Discrete"):
        return np.dtype(np.int32)
    return np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)


def _channels_first(space: Any) -> bool:
    """Whether it holds images whose channels, or frames, come first: fewer than pixels."""
    shape = tuple(space.shape)
    return space.dtype == np.uint8 and len(shape) == 3 and shape[0] < min(shape[1:])


def action_space(name: str, space: Any) -> Discrete | Box:
    """Return the space in which agents act, for a space of gymnax or Gymnasium.

    Args:
      name: of the environment, for messages.
      space: of gymnax or Gymnasium.

    Raises:
      ValueError: it is no Discrete space and no Box of numbers with bounds.
    """
    if _is(space, "Discrete"):
        return Discrete(_count(f"actions of {name}", space))
    if _is(space, "Box") and _numbers(space):
        size = math.prod(int(size) for size in space.shape)
        if not size:
            raise checks.OptionError(
                f"actions of {name} must have at least one entry, got {space}; give "
                "what takes no action one that it ignores"
            )
        _bounds(name, space)
        return Box((size,))
    raise checks.OptionError(
        f"actions of {name} must be Discrete or a Box of numbers, got {space}; number "
        "its combinations in an ActionWrapper to make it Discrete"
    )


def observation_encoder(name: str, space: Any) -> Callable[[Any], jax.Array]:
    """Return `(observation) -> [*shape] float32` as agents see it.

    A Box is cast, one of no axis gets one; a Discrete observation becomes one-hot.
    """
    shape = observation_shape(name, space)
    if _is(space, "Discrete"):
        start = first_of(space)
        return lambda obs: jax.nn.one_hot(obs - start, shape[0], dtype=jnp.float32)
    return lambda obs: jnp.asarray(obs, jnp.float32).reshape(shape)


def action_decoder(name: str, space: Any) -> Callable[[jax.Array], jax.Array]:
    """Return `(action of the agent) -> action of the environment`.

    A Box is honoured entry by entry. Between two finite ends, -1 and 1 are the ends and
    what is beyond is clipped. With a low end alone, -1 is that end and what is below is
    clipped; with a high end alone, 1 is that end and what is above is clipped; the unit
    is the environment's. An entry without ends is left alone. An end that float32 does
    not hold counts as infinite. Of a box of integers the nearest one is taken. Numbers of
    a Discrete space begin at its start.
    """
    if isinstance(action_space(name, space), Discrete):
        start = first_of(space)
        return (lambda action: action + start) if start else lambda action: action
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
        beside = jnp.clip(action + shift, low, high)
        action = jnp.where(both, between, beside)
        whole = jnp.issubdtype(dtype, jnp.integer)
        return nearest(action) if whole else action.astype(dtype)

    return decode


def action_encoder(name: str, space: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return `(actions of a Box of the environment [N, ...]) -> [N, size]` of the agent.

    What `action_decoder` undone gives, in NumPy; where the ends are one, 0.
    """
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


def _is(space: Any, kind: str) -> bool:
    """Whether a space is of gymnax's or Gymnasium's class of that name."""
    modules = (sys.modules.get(module) for module in _MODULES)
    return any(
        module and isinstance(space, getattr(module, kind)) for module in modules
    )


def first_of(space: Any) -> int:
    """Return the first number of a Discrete space."""
    return int(getattr(space, "start", 0))  # gymnax's Discrete has none


def _numbers(space: Any) -> bool:
    """Whether a Box holds floats or integers."""
    kinds = jnp.floating, jnp.integer
    return any(jnp.issubdtype(space.dtype, kind) for kind in kinds)


def _count(what: str, space: Any) -> int:
    if int(space.n) < 1:
        raise checks.OptionError(f"{what} must have at least one value, got {space}")
    return int(space.n)


def _bounds(name: str, space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of each entry of a Box in float32, [*shape]."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        ends = [np.asarray(end).astype(np.float32) for end in (space.low, space.high)]
    try:
        low, high = (np.broadcast_to(end, space.shape) for end in ends)
    except ValueError:
        low, high = np.full(1, np.nan), np.full(1, np.nan)
    if not (low <= high).all() or (low == np.inf).any() or (high == -np.inf).any():
        raise checks.OptionError(
            f"the bounds of actions of {name} must be low <= high for each entry, got "
            f"{space}; mend them in the environment or in a wrapper"
        )
    return low, high
