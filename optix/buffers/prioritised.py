"""Replay in which rows are as likely as their priority."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.buffers import storage
from optix.buffers.linked import storage_of
from optix.types import Buffer, Sample
from optix.xla.threefry import unrolled

BRANCHES = 16  # measured on CPU against 2 to 128: fastest at 10 k and at 1 M rows
UP_TO = np.triu(np.ones((BRANCHES, BRANCHES), np.float32))
PLACES = np.arange(BRANCHES, dtype=np.int32)
FLOOR, CEILING = 1e-30, 1e28  # the sum of 2**31 priorities is finite


class Tree(NamedTuple):
    """Priorities, their sums and their maxima; a node's children are one row.

    Level 0 is the parents of the leaves, the last has one row. A parent is always
    computed from its children, so rounding errors do not add up.
    """

    leaves: jax.Array  # [ceil(capacity / 16), 16] float32, 0 where nothing is stored
    sums: tuple[jax.Array, ...]  # each [ceil(nodes below / 16), 16] float32
    maxima: tuple[jax.Array, ...]  # as sums


class Prioritised(NamedTuple):
    """Rows and their priorities."""

    ring: Any  # of the storage
    tree: Tree


def prioritised(capacity: int, *, streams: int = 0, n_step: int = 1) -> Buffer:
    """Return a prioritised replay (https://arxiv.org/abs/1511.05952).

    Priorities are stored as they are given: the caller passes |td_error|**alpha. They
    are held to [1e-30, 1e28]; a priority of zero so becomes a row that is practically
    never drawn. New rows get the greatest priority stored, 1 in an empty buffer. A NaN,
    infinite or negative priority, or one of a row that is not stored, changes nothing;
    of several for the same row the greatest counts.

    Samples are stratified: one from each of `batch_size` equal parts of the total. Their
    weights are (size * probability)**-importance_exponent over the greatest of the
    sample. The exponent is traced.

    Adding and updating M rows costs O(M log capacity), sampling as well; inside a jitted
    scan, or a jitted function whose state is donated, nothing is copied.

    Args:
      capacity: rows, below 2**31; the oldest are overwritten first.
      streams: above 0, rows are `Transition`s and observations are stored once, see
        `optix.buffers.linked.linked`; the capacity is then of observations.
      n_step: steps of a row, where there are streams.

    Raises:
      ValueError: a capacity that is no such integer; at trace time rows that are not
        like the one given to `init`, more rows than the capacity at once, a
        `batch_size` outside [1, capacity], and an index and priority that are not [M].

    >>> buffer = prioritised(100)
    >>> state = buffer.init({"obs": jnp.zeros(())})
    >>> state = buffer.add(state, {"obs": jnp.arange(3.0)}, jnp.ones(3, bool))
    >>> state = buffer.update(state, jnp.arange(3), jnp.array([0.0, 9.0, 0.0]), True)
    >>> sample = buffer.sample(state, jax.random.key(0), 4, 0.5)
    >>> sample.items["obs"].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    capacity = checks.positive_int("capacity", capacity)
    kept = storage_of(capacity, streams, n_step)

    def init(item):
        return Prioritised(kept.init(item), _empty_tree(capacity))

    def add(state, items, valid):
        stored, place, holds = kept.push(state.ring, items, valid)
        top = jnp.max((state.tree.maxima or (state.tree.leaves,))[-1])
        top = jnp.where(kept.size(state.ring) > 0, top, 1.0)
        priority = jnp.where(holds, top, 0.0)
        return Prioritised(
            stored, _write(state.tree, place, priority, place < capacity)
        )

    def size(state):
        return kept.size(state.ring)

    def sample(state, key, batch_size, importance_exponent):
        batch_size = storage.checked_batch_size(batch_size, capacity)
        uniform = jax.random.uniform(unrolled(key), (batch_size,))
        fraction = (jnp.arange(batch_size) + uniform) / batch_size
        index, priority = _descend(state.tree, fraction)
        # in logarithms: the weight of the smallest priority is finite as well, and the
        # size and the total cancel in the ratio to the greatest weight
        log_weight = -importance_exponent * jnp.log(jnp.maximum(priority, FLOOR))
        weight = jnp.exp(log_weight - jnp.max(log_weight))
        return Sample(kept.rows(state.ring, index), index, weight)

    def update(state, index, priority, valid):
        index, priority = jnp.asarray(index), jnp.asarray(priority)
        if index.ndim != 1 or index.shape != priority.shape:
            raise checks.OptionError(
                "index and priority must both be [M], one priority for each row, "
                f"got {index.shape} and {priority.shape}"
            )
        stored = kept.holds(state.ring, index)
        sound = jnp.isfinite(priority) & (priority >= 0)
        tree = _write(
            state.tree,
            index,
            jnp.clip(priority, FLOOR, CEILING).astype(jnp.float32),
            valid & stored & sound,
        )
        return state._replace(tree=tree)

    return Buffer(capacity, init, add, size, sample, update)


def _empty_tree(capacity: int) -> Tree:
    """A tree without priorities."""
    groups = -(-capacity // BRANCHES)
    leaves, levels = jnp.zeros((groups, BRANCHES)), []
    while groups > 1:
        groups = -(-groups // BRANCHES)
        levels.append(jnp.zeros((groups, BRANCHES)))
    # separate arrays, so that the state can be donated
    return Tree(leaves, tuple(levels), tuple(jnp.zeros_like(x) for x in levels))


def _write(tree: Tree, index: jax.Array, priority: jax.Array, valid: jax.Array) -> Tree:
    """Set the leaves at `index` [M] where `valid`, and everything above them."""
    group = jnp.where(valid, index // BRANCHES, len(tree.leaves))
    place = group, index % BRANCHES
    # two writes, each of which comes out the same in any order of its rows
    leaves = tree.leaves.at[place].set(0.0, mode="drop")
    leaves = leaves.at[place].max(priority, mode="drop")
    sums = _refresh(leaves, tree.sums, group, jnp.sum)
    maxima = _refresh(leaves, tree.maxima, group, jnp.max)
    return Tree(leaves, sums, maxima)


def _refresh(below, levels, group, reduce):
    """Recompute the parents of the changed groups [M], level by level."""
    refreshed = []
    for level in levels:
        # zero beyond the end: what is dropped must not become a parent's phantom
        value = reduce(below.at[group].get(mode="fill", fill_value=0.0), axis=-1)
        parent, child = group // BRANCHES, group % BRANCHES
        below, group = level.at[parent, child].set(value, mode="drop"), parent
        refreshed.append(below)
    return tuple(refreshed)


def _descend(tree: Tree, fraction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the leaves [M] at fractions [M] of the total, and their priorities.

    Rounding may put the remainder at or beyond the end of a row: then it is the last
    child with a priority. One without is never taken.
    """
    levels = (tree.leaves, *tree.sums)[::-1]
    group = jnp.zeros(fraction.shape, jnp.int32)
    remainder = fraction * jnp.sum(levels[0])
    chosen = remainder
    for level in levels:
        row = level.at[group].get(mode="clip")  # [M, BRANCHES]
        # running sums: as a product they take half the time of a cumsum on CPU
        end = jnp.matmul(row, UP_TO, precision="highest")
        filled = row > 0
        there = filled & (end > remainder[:, None])
        first = jnp.min(jnp.where(there, PLACES, BRANCHES), axis=-1)
        last = jnp.max(jnp.where(filled, PLACES, 0), axis=-1)  # 0 of an empty tree
        child = jnp.where(first < BRANCHES, first, last)
        chosen = jnp.take_along_axis(row, child[:, None], axis=-1)[:, 0]
        ended = jnp.take_along_axis(end, child[:, None], axis=-1)[:, 0]
        remainder = remainder - (ended - chosen)
        group = group * BRANCHES + child
    return group, chosen
