"""Spaces of observations, and how agents see what environments show."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.envs.kinds import count, first_of, is_a, sizes_of
from optix.envs.parts import Parts, has_parts


def observation_shape(name: str, space: Any) -> tuple[int, ...]:
    """Return the shape in which agents see the observations of a space.

    Args:
      name: of the environment, for messages.
      space: of gymnax or Gymnasium.

    Raises:
      ValueError: it is no space of numbers, nor of several parts that are.
    """
    what = f"observations of {name}"
    if has_parts(space):
        return (Parts(name, space).size,)
    if is_a(space, "Discrete"):
        return (count(what, space),)  # one-hot
    if is_a(space, "MultiDiscrete"):
        return (sum(sizes_of(what, space)),)  # one-hot each
    if is_a(space, "Box") or is_a(space, "MultiBinary"):
        shape = tuple(int(size) for size in space.shape)
        if 0 in shape:
            raise checks.OptionError(
                f"{what} must have at least one entry, got the shape {shape}; leave what "
                "is empty out with a wrapper"
            )
        return shape or (1,)
    raise checks.OptionError(
        f"{what} must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or "
        f"Tuple of these, got {space}; make one of it with a wrapper"
    )


def observation_encoder(name: str, space: Any) -> Callable[[Any], jax.Array]:
    """Return `(observation) -> [*shape] float32` as agents see it.

    A Box is cast, one of no axis gets one; a Discrete observation becomes one-hot, and so
    each entry of a MultiDiscrete; several parts become one vector, see `Parts`.
    """
    shape = observation_shape(name, space)
    if has_parts(space) or is_a(space, "MultiDiscrete"):
        join = Parts(name, space).join
        return lambda obs: jnp.asarray(join(obs), jnp.float32)
    if is_a(space, "Discrete"):
        start = first_of(space)
        return lambda obs: jax.nn.one_hot(obs - start, shape[0], dtype=jnp.float32)
    return lambda obs: jnp.asarray(obs, jnp.float32).reshape(shape)


def hosted_shape(name: str, space: Any) -> tuple[int, ...]:
    """Return the shape in which agents see observations of Gymnasium's, on the host.

    Images have their channels last.
    """
    shape = observation_shape(name, space)
    return (*shape[1:], shape[0]) if _channels_first(space) else shape


def hosted_encoder(name: str, space: Any) -> Callable[[jax.Array], jax.Array]:
    """Return `(observations [B, ...] of `kept_dtype`) -> [B, *shape]` as agents see them.

    Those of uint8 stay so, and those of several parts are vectors already.
    """
    if has_parts(space):
        return lambda obs: obs
    if kept_dtype(space) != np.uint8:
        return jax.vmap(observation_encoder(name, space))
    shape = observation_shape(name, space)

    def encode(obs):
        obs = obs.reshape(-1, *shape)
        return jnp.moveaxis(obs, 1, -1) if _channels_first(space) else obs

    return encode


def raw_shape(name: str, space: Any) -> tuple[int, ...]:
    """Return the shape in which observations of Gymnasium's reach the device."""
    shape = observation_shape(name, space)
    if has_parts(space):
        return shape
    return tuple(int(size) for size in space.shape)


def kept_dtype(space: Any) -> np.dtype:
    """Return the type in which observations of a space of Gymnasium reach the device."""
    if has_parts(space):
        return Parts("it", space).dtype
    if is_a(space, "Discrete") or is_a(space, "MultiDiscrete"):
        return np.dtype(np.int32)
    return np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)


def _channels_first(space: Any) -> bool:
    """Whether it holds images whose channels, or frames, come first: fewer than pixels."""
    if has_parts(space):
        return False
    shape = tuple(space.shape)
    return space.dtype == np.uint8 and len(shape) == 3 and shape[0] < min(shape[1:])
