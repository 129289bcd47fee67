"""The residual test against matrices in NumPy and its promised error rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.math.residuals import residual_test
from tests.noise import autoregressive

LENGTH = 200

one = jax.jit(residual_test)
many = jax.jit(jax.vmap(residual_test, in_axes=(0, None)))


def reference(scores):
    """Autocorrelation, its mean and deviation by matrices of size n^2."""
    n = len(scores)
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, n), 3)
    projection = np.eye(n) - basis @ np.linalg.pinv(basis)
    beside = np.eye(n, k=1) / 2 + np.eye(n, k=-1) / 2
    product = projection @ beside
    k = n - 4
    mean = np.trace(product) / k
    variance = 2 * (k * np.trace(product @ product) - np.trace(product) ** 2)
    variance /= k**2 * (k + 2)
    residuals = projection @ scores
    lag_one = residuals @ beside @ residuals / (residuals @ residuals)
    return lag_one, mean, np.sqrt(variance)


def structured(scores, count):
    found = many(jnp.asarray(scores, jnp.float32), count)
    return float(jnp.mean(found.structured))


@pytest.mark.parametrize("count", [8, 9, 30, 60, 199, 200])
@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.6])
def test_agrees_with_matrices(count, coefficient):
    rng = np.random.default_rng(count)
    scores = autoregressive(rng, 1, LENGTH, coefficient)[0]
    scores += 3.0 + 10 * (np.arange(LENGTH) / LENGTH) ** 2
    lag_one, mean, deviation = reference(scores[LENGTH - count :])
    scores[: LENGTH - count] = np.nan

    test = one(jnp.asarray(scores, jnp.float32), count)

    np.testing.assert_allclose(test.autocorrelation, lag_one, atol=2e-5)
    np.testing.assert_allclose(test.expected, mean, rtol=1e-4)
    np.testing.assert_allclose(test.deviation, deviation, rtol=1e-4)
    np.testing.assert_allclose(test.z, (lag_one - mean) / deviation, atol=2e-4)


@pytest.mark.parametrize("count", [30, 60, 200])
def test_moments_and_size_of_white_noise(count):
    noise = autoregressive(np.random.default_rng(1), 20_000, LENGTH, 0.0)
    test = many(jnp.asarray(noise, jnp.float32), count)
    error = float(test.deviation[0]) / np.sqrt(len(noise))
    assert abs(float(test.autocorrelation.mean() - test.expected[0])) < 4 * error
    np.testing.assert_allclose(test.autocorrelation.std(), test.deviation[0], rtol=0.02)
    assert 0.042 < float(jnp.mean(test.structured)) < 0.06


@pytest.mark.parametrize("count", [60, 200])
@pytest.mark.parametrize("rise", [2, 4, 8])
def test_a_saturating_curve_is_no_structure(count, rise):
    noise = autoregressive(np.random.default_rng(2), 4000, LENGTH, 0.0)
    time = np.arange(LENGTH) - (LENGTH - count)
    curve = rise * (1 - np.exp(-5 * np.maximum(time, 0) / count))
    assert structured(noise + curve, count) < 0.1


@pytest.mark.parametrize(("count", "least"), [(30, 0.3), (60, 0.6), (200, 0.98)])
def test_power_at_an_autocorrelation_of_point_three(count, least):
    noise = autoregressive(np.random.default_rng(3), 4000, LENGTH, 0.3)
    power = structured(noise, count)
    assert power > least
    stronger = autoregressive(np.random.default_rng(3), 4000, LENGTH, 0.6)
    assert structured(stronger, count) > min(power + 0.015, 0.99)


def test_negative_autocorrelation_is_not_what_is_looked_for():
    noise = autoregressive(np.random.default_rng(4), 2000, LENGTH, -0.4)
    assert structured(noise, 60) < 0.001


@pytest.mark.parametrize("change", ["offset", "factor", "cubic"])
def test_offset_factor_and_cubic_change_no_z(change):
    noise = np.float32(autoregressive(np.random.default_rng(5), 100, LENGTH, 0.3))
    time = np.linspace(-1, 1, LENGTH)
    changed = {
        "offset": noise + np.float32(1e4),
        "factor": noise * np.float32(1e-20),
        "cubic": noise + 50 * time**3 - 20 * time,
    }[change]
    before = many(jnp.asarray(noise), 120).z
    after = many(jnp.asarray(changed, jnp.float32), 120).z
    np.testing.assert_allclose(after, before, atol=5e-3)


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_too_few_scores_prove_nothing(count):
    test = one(
        jnp.asarray(np.random.default_rng(6).normal(size=20), jnp.float32), count
    )
    assert not bool(test.structured)
    assert not any(bool(jnp.isnan(x)) for x in test)


@pytest.mark.parametrize("power", [0, 1, 2, 3])
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_exact_curves_leave_nothing(power, unit):
    scores = unit * (np.arange(LENGTH) / 10 - 3) ** power
    for count in (8, 60, 200):
        test = one(jnp.asarray(scores, jnp.float32), count)
        assert not bool(test.structured)
        assert float(test.autocorrelation) == 0.0


def test_count_is_traced():
    scores = jnp.asarray(np.random.default_rng(7).normal(size=LENGTH), jnp.float32)
    traces = []

    @jax.jit
    def z(count):
        traces.append(count)
        return residual_test(scores, count).z

    eager = [float(one(scores, n).z) for n in (9, 60, 200)]
    np.testing.assert_allclose([z(n) for n in (9, 60, 200)], eager, rtol=1e-4)
    assert len(traces) == 1
