"""Replay in which every row is equally likely."""

import jax.numpy as jnp

from optix import checks
from optix.buffers import storage
from optix.buffers.linked import storage_of
from optix.types import Buffer, Sample
from optix.xla.threefry import unrolled


def uniform(capacity: int, *, streams: int = 0, n_step: int = 1) -> Buffer:
    """Return a replay that samples uniformly, with replacement.

    Adding and sampling cost the same at any capacity: inside a jitted scan, or a jitted
    function whose state is donated, nothing is copied. Leaves keep their own dtypes.

    Args:
      capacity: rows, below 2**31; the oldest are overwritten first.
      streams: above 0, rows are `Transition`s and observations are stored once, see
        `optix.buffers.linked.linked`; the capacity is then of observations.
      n_step: steps of a row, where there are streams.

    Raises:
      ValueError: a capacity that is no such integer; at trace time rows that are not
        like the one given to `init`, more rows than the capacity at once, and a
        `batch_size` outside [1, capacity].

    >>> import jax
    >>> buffer = uniform(100)
    >>> state = buffer.init({"obs": jnp.zeros(3)})
    >>> rows = {"obs": jnp.ones((4, 3))}
    >>> state = buffer.add(state, rows, jnp.array([True, True, False, True]))
    >>> int(buffer.size(state))
    3
    >>> sample = buffer.sample(state, jax.random.key(0), 32)
    >>> sample.items["obs"].shape
    (32, 3)
    """
    capacity = checks.positive_int("capacity", capacity)
    kept = storage_of(capacity, streams, n_step)

    def add(state, items, valid):
        return kept.push(state, items, valid)[0]

    def sample(state, key, batch_size, importance_exponent=0.0):
        del importance_exponent
        batch_size = storage.checked_batch_size(batch_size, capacity)
        index = kept.draw(state, unrolled(key), batch_size)
        return Sample(kept.rows(state, index), index, jnp.ones(batch_size))

    def update(state, index, priority, valid):
        del index, priority, valid
        return state

    return Buffer(capacity, kept.init, add, kept.size, sample, update)
