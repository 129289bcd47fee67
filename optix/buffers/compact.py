"""Observations in a smaller type while they wait in a replay."""

from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.math.masks import on_observed
from optix.types import Buffer


def compact(buffer: Buffer, dtype: Any) -> Buffer:
    """Return a buffer of `Transition`s that keeps observations in another type.

    "uint8" or "bool" hold images of whole numbers exactly, in a quarter of the memory of
    float32; "float16" holds three digits of anything, in half of it. What the type can
    not hold is lost. Samples are float32 again.

    Args:
      buffer: `uniform(...)` or `prioritised(...)`.
      dtype: the type, or its name.

    Raises:
      ValueError: no type of numbers.

    >>> from optix.buffers.uniform import uniform
    >>> from optix.types import Transition
    >>> buffer = compact(uniform(1000), "uint8")
    >>> image, number = jnp.zeros((10, 10, 4)), jnp.zeros(())
    >>> state = buffer.init(Transition(image, jnp.int32(0), number, number, image))
    >>> state.items.obs.nbytes
    400000
    """
    checks.record("buffer", buffer, Buffer, "use uniform(...) or prioritised(...)")
    kept = numbers_dtype("dtype", dtype)
    whole = jnp.issubdtype(kept, jnp.integer)

    def converted(rows, convert):
        def of_tree(obs):
            return jax.tree.map(convert, obs)

        return rows._replace(
            obs=on_observed(of_tree, rows.obs),
            next_obs=on_observed(of_tree, rows.next_obs),
        )

    def shrunk(rows):
        return converted(rows, lambda x: (jnp.round(x) if whole else x).astype(kept))

    def init(item):
        return buffer.init(jax.eval_shape(shrunk, item))

    def add(state, items, valid):
        return buffer.add(state, shrunk(items), valid)

    def sample(state, key, batch_size, importance_exponent=0.0):
        batch = buffer.sample(state, key, batch_size, importance_exponent)
        items = converted(batch.items, lambda x: x.astype(jnp.float32))
        return batch._replace(items=items)

    return buffer._replace(init=init, add=add, sample=sample)


def numbers_dtype(name: str, dtype: Any) -> Any:
    """Return the type of numbers that was meant, or raise ValueError."""
    try:
        kept = None if dtype is None else jnp.dtype(dtype)
    except TypeError:
        kept = None
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    if kept is None or not any(jnp.issubdtype(kept, kind) for kind in kinds):
        raise checks.OptionError(
            f"{name} must be one of numbers, such as 'uint8' or 'float16', got {dtype!r}"
        )
    return kept
