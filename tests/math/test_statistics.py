"""The slope test against scipy and against its promised error rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from optix.math import statistics
from optix.math.statistics import slope_test
from tests.noise import autoregressive

LENGTH = 200


def reference(scores):
    """Slope, standard error, quantile and residuals of all scores, by scipy."""
    n = len(scores)
    fit = stats.linregress(np.arange(n), scores)
    residuals = scores - fit.intercept - fit.slope * np.arange(n)
    lag_one = np.sum(residuals[1:] * residuals[:-1]) / np.sum(residuals**2)
    rho = np.clip((n * lag_one + 2) / (n - 4), -0.99, 0.99)
    effective = max(3.0, n * (1 - max(rho, 0)) / (1 + max(rho, 0)))
    error = fit.stderr * np.sqrt((n - 2) / (effective - 2))
    return fit.slope, error, stats.t.ppf(0.95, effective - 2), rho, residuals


one = jax.jit(slope_test)
many = jax.jit(jax.vmap(slope_test, in_axes=(0, None)))


@pytest.mark.parametrize("count", [5, 12, 60, 199, 200])
@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.6, 0.95])
def test_agrees_with_scipy(count, coefficient):
    rng = np.random.default_rng(count)
    noise = autoregressive(rng, 1, LENGTH, coefficient)[0]
    scores = 3.0 + 0.02 * np.arange(LENGTH) + noise
    ignored = LENGTH - count
    slope, error, quantile, rho, residuals = reference(scores[ignored:])
    scores[:ignored] = np.nan

    test = one(jnp.asarray(scores, jnp.float32), count)

    np.testing.assert_allclose(test.slope, slope, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(test.standard_error, error, rtol=2e-3)
    np.testing.assert_allclose(test.autocorrelation, rho, atol=2e-4)
    np.testing.assert_allclose(test.mean, scores[ignored:].mean(), rtol=1e-5)
    sd = np.sqrt(np.sum(residuals**2) / (count - 2))
    np.testing.assert_allclose(test.residual_sd, sd, rtol=1e-4)
    assert quantile * 0.999 <= test.quantile <= quantile * 1.01
    assert int(test.count) == count


@pytest.mark.parametrize("degrees", [1, 1.3, 2.2, 5, 8, 20, 58, 198])
def test_quantile_table_errs_by_one_percent_at_most(degrees):
    knots = 1 / np.array(statistics._DEGREES)
    table = np.interp(1 / degrees, knots, statistics._QUANTILES)
    exact = stats.t.ppf(0.95, degrees)
    assert exact * 0.9999 <= table <= exact * 1.01


@pytest.mark.parametrize("count", [30, 60, 200])
@pytest.mark.parametrize("coefficient", [0.0, 0.3, 0.5, 0.8])
def test_size_is_nominal(count, coefficient):
    rng = np.random.default_rng(1)
    noise = autoregressive(rng, 10_000, LENGTH, coefficient)
    test = many(jnp.asarray(noise, jnp.float32), count)
    assert 0.03 < float(jnp.mean(test.lower > 0)) < 0.07
    assert 0.03 < float(jnp.mean(test.upper < 0)) < 0.07


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.8])
def test_power_rises_with_the_slope(coefficient):
    rng = np.random.default_rng(2)
    noise = autoregressive(rng, 2000, LENGTH, coefficient)
    slopes = [0.0, 0.01, 0.02, 0.05, 0.2]
    power = [
        float(jnp.mean(many(jnp.asarray(noise + s * np.arange(LENGTH)), 60).lower > 0))
        for s in slopes
    ]
    assert power == sorted(power)
    assert power[-1] > 0.85
    assert power[2] > 1.5 * power[0]


@pytest.mark.parametrize("change", ["offset", "factor"])
def test_offset_and_factor_change_no_verdict(change):
    rng = np.random.default_rng(3)
    noise = autoregressive(rng, 500, LENGTH, 0.5)
    scores = np.float32(
        50 * (noise + rng.normal(0, 0.02, (500, 1)) * np.arange(LENGTH))
    )
    changed = (
        scores + np.float32(1e6) if change == "offset" else scores * np.float32(1e-3)
    )
    before, after = many(scores, 120), many(changed, 120)
    rising, falling = np.asarray(before.lower > 0), np.asarray(before.upper < 0)
    assert 50 < rising.sum() < 450
    assert 50 < falling.sum() < 450
    np.testing.assert_array_equal(after.lower > 0, rising)
    np.testing.assert_array_equal(after.upper < 0, falling)


@pytest.mark.parametrize("value", [0.0, 500.0, -1e6, 1e-30])
def test_constant_scores_have_slope_and_error_zero(value):
    test = one(jnp.full(LENGTH, value), 60)
    assert all(bool(jnp.isfinite(x)) for x in test)
    assert float(test.slope) == 0.0
    assert float(test.standard_error) == 0.0


@pytest.mark.parametrize("slope", [-3.0, 2e-4])
def test_the_sign_decides_on_an_exact_line(slope):
    test = one(slope * jnp.arange(64.0), 33)
    assert bool(test.lower > 0) == (slope > 0)
    assert bool(test.upper < 0) == (slope < 0)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_too_few_scores_prove_nothing(count):
    test = one(jnp.arange(10.0) ** 2, count)
    assert np.isfinite(test.slope)
    assert not bool(test.lower > 0)
    assert float(test.standard_error) == np.inf


def test_extreme_units_neither_overflow_nor_vanish():
    scores = jnp.asarray(np.random.default_rng(4).normal(size=LENGTH), jnp.float32)
    plain = one(scores, 100)
    for unit in (1e-25, 1e25):
        scaled = one(scores * unit, 100)
        np.testing.assert_allclose(scaled.slope / unit, plain.slope, rtol=1e-4)
        np.testing.assert_allclose(
            scaled.standard_error / unit, plain.standard_error, rtol=1e-4
        )


def test_count_is_traced():
    scores = jnp.asarray(np.random.default_rng(5).normal(size=LENGTH), jnp.float32)
    traces = []

    @jax.jit
    def slopes(count):
        traces.append(count)
        return slope_test(scores, count).slope

    eager = [float(one(scores, n).slope) for n in (7, 60, 200)]
    np.testing.assert_allclose([slopes(n) for n in (7, 60, 200)], eager, rtol=1e-5)
    assert len(traces) == 1


def test_ranks_are_asserted():
    with pytest.raises(AssertionError):
        slope_test(jnp.zeros((3, 4)), 2)
