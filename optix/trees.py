"""Small functions on pytrees that several parts need."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from optix.types import LANE_AXIS, MAX_INT32, PyTree

Tree = TypeVar("Tree")
_LARGE = 2**14  # numbers from which a leaf is read by itself


def select(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    """Return `new` where the scalar `condition` holds, else `old`, leaf by leaf.

    PRNG key leaves are selected like any other.
    """
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def select_rows(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    """Return rows of `new` where `condition` [N] holds, else of `old`, leaf by leaf."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition.reshape(-1, *[1] * (b.ndim - 1)), a, b),
        new,
        old,
    )


def take(tree: Tree, index: jax.Array | int) -> Tree:
    """Return row `index` of every leaf's first axis."""
    return jax.tree.map(lambda x: x[index], tree)


def repeat(tree: Tree, count: int) -> Tree:
    """Return the tree with a new leading axis of `count` copies."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), tree)


def all_finite(tree: PyTree) -> jax.Array:
    """Return whether every float of the tree is finite, [] bool."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    # One reduction over all small leaves: one for each takes longer to compile. To join a
    # million numbers though takes XLA:CPU on several threads 50 ms, to read them 0.2.
    parts = [jnp.ravel(x) for x in floats if x.size < _LARGE]
    parts = [jnp.concatenate(parts)] if parts else []
    parts += [x for x in floats if x.size >= _LARGE]
    return jnp.stack([jnp.bool_(True), *(jnp.isfinite(x).all() for x in parts)]).all()


def differs(a: PyTree, b: PyTree) -> jax.Array:
    """Return whether any leaf of two equally shaped trees differs, [] bool."""
    unequal = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.any(x != y), a, b))
    return jnp.stack(unequal).any() if unequal else jnp.bool_(False)


def saturating_add(count: jax.Array, steps: jax.Array | int) -> jax.Array:
    """Return `count + steps` [] int32; a count beyond 32 bits stays at its end.

    >>> saturating_add(jnp.int32(2**31 - 3), 40).tolist()
    2147483647
    """
    total = count + jnp.asarray(steps, count.dtype)
    return jnp.where(total < count, MAX_INT32, total)


def next_turn(count: jax.Array, period: int = 1) -> jax.Array:
    """Return `count + 1` [] int32; before 32 bits end it goes back by one period.

    So what is due at every `period`-th turn stays so for ever.

    >>> next_turn(jnp.int32(2**31 - 1)).tolist(), next_turn(jnp.int32(7), 50).tolist()
    (2147483647, 8)
    """
    last = MAX_INT32 - MAX_INT32 % period
    return jnp.where(count >= last, last - period, count) + 1


def gather_lanes(tree: Tree, lanes: int) -> Tree:
    """Concatenate [N, ...] leaves of all lanes to [L * N, ...], without a lane axis.

    So a memory that the lanes share stays unbatched. A single lane is not mapped over,
    and its tree is returned as it is.
    """
    if lanes == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, LANE_AXIS, tiled=True), tree)


def mean_lanes(tree: Tree, lanes: int) -> Tree:
    """Return the mean over the lanes of every leaf, without a lane axis."""
    return tree if lanes == 1 else jax.lax.pmean(tree, LANE_AXIS)


def mean_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Return the mean over the devices of `axis_name`, if there are several."""
    if axis_name is None:
        return tree
    count_devices(axis_name)  # refuses the name of no axis
    # one meeting of the devices in place of one for each leaf
    flat, restore = ravel_pytree(jax.lax.optimization_barrier(tree))
    return restore(jax.lax.pmean(flat, axis_name))


def on_all_devices(condition: jax.Array, axis_name: str | None) -> jax.Array:
    """Return whether a condition holds on every device of `axis_name`."""
    if axis_name is None:
        return condition
    return jax.lax.pmin(condition.astype(jnp.int32), axis_name) > 0


def count_devices(axis_name: str | None) -> int:
    """Return how many devices `axis_name` spans, one without it; nothing is computed.

    Raises:
      ValueError: nothing around the call maps an axis of that name.
    """
    if axis_name is None:
        return 1
    try:
        return jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"axis_name={axis_name!r} must be that of a mapped axis around the call, as "
            f"in jax.pmap(..., axis_name={axis_name!r}), but no axis is called so"
        ) from None
