"""Priorities: frequencies, weights, sums and the maximum against NumPy."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import stats

from optix.buffers.prioritised import FLOOR, prioritised

ITEM = jnp.zeros((), jnp.int32)


@cache
def compiled(capacity):
    """The buffer, its functions compiled."""
    buffer = prioritised(capacity)
    return buffer._replace(
        add=jit(buffer.add),
        update=jit(buffer.update),
        sample=jit(buffer.sample, static_argnums=2),
    )


def filled(capacity, priority):
    """A buffer whose row i has priority[i]."""
    buffer, count = compiled(capacity), len(priority)
    rows = jnp.arange(capacity, dtype=jnp.int32)
    state = buffer.add(buffer.init(ITEM), rows, np.arange(capacity) < count)
    padded = np.zeros(capacity, np.float32)
    padded[:count] = priority
    return buffer, buffer.update(state, np.arange(capacity), padded, True)


def leaves(state):
    return np.asarray(state.tree.leaves).ravel()


def top(state):
    """The priority that a new row gets."""
    return float(np.max((state.tree.maxima or (state.tree.leaves,))[-1]))


def check_tree(state):
    """Every level is the sum and the maximum of the one below."""
    for reduce, levels in ((np.sum, state.tree.sums), (np.max, state.tree.maxima)):
        below = np.asarray(state.tree.leaves)
        for level in levels:
            parents = reduce(below, axis=1)
            flat = np.ravel(level)
            np.testing.assert_allclose(flat[: len(parents)], parents, rtol=1e-6)
            assert not flat[len(parents) :].any()
            below = np.asarray(level)


@pytest.mark.parametrize("capacity", [30, 300, 5000])
def test_rows_are_drawn_as_often_as_their_priority_says(capacity):
    rng = np.random.default_rng(0)
    priority = rng.uniform(0.5, 3, size=25) * rng.choice([1, 4], size=25)
    buffer, state = filled(capacity, priority)
    draw = jit(
        lambda state, keys: jax.vmap(
            lambda key: prioritised(capacity).sample(state, key, 20, 0.5).index
        )(keys)
    )
    for seed in range(2):
        drawn = np.ravel(draw(state, jax.random.split(jax.random.key(seed), 500)))
        counts = np.bincount(drawn, minlength=25)
        assert len(counts) == 25
        expected = priority / priority.sum() * counts.sum()
        assert stats.chisquare(counts, expected).pvalue > 1e-3
        # stratified: no row is more than a few draws a batch off
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
        priority = rng.permutation(priority)  # once more after an update
        state = buffer.update(state, np.arange(25), priority.astype(np.float32), True)


def test_one_draw_from_each_part_of_the_total():
    buffer, state = filled(100, np.ones(20))
    index = buffer.sample(state, jax.random.key(0), 20, 1.0).index
    assert np.abs(np.asarray(index) - np.arange(20)).max() <= 1
    assert (np.diff(index) >= 0).all()


@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
def test_weights(exponent):
    priority = np.random.default_rng(1).uniform(0.1, 5, size=40).astype(np.float32)
    buffer, state = filled(64, priority)
    sample = buffer.sample(state, jax.random.key(0), 32, exponent)
    probability = priority[sample.index] / priority.sum()
    weight = (40 * probability) ** -exponent
    np.testing.assert_allclose(sample.weight, weight / weight.max(), rtol=1e-4)
    np.testing.assert_array_equal(sample.items, sample.index)


def test_weights_of_extreme_priorities_are_finite():
    buffer, state = filled(4, [1e28, 1e-30, 1e28, 0.0])
    weight = np.asarray(buffer.sample(state, jax.random.key(0), 4, 1.0).weight)
    assert np.isfinite(weight).all() and weight.max() == 1


def test_new_rows_get_the_true_maximum():
    buffer = compiled(40)
    add, update = buffer.add, buffer.update
    state = buffer.init(ITEM)
    one = np.ones(1, bool)
    state = add(state, jnp.zeros(1, jnp.int32), one)
    assert leaves(state)[0] == 1  # the first of all
    state = update(state, np.array([0]), np.float32([0.25]), True)
    state = add(state, jnp.ones(1, jnp.int32), one)
    assert leaves(state)[1] == 0.25
    state = update(state, np.array([1]), np.float32([7]), True)
    state = add(state, jnp.full(1, 2, jnp.int32), one)
    assert leaves(state)[2] == 7
    state = update(state, np.array([1, 2]), np.float32([0.5, 0.5]), True)  # both down
    assert top(state) == 0.5
    state = update(state, np.array([0]), np.float32([9]), True)
    state = update(state, np.array([0]), np.float32([0.1]), True)
    # the ring comes round: every old row is overwritten
    state = update(state, np.array([0]), np.float32([9]), True)
    state = add(state, jnp.arange(37, dtype=jnp.int32), np.ones(37, bool))
    state = update(state, np.arange(1, 40), np.full(39, 0.5, np.float32), True)
    assert top(state) == 9
    before = add(state, jnp.zeros(1, jnp.int32), one)
    assert leaves(before)[0] == 9  # it replaced the greatest, which counted until then
    after = update(before, np.array([0]), np.float32([0.5]), True)
    assert top(after) == 0.5
    check_tree(after)


@pytest.mark.parametrize("capacity", [5, 16, 17, 1000])
def test_the_tree_after_many_updates(capacity):
    rng = np.random.default_rng(2)
    buffer, state = filled(capacity, np.ones(capacity))
    truth = np.ones(capacity, np.float32)
    for _ in range(1000):
        index = rng.integers(0, capacity, 8)
        priority = rng.uniform(0.01, 10, 8).astype(np.float32)
        state = buffer.update(state, index, priority, True)
        new = np.zeros(capacity, np.float32)
        np.maximum.at(new, index, priority)  # of duplicates the greatest
        truth = np.where(new > 0, new, truth)
    np.testing.assert_array_equal(leaves(state)[:capacity], truth)
    assert not leaves(state)[capacity:].any()
    total = np.sum((state.tree.sums or (state.tree.leaves,))[-1])
    np.testing.assert_allclose(total, truth.sum(dtype=np.float64), rtol=1e-6)
    assert top(state) == truth.max()
    check_tree(state)


def test_what_leaves_a_priority_alone():
    buffer, state = filled(20, np.arange(1, 7))
    old = leaves(state)
    for bad in (np.nan, np.inf, -np.inf, -1.0):
        got = buffer.update(state, np.array([2, 3]), np.float32([bad, 50]), True)
        assert leaves(got)[2] == 3 and leaves(got)[3] == 50
        got = buffer.update(state, np.array([2, 2]), np.float32([bad, 0.5]), True)
        assert leaves(got)[2] == 0.5
    got = buffer.update(state, np.arange(6), np.full(6, 9.0, np.float32), False)
    jax.tree.map(np.testing.assert_array_equal, got, state)
    for absent in (6, 19, 20, 400, -1):
        got = buffer.update(state, np.array([absent]), np.float32([9]), True)
        np.testing.assert_array_equal(leaves(got), old)
        check_tree(got)


def test_what_is_not_valid_leaves_no_phantom_in_a_full_tree():
    buffer, state = filled(40, np.ones(40))
    got = buffer.update(state, np.array([3]), np.float32([9]), False)
    jax.tree.map(np.testing.assert_array_equal, got, state)
    got = buffer.add(state, jnp.zeros(5, jnp.int32), np.zeros(5, bool))
    jax.tree.map(np.testing.assert_array_equal, got, state)


def test_zero_is_a_tiny_floor():
    buffer, state = filled(10, [0.0, 1.0, 0.0])
    assert leaves(state)[0] == np.float32(FLOOR)
    index = buffer.sample(state, jax.random.key(0), 10, 0.5).index
    assert (np.asarray(index) == 1).all()
    buffer, state = filled(10, [0.0, 0.0, 0.0])  # alone they are equally likely
    index = buffer.sample(state, jax.random.key(0), 9, 0.5).index
    assert sorted(set(np.asarray(index).tolist())) == [0, 1, 2]


@pytest.mark.parametrize("beyond", [1.0, 1.001])
def test_a_draw_at_the_very_end_finds_a_stored_row(monkeypatch, beyond):
    """A draw of one reaches the total; rounding may put it a little further."""
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape: jnp.full(shape, beyond)
    )
    compiled.cache_clear()
    for count in (1, 7, 16, 33, 290):
        priority = np.random.default_rng(count).uniform(0.1, 1, count)
        buffer, state = filled(300, priority)
        index = np.asarray(buffer.sample(state, jax.random.key(0), 300, 0.5).index)
        assert (index < count).all() and index[-1] == count - 1
    compiled.cache_clear()  # nothing else draws like that


def test_another_exponent_is_not_another_program():
    _, state = filled(20, np.ones(20))

    @jax.jit
    @chex.assert_max_traces(1)
    def sample(state, key, exponent):
        return prioritised(20).sample(state, key, 4, exponent)

    for exponent in (0.4, 0.7, 1.0):
        sample(state, jax.random.key(0), exponent)


def test_wrong_calls():
    buffer, state = filled(8, np.ones(8))
    for index, priority in (
        (np.zeros(2, np.int32), np.ones(3, np.float32)),
        (np.int32(0), np.float32(1)),
    ):
        with pytest.raises(ValueError, match=r"index and priority must both be \[M\]"):
            buffer.update(state, index, priority, True)
