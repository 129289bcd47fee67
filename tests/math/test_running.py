"""Running moments against NumPy on all the data at once, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.math.running import (
    Moments,
    initial_moments,
    inverse_deviation,
    merge,
    standardize,
)
from optix.math.running import update_moments as eager_observe

observe = jit(eager_observe)


def stream(seed, n=500, features=(3,)):
    rng = np.random.default_rng(seed)
    # far from zero, where the textbook formula of the variance loses its digits
    return rng.normal(
        loc=[500.0, -2.0, 0.0], scale=[0.5, 3.0, 1e-3], size=(n, *features)
    )


def assert_moments(moments, rows, rtol=1e-4):
    rows = np.asarray(rows, np.float64)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=rtol)


@pytest.mark.parametrize("seed", range(4))
def test_any_chunks_give_the_moments_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 37, 150], size=8)
    rows = stream(seed, n=sizes.sum()).astype(np.float32)
    moments = initial_moments((3,))
    for chunk in np.split(rows, sizes.cumsum()[:-1]):
        moments = observe(moments, chunk)
    assert_moments(moments, rows)


def test_merging_is_symmetric_and_knows_nothing():
    rows = stream(0, n=300).astype(np.float32)
    a, b = (observe(initial_moments((3,)), x) for x in np.split(rows, [150]))
    assert_moments(merge(a, b), rows)
    assert_moments(merge(b, a), rows)
    nothing = initial_moments((3,))
    for merged in (merge(a, nothing), merge(nothing, a)):
        jax.tree.map(np.testing.assert_array_equal, merged, a)
    empty = merge(nothing, nothing)
    assert empty.count == 0 and (empty.variance == 1).all() and (empty.mean == 0).all()


def test_rows_that_are_not_finite_are_left_out():
    rows = stream(1, n=60).astype(np.float32)
    spoilt = rows.copy()
    spoilt[7, 0], spoilt[20, 2], spoilt[41, 1] = np.nan, np.inf, -np.inf
    good = np.delete(rows, [7, 20, 41], axis=0)
    assert_moments(observe(initial_moments((3,)), jnp.asarray(spoilt)), good)
    before = observe(initial_moments((3,)), jnp.asarray(good))
    after = observe(before, np.full((1, 3), np.nan))
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_images_and_scalars():
    images = np.random.default_rng(2).random((40, 4, 5, 2)).astype(np.float32)
    assert_moments(observe(initial_moments((4, 5, 2)), jnp.asarray(images)), images)
    numbers = images[:, 0, 0, 0]
    moments = observe(initial_moments(), jnp.asarray(numbers))
    assert moments.mean.shape == ()
    assert_moments(moments, numbers)


def test_two_devices_are_one():
    rows = stream(3, n=80).astype(np.float32)
    rows[13, 1] = np.nan  # the devices then hold different numbers of rows
    before = observe(initial_moments((3,)), stream(4, n=37).astype(np.float32))
    split = jit(
        jax.vmap(
            lambda x: eager_observe(before, x, axis_name="device"), axis_name="device"
        )
    )(rows.reshape(2, 40, 3))
    whole = observe(before, rows)
    for device in range(2):
        jax.tree.map(
            lambda x, y, d=device: np.testing.assert_allclose(x[d], y, rtol=1e-5),
            split,
            whole,
        )


def test_standardize():
    rows = stream(5).astype(np.float32)
    moments = observe(initial_moments((3,)), rows)
    scaled = np.asarray(standardize(moments, rows), np.float64)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-3)
    far = Moments(jnp.float32(1), jnp.zeros(2), jnp.ones(2))
    clipped = standardize(far, jnp.array([1e6, -3.0]), clip=2.0)
    np.testing.assert_array_equal(clipped, [2.0, -2.0])
    unseen = standardize(initial_moments((3,)), jnp.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(unseen, [1.0, -2.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-15, 1e-6, 1.0, 1e6, 1e18])
def test_any_unit_is_scaled_to_one(unit):
    rows = np.random.default_rng(6).normal(1.0, 2.0, (200, 2)) * unit
    moments = observe(initial_moments((2,)), rows.astype(np.float32))
    scale = inverse_deviation(moments)
    np.testing.assert_allclose(scale * rows.std(0), 1, rtol=1e-4)
    scaled = standardize(moments, rows.astype(np.float32))
    np.testing.assert_allclose(scaled, (rows - rows.mean(0)) / rows.std(0), atol=1e-4)


@pytest.mark.parametrize("size", [1e19, 1e25, 3e38])
def test_moments_are_finite_whatever_the_size(size):
    rows = np.float32([[size, 1.0], [-size, 2.0], [size / 2, 3.0], [np.inf, 9.0]])
    moments = initial_moments((2,))
    for _ in range(3):
        moments = observe(moments, rows)
    assert all(np.isfinite(x).all() for x in moments)
    np.testing.assert_allclose([moments.mean[1], moments.variance[1]], [2.0, 2 / 3])
    assert 0 < inverse_deviation(moments)[0] <= 1e-18
    split = jit(
        jax.vmap(
            lambda x: eager_observe(initial_moments((2,)), x, axis_name="device"),
            axis_name="device",
        )
    )(np.stack([rows, np.full_like(rows, np.nan)]))
    assert all(np.isfinite(x).all() for x in split)


def test_an_offset_does_not_eat_the_variance():
    rng = np.random.default_rng(7)
    rows = (1e6 + rng.normal(size=(8192, 1))).astype(np.float32)
    moments = initial_moments((1,))
    for _ in range(20):
        moments = observe(moments, rows)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(0), atol=0.1)
    np.testing.assert_allclose(moments.variance, exact.var(0), rtol=0.02)


def test_what_does_not_vary_is_not_blown_up():
    still = observe(initial_moments((3,)), np.tile(np.float32([0.0, 1.0, 1e6]), (9, 1)))
    np.testing.assert_allclose(inverse_deviation(still), [1.0, 1e4, 1e-2], rtol=1e-3)
    np.testing.assert_array_equal(standardize(still, still.mean), np.zeros(3))
    np.testing.assert_array_equal(inverse_deviation(initial_moments()), 1.0)
