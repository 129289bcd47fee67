"""Action masks: which actions are allowed, and what follows from it.

A mask that allows nothing is taken for one that allows everything: there is no right
action then, and no number becomes infinite by it. That is met where an episode is over.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix.types import Masked, PyTree

# finite: the entropy of what has no probability, and its gradient, are zero and not NaN
NEVER = -1e9


def observed(obs: PyTree) -> PyTree:
    """Return an observation without its mask."""
    return obs.obs if isinstance(obs, Masked) else obs


def mask_of(obs: PyTree) -> Any:
    """Return the mask [..., n] bool of an observation, None where it has none."""
    return obs.action_mask if isinstance(obs, Masked) else None


def on_observed(function: Callable[[Any], Any], obs: PyTree) -> PyTree:
    """Return the function of an observation; a mask stays what it is."""
    if isinstance(obs, Masked):
        return obs._replace(obs=function(obs.obs))
    return function(obs)


def allowed(mask: Any, sizes: tuple[int, ...] | None = None) -> Any:
    """Return the mask with everything allowed where nothing is.

    Of one mask it is an array of NumPy if that is one.

    Args:
      mask: [..., n] bool.
      sizes: of the parts of an action, each of which has a mask of its own; None for one.

    >>> allowed(jnp.array([[False, True], [False, False]])).tolist()
    [[False, True], [True, True]]
    """
    if sizes is None or len(sizes) == 1:
        return mask | ~mask.any(-1, keepdims=True)
    return jnp.concatenate([allowed(part) for part in parts(mask, sizes)], -1)


def parts(x: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
    """Return the stretches [..., size] of [..., sum(sizes)]."""
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [x[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def mask_out(
    x: jax.Array, mask: jax.Array | None, sizes: tuple[int, ...] | None = None
) -> jax.Array:
    """Return logits or values [..., n] that no policy prefers where it must not.

    >>> mask_out(jnp.array([3.0, 1.0]), jnp.array([False, True])).tolist()
    [-1000000000.0, 1.0]
    """
    return x if mask is None else jnp.where(allowed(mask, sizes), x, NEVER)


def random_action(
    key: jax.Array, mask: jax.Array, sizes: tuple[int, ...] | None = None
) -> jax.Array:
    """Return an allowed action [...] int32 of each row of a mask [..., n], all alike.

    With sizes it is [..., len(sizes)], each part by its own mask.
    """
    if sizes is not None:
        keys = jax.random.split(key, len(sizes))
        drawn = map(random_action, keys, parts(mask, sizes))
        return jnp.stack(list(drawn), -1)
    logits = mask_out(jnp.zeros(mask.shape, jnp.float32), mask)
    return jax.random.categorical(key, logits).astype(jnp.int32)
