"""What kind of space an environment has, and how values go in and out of it.

A space is recognised by its type, gymnax's or Gymnasium's, never by an attribute that it
happens to have.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks

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
    if is_a(space, "Discrete"):
        return (count(f"observations of {name}", space),)  # one-hot
    if is_a(space, "Box"):
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
    if is_a(space, "Discrete"):
        return np.dtype(np.int32)
    return np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)


def _channels_first(space: Any) -> bool:
    """Whether it holds images whose channels, or frames, come first: fewer than pixels."""
    shape = tuple(space.shape)
    return space.dtype == np.uint8 and len(shape) == 3 and shape[0] < min(shape[1:])


def observation_encoder(name: str, space: Any) -> Callable[[Any], jax.Array]:
    """Return `(observation) -> [*shape] float32` as agents see it.

    A Box is cast, one of no axis gets one; a Discrete observation becomes one-hot.
    """
    shape = observation_shape(name, space)
    if is_a(space, "Discrete"):
        start = first_of(space)
        return lambda obs: jax.nn.one_hot(obs - start, shape[0], dtype=jnp.float32)
    return lambda obs: jnp.asarray(obs, jnp.float32).reshape(shape)


def is_a(space: Any, kind: str) -> bool:
    """Return whether a space is of gymnax's or Gymnasium's class of that name."""
    modules = (sys.modules.get(module) for module in _MODULES)
    classes = (getattr(module, kind, None) for module in modules if module)
    return any(known and isinstance(space, known) for known in classes)


def first_of(space: Any) -> int:
    """Return the first number of a Discrete space."""
    return int(getattr(space, "start", 0))  # gymnax's Discrete has none


def count(what: str, space: Any) -> int:
    """Return how many values a Discrete space has, or raise ValueError for none."""
    if int(space.n) < 1:
        raise checks.OptionError(f"{what} must have at least one value, got {space}")
    return int(space.n)


def sizes_of(what: str, space: Any) -> tuple[int, ...]:
    """Return how many values each entry of a MultiDiscrete has, the last axis fastest."""
    sizes = tuple(int(size) for size in np.ravel(space.nvec))
    if not sizes:
        raise checks.OptionError(f"{what} must have at least one entry, got {space}")
    return sizes
