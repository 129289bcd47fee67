"""Storage of fixed capacity, the oldest rows overwritten first."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.trees import take
from optix.types import PyTree


class Storage(NamedTuple):
    """Where a buffer keeps its rows, in places 0 to capacity - 1.

    init: `(item) -> state` from one row, arrays or shapes.
    push: `(state, items [N, ...], valid [N] bool) -> (state, place [K], holds [K])`: the
        places that changed, `capacity` for none, and whether each now holds a row.
    rows: `(state, place [M]) -> items [M, ...]`.
    size: `(state) -> [] int32` rows stored.
    holds: `(state, place [M]) -> [M] bool` whether there is a row.
    draw: `(state, key, M) -> place [M]`, every row equally likely; 0 where there is none.
    """

    init: Callable[[PyTree], Any]
    push: Callable[..., tuple[Any, jax.Array, jax.Array]]
    rows: Callable[[Any, jax.Array], PyTree]
    size: Callable[[Any], jax.Array]
    holds: Callable[[Any, jax.Array], jax.Array]
    draw: Callable[..., jax.Array]


class Ring(NamedTuple):
    """Rows and where the next one goes."""

    items: PyTree  # [capacity, ...]
    cursor: jax.Array  # [] int32 the next row to write
    size: jax.Array  # [] int32 rows stored


def checked_batch_size(batch_size: Any, capacity: int) -> int:
    """Return `batch_size` as an int of at most `capacity`, or raise ValueError."""
    batch_size = checks.positive_int("batch_size", batch_size)
    if batch_size > capacity:
        raise checks.OptionError(
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
        raise checks.OptionError(
            f"{name} must have the structure given to init, "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(given)}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(given)
    for (path, x), y in zip(leaves, jax.tree.leaves(expected), strict=True):
        if (x.shape, x.dtype) != ((*lead, *y.shape), y.dtype):
            raise checks.OptionError(
                f"{name}{jax.tree_util.keystr(path)} must be {y.dtype} of shape "
                f"{(*lead, *y.shape)} as given to init, got {x.dtype} of {x.shape}"
            )


def check_push(
    items: PyTree, valid: jax.Array, row: PyTree, most: int, rule: str
) -> jax.Array:
    """Return `valid` as an array, or raise ValueError: rows unlike `row`, or too many."""
    valid = jnp.asarray(valid)
    if valid.ndim != 1 or valid.dtype != bool:
        raise checks.OptionError(
            f"valid must be [N] bool, one for each row, got {valid.dtype} {valid.shape}"
        )
    if len(valid) > most:
        raise checks.OptionError(
            f"at most {rule} = {most} rows can be added at once, got {len(valid)}; "
            "use a larger buffer or add in parts"
        )
    check_rows("items", items, row, (len(valid),))
    return valid


def empty(item: PyTree, capacity: int) -> PyTree:
    """Return zeros [capacity, ...] for rows like `item`."""
    return jax.tree.map(
        lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes_of(item)
    )


def write(stored: PyTree, place: jax.Array, items: PyTree) -> PyTree:
    """Return the rows with `items` [N, ...] at `place` [N]; beyond the end is nowhere."""
    return jax.tree.map(
        lambda old, new: old.at[place].set(new, mode="drop"), stored, items
    )


def read(stored: PyTree, place: jax.Array) -> PyTree:
    """Return the rows at `place` [M], [M, ...]."""
    return jax.tree.map(lambda x: x.at[place].get(mode="clip"), stored)


def forward(cursor: jax.Array, distance: jax.Array, capacity: int) -> jax.Array:
    """`(cursor + distance) % capacity` without an overflow of int32."""
    room = capacity - cursor
    return jnp.where(distance < room, cursor + distance, distance - room)


def plain(capacity: int) -> Storage:
    """Return a storage of whole rows, one after another."""

    def init(item):
        return Ring(empty(item, capacity), jnp.int32(0), jnp.int32(0))

    def push(ring, items, valid):
        row = jax.eval_shape(lambda tree: take(tree, 0), ring.items)
        valid = check_push(items, valid, row, capacity, "capacity")
        rank = jnp.cumsum(valid, dtype=jnp.int32) - valid
        place = jnp.where(valid, forward(ring.cursor, rank, capacity), capacity)
        count = jnp.sum(valid, dtype=jnp.int32)
        size = ring.size + jnp.minimum(count, capacity - ring.size)
        cursor = forward(ring.cursor, count, capacity)
        return Ring(write(ring.items, place, items), cursor, size), place, valid

    def holds(ring, place):
        return (place >= 0) & (place < ring.size)

    def draw(ring, key, count):
        return jax.random.randint(key, (count,), 0, jnp.maximum(ring.size, 1))

    def rows(ring, place):
        return read(ring.items, place)

    return Storage(init, push, rows, lambda ring: ring.size, holds, draw)
