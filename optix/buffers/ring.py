"""Storage of fixed capacity, the oldest rows overwritten first."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.trees import take
from optix.types import PyTree

MAX_CAPACITY = 2**31 - 1  # rows are counted in int32


class Ring(NamedTuple):
    """Rows and where the next one goes."""

    items: PyTree  # [capacity, ...]
    cursor: jax.Array  # [] int32 the next row to write
    size: jax.Array  # [] int32 rows stored


def checked_capacity(capacity: Any) -> int:
    """Return `capacity` as an int of rows that int32 can count, or raise ValueError."""
    capacity = checks.positive_int("capacity", capacity)
    if capacity > MAX_CAPACITY:
        raise ValueError(
            f"capacity must be below 2**31, got {capacity}; use several buffers"
        )
    return capacity


def checked_batch_size(batch_size: Any, capacity: int) -> int:
    """Return `batch_size` as an int of at most `capacity`, or raise ValueError."""
    batch_size = checks.positive_int("batch_size", batch_size)
    if batch_size > capacity:
        raise ValueError(
            f"batch_size must be at most the capacity {capacity}, got {batch_size}"
        )
    return batch_size


def shapes_of(tree: PyTree) -> PyTree:
    """Return the shapes and dtypes of arrays, numbers or shapes."""
    return jax.eval_shape(lambda x: x, tree)


def check_rows(
    name: str, given: PyTree, expected: PyTree, lead: tuple[int, ...]
) -> None:
    """Raise ValueError unless `given` is `expected` with the leading axes `lead`."""
    given, expected = shapes_of(given), shapes_of(expected)
    if jax.tree.structure(given) != jax.tree.structure(expected):
        raise ValueError(
            f"{name} must have the structure given to init, "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(given)}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(given)
    for (path, x), y in zip(leaves, jax.tree.leaves(expected), strict=True):
        if (x.shape, x.dtype) != ((*lead, *y.shape), y.dtype):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} must be {y.dtype} of shape "
                f"{(*lead, *y.shape)} as given to init, got {x.dtype} of {x.shape}"
            )


def empty(item: PyTree, capacity: int) -> Ring:
    """Return a ring of zeros for rows like `item`."""
    items = jax.tree.map(
        lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes_of(item)
    )
    return Ring(items, jnp.int32(0), jnp.int32(0))


def push(ring: Ring, items: PyTree, valid: jax.Array) -> tuple[Ring, jax.Array]:
    """Write the valid rows of `items` [N, ...] one after another.

    Returns:
      The ring, and where each row went, [N] int32: `capacity` if it was not valid.
    """
    capacity = jax.tree.leaves(ring.items)[0].shape[0]
    valid = jnp.asarray(valid)
    if valid.ndim != 1 or valid.dtype != bool:
        raise ValueError(
            f"valid must be [N] bool, one for each row, got {valid.dtype} {valid.shape}"
        )
    if len(valid) > capacity:
        raise ValueError(
            f"at most capacity = {capacity} rows can be added at once, got {len(valid)}; "
            "use a larger buffer or add in parts"
        )
    row = jax.eval_shape(lambda tree: take(tree, 0), ring.items)
    check_rows("items", items, row, (len(valid),))
    rank = jnp.cumsum(valid, dtype=jnp.int32) - valid
    index = jnp.where(valid, _forward(ring.cursor, rank, capacity), capacity)
    items = jax.tree.map(
        lambda old, new: old.at[index].set(new, mode="drop"), ring.items, items
    )
    count = jnp.sum(valid, dtype=jnp.int32)
    size = ring.size + jnp.minimum(count, capacity - ring.size)
    return Ring(items, _forward(ring.cursor, count, capacity), size), index


def _forward(cursor: jax.Array, distance: jax.Array, capacity: int) -> jax.Array:
    """`(cursor + distance) % capacity` without an overflow of int32."""
    room = capacity - cursor
    return jnp.where(distance < room, cursor + distance, distance - room)


def rows(ring: Ring, index: jax.Array) -> PyTree:
    """Return the rows at `index` [M], [M, ...]."""
    return jax.tree.map(lambda x: x.at[index].get(mode="clip"), ring.items)
