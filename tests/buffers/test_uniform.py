"""The ring against a deque, uniform draws, and wrong calls."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import stats

from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform

KINDS = [uniform, prioritised]
ITEM = {"a": jnp.zeros(2), "b": jnp.zeros((), jnp.int32)}


def named(names):
    """Rows whose content is their name."""
    names = jnp.asarray(names, jnp.int32)
    return {"a": jnp.stack([names, -names], -1).astype(jnp.float32), "b": names}


def ring_of(state):
    return getattr(state, "ring", state)


def stored(state):
    """The names in the buffer, oldest first."""
    ring = ring_of(state)
    names = np.asarray(ring.items["b"])
    np.testing.assert_array_equal(ring.items["a"][:, 0], names)
    size, cursor = int(ring.size), int(ring.cursor)
    return [int(names[(cursor - size + k) % len(names)]) for k in range(size)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_ring_is_a_deque(kind):
    rng = np.random.default_rng(0)
    buffer, truth = kind(7), deque(maxlen=7)
    state, add = buffer.init(ITEM), jit(buffer.add)
    for start in range(1, 200, 5):
        names, valid = np.arange(start, start + 5), rng.random(5) < 0.6
        state = add(state, named(names), valid)
        truth.extend(int(x) for x in names[valid])
        assert stored(state) == list(truth)
        assert int(buffer.size(state)) == len(truth)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_rows_as_the_capacity(kind):
    buffer = kind(4)
    state = buffer.add(buffer.init(ITEM), named([1, 2, 3]), np.ones(3, bool))
    state = buffer.add(state, named([4, 5, 6, 7]), np.ones(4, bool))
    assert stored(state) == [4, 5, 6, 7]


def test_samples_are_uniform_over_the_filled_rows():
    buffer = uniform(60)
    state = buffer.add(buffer.init(ITEM), named(range(40)), np.ones(40, bool))
    draw = jit(jax.vmap(lambda key: buffer.sample(state, key, 50)))
    sample = draw(jax.random.split(jax.random.key(0), 200))
    counts = np.bincount(np.ravel(sample.index), minlength=60)
    assert not counts[40:].any()
    assert stats.chisquare(counts[:40]).pvalue > 1e-3
    np.testing.assert_array_equal(sample.items["b"], sample.index)
    assert (np.asarray(sample.weight) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_calls(kind):
    for wrong in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="capacity must be an integer >= 1"):
            kind(wrong)
    with pytest.raises(ValueError, match="capacity must be at most 2147483647"):
        kind(2**31)
    buffer = kind(8)
    state, yes = buffer.init(ITEM), np.ones(3, bool)
    with pytest.raises(ValueError, match=r"batch_size must be at most .* 8, got 9"):
        buffer.sample(state, jax.random.key(0), 9, 0.5)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        buffer.sample(state, jax.random.key(0), 0, 0.5)
    with pytest.raises(ValueError, match="at most capacity = 8 rows"):
        buffer.add(state, named(range(9)), np.ones(9, bool))
    with pytest.raises(ValueError, match="valid must be"):
        buffer.add(state, named(range(3)), np.ones((3, 1), bool))
    with pytest.raises(ValueError, match=r"items\['a'\] must be float32 of shape"):
        buffer.add(state, {**named(range(3)), "a": jnp.zeros((3, 4))}, yes)
    with pytest.raises(ValueError, match=r"items\['b'\] must be int32"):
        buffer.add(state, {**named(range(3)), "b": jnp.zeros(3)}, yes)
    with pytest.raises(ValueError, match="items must have the structure"):
        buffer.add(state, {"a": jnp.zeros((3, 2))}, yes)
