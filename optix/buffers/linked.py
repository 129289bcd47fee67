"""Storage that keeps each observation once.

What a row leads to is what the row of n steps later starts from. So a place holds one
observation, and the row that starts from it with the place of the observation that it
leads to. That one is younger, and so is there for as long as the row is. Whether two rows
share an observation is decided by comparing what they bring, never by counting steps:
after a reset, a rejected row or a restored run they do not, and both are stored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.buffers import storage
from optix.buffers.storage import Storage
from optix.trees import take
from optix.types import PyTree, Transition


class Linked(NamedTuple):
    """Observations, the rows that start from them, and what each stream brought last."""

    items: PyTree  # [capacity, ...] `Transition`s without `next_obs`
    link: jax.Array  # [capacity] int32 place of the next observation; -1 without a row
    cursor: jax.Array  # [] int32 the next place to write
    filled: jax.Array  # [] int32 places that hold an observation
    size: jax.Array  # [] int32 rows stored
    age: jax.Array  # [streams, n] int32 of the last n next observations, oldest first;
    # 1 is what was written last, and what is older than the ring is not there any more


def storage_of(capacity: int, streams: int, n_step: int) -> Storage:
    """Return the storage of streams of rows, or of whole rows where `streams` is 0."""
    streams = checks.positive_int("streams", streams, 0)
    n_step = checks.positive_int("n_step", n_step)
    return linked(capacity, streams, n_step) if streams else storage.plain(capacity)


def linked(capacity: int, streams: int, n_step: int) -> Storage:
    """Return a storage of `Transition`s that keeps each observation once.

    Row i of each push continues row i of the push before it: they are the steps of one
    environment. Rows beyond `streams` are stored as well, with two observations each.

    Args:
      capacity: observations. An episode takes one more than it has rows.
      streams: rows of a push that continue those of the one before.
      n_step: steps of a row.
    """

    def init(item):
        checks.record("a row of streams", item, Transition, "leave streams at 0")
        if storage.shapes_of(item.obs) != storage.shapes_of(item.next_obs):
            raise checks.OptionError(
                "obs and next_obs of a row must be alike to be stored once, got "
                f"{storage.shapes_of(item.obs)} and {storage.shapes_of(item.next_obs)}"
            )
        return Linked(
            storage.empty(item._replace(next_obs=()), capacity),
            jnp.full(capacity, -1, jnp.int32),
            jnp.int32(0),
            jnp.int32(0),
            jnp.int32(0),
            jnp.full((streams, n_step), capacity, jnp.int32),
        )

    def push(state, items, valid):
        row = jax.eval_shape(lambda tree: take(tree, 0), state.items)
        row = row._replace(next_obs=row.obs)
        valid = storage.check_push(items, valid, row, capacity // 2, "capacity / 2")
        rows = len(valid)
        age = state.age[:rows]
        age = jnp.pad(age, ((0, rows - len(age)), (0, 0)), constant_values=capacity)

        def shared(age, obs):
            """Where an observation is already, and whether it is."""
            place = storage.forward(state.cursor, capacity - age, capacity)
            # nothing that this push could overwrite
            there = valid & (age <= capacity - 2 * rows)
            return place, there & _equal(storage.read(state.items.obs, place), obs)

        start, old_start = shared(age[:, 0], items.obs)
        old_start &= state.link[start] < 0  # one row from one place
        end, old_end = shared(age[:, -1], items.next_obs)
        old_end &= old_start  # what a row leads to is not older than the row

        new = jnp.stack([valid & ~old_start, valid & ~old_end], 1)  # [N, 2]
        rank = (jnp.cumsum(new, dtype=jnp.int32) - new.ravel()).reshape(new.shape)
        total = jnp.sum(new, dtype=jnp.int32)
        written = jnp.where(
            new, storage.forward(state.cursor, rank, capacity), capacity
        )
        start = jnp.where(old_start, start, written[:, 0])
        end = jnp.where(old_end, end, written[:, 1])

        overwritten = state.link.at[written].get(mode="fill", fill_value=-1) >= 0
        link = state.link.at[written[:, 1]].set(-1, mode="drop")
        stored = storage.write(state.items, start, items._replace(next_obs=()))
        ends = storage.write(stored.obs, written[:, 1], items.next_obs)
        ages = jnp.minimum(state.age, capacity - total) + total
        last = jnp.where(old_end, age[:, -1] + total, total - rank[:, 1])
        moved = jnp.concatenate([ages[:rows, 1:], last[: len(ages), None]], 1)
        moved = jnp.where(valid[: len(ages), None], moved, ages[:rows])
        state = Linked(
            stored._replace(obs=ends),
            link.at[start].set(end, mode="drop"),
            storage.forward(state.cursor, total, capacity),
            state.filled + jnp.minimum(total, capacity - state.filled),
            state.size + _count(valid) - _count(overwritten),
            ages.at[:rows].set(moved),
        )
        holds = jnp.concatenate([valid, jnp.zeros(rows, bool)])
        return state, jnp.concatenate([start, written[:, 1]]), holds

    def rows(state, place):
        start = storage.read(state.items, place)
        return start._replace(next_obs=storage.read(state.items.obs, state.link[place]))

    def holds(state, place):
        there = state.link.at[place].get(mode="fill", fill_value=-1) >= 0
        return there & (place >= 0)

    def draw(state, key, count):
        """Where an observation is without a row, which is rare, draw again."""

        def drawn(key):
            return jax.random.randint(key, (count,), 0, jnp.maximum(state.filled, 1))

        def again(carry):
            key, place = carry
            key, draw_key = jax.random.split(key)
            return key, jnp.where(holds(state, place), place, drawn(draw_key))

        def unfinished(carry):
            return (state.size > 0) & ~jnp.all(holds(state, carry[1]))

        key, draw_key = jax.random.split(key)
        return jax.lax.while_loop(unfinished, again, (key, drawn(draw_key)))[1]

    return Storage(init, push, rows, lambda state: state.size, holds, draw)


def _count(rows: jax.Array) -> jax.Array:
    return jnp.sum(rows, dtype=jnp.int32)


def _equal(one: PyTree, two: PyTree) -> jax.Array:
    """Whether rows [N, ...] are the same, [N]."""

    def same(x, y):
        return jnp.all((x == y).reshape(len(x), -1), axis=1)

    return jnp.all(jnp.stack(jax.tree.leaves(jax.tree.map(same, one, two))), axis=0)
