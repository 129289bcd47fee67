"""The ring against a deque; the same ring in scans, under seeds and among lanes."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.types import LANE_AXIS
from tests.quick import jit

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
def test_an_empty_buffer_gives_zeros(kind):
    buffer = kind(9)
    sample = buffer.sample(buffer.init(ITEM), jax.random.key(0), 4, 0.5)
    assert not any(np.any(x) for x in jax.tree.leaves(sample.items))
    np.testing.assert_array_equal(sample.weight, np.ones(4))
    np.testing.assert_array_equal(sample.index, np.zeros(4))


def story(buffer, key):
    """Thirty turns of add, sample and update."""

    def turn(state, key):
        add_key, sample_key, priority_key = jax.random.split(key, 3)
        valid = jax.random.bernoulli(add_key, 0.7, (3,))
        names = jax.random.randint(add_key, (3,), 1, 1000)
        state = buffer.add(state, named(names), valid)
        sample = buffer.sample(state, sample_key, 4, 0.5)
        priority = jax.random.uniform(priority_key, (4,))
        return buffer.update(state, sample.index, priority, True), sample

    return jax.lax.scan(turn, buffer.init(ITEM), jax.random.split(key, 30))


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_side_by_side_are_a_loop(kind):
    buffer = kind(20)
    keys = jax.random.split(jax.random.key(1), 3)
    together = jit(jax.vmap(lambda key: story(buffer, key)))(keys)
    alone = jit(lambda key: story(buffer, key))
    for seed, key in enumerate(keys):
        for x, y in zip(
            jax.tree.leaves(together), jax.tree.leaves(alone(key)), strict=True
        ):
            np.testing.assert_allclose(x[seed], y, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_share_one_unbatched_state(kind):
    buffer = kind(20)

    def lane(state, names, priority, key):
        names = jax.lax.all_gather(names, LANE_AXIS, tiled=True)
        state = buffer.add(state, named(names), jnp.ones(4, bool))
        sample = buffer.sample(state, key, 2, 0.5)
        index = jax.lax.all_gather(sample.index, LANE_AXIS, tiled=True)
        priority = jax.lax.all_gather(priority, LANE_AXIS, tiled=True)
        return buffer.update(state, index, priority, True)

    # out_axes=None is refused for a state that took on a lane axis
    lanes = jit(
        jax.vmap(lane, in_axes=(None, 0, 0, None), out_axes=None, axis_name=LANE_AXIS)
    )
    names, priority = jnp.array([[1, 2], [3, 4]]), jnp.ones((2, 2))
    state = lanes(buffer.init(ITEM), names, priority, jax.random.key(0))
    assert stored(state) == [1, 2, 3, 4]


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_capacity_does_not_wrap(kind):
    buffer = kind(2**31 - 1)

    def turn():
        state = buffer.init({"b": jnp.zeros((), jnp.int32)})
        state = buffer.add(state, {"b": jnp.zeros(3, jnp.int32)}, jnp.ones(3, bool))
        return buffer.sample(state, jax.random.key(0), 2, 0.5)

    assert jax.eval_shape(turn).index.shape == (2,)
