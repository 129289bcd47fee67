"""Action masks: which actions are allowed, and what follows from it.

A mask that allows nothing is taken for one that allows everything: there is no right
action then, and no number becomes infinite by it. That is met where an episode is over.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def told_mask(
    given: Any, lead: Sequence[int], sizes: tuple[int, ...] | None
) -> np.ndarray | None:
    """Return what somebody says is allowed as a mask [*lead, n] bool of NumPy.

    None is returned where it is no such thing. Who raises then says whose mask it is.

    Args:
      given: bool, or numbers that are 0 or 1, one for each action, in any shape; beside
        no `lead` also a tuple of the masks of several choices, as Gymnasium has it.
      lead: the axes before those of actions.
      sizes: of the choices, of which n is the sum; None for any n.

    >>> told_mask((np.array([1, 0]), [[1, 1, 0]]), (), (2, 3)).tolist()
    [True, False, True, True, False]
    """
    lead, count = tuple(lead), math.prod(lead)
    try:
        mask = np.asarray(given)
    except ValueError:  # choices of different sizes
        each = [] if lead else list(_choices(given))
        found = tuple(choice.size for choice in each)
        if not each or (sizes is not None and found != sizes):
            return None
        mask = np.concatenate(each)
    numbers = mask.dtype.kind in "biuf" and np.isin(mask, (0, 1)).all()
    if not numbers or mask.shape[: len(lead)] != lead:
        return None
    if sizes is not None and mask.size != count * sum(sizes):
        return None
    return mask.astype(bool).reshape(*lead, mask.size // max(count, 1))


def _choices(mask: Any) -> Iterator[np.ndarray]:
    """Yield the masks of single choices in order, each flat."""
    if isinstance(mask, tuple | list) and any(np.ndim(part) for part in mask):
        for part in mask:
            yield from _choices(part)
    else:
        yield np.ravel(np.asarray(mask))


def leaves_a_choice(mask: Any, sizes: tuple[int, ...] | None = None) -> Any:
    """Return whether each part of an action has something allowed, [...] bool.

    Args:
      mask: [..., n] bool, of NumPy or JAX.
      sizes: of the parts, None for one.

    >>> mask = np.array([[True, False, False], [True, False, True]])
    >>> leaves_a_choice(mask, (2, 1)).tolist(), leaves_a_choice(mask).tolist()
    ([False, True], [True, True])
    """
    every = [mask] if sizes is None else parts(mask, sizes)
    return functools.reduce(operator.and_, (part.any(-1) for part in every))


def parts(x: Any, sizes: tuple[int, ...]) -> list[Any]:
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
