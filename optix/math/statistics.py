"""Is a noisy, autocorrelated series of scores rising? A slope and its uncertainty."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Student's 95 % quantile, linear in 1/df between these: at most .7 % too large, never
# too small, and without the half second of compilation that `betainc` costs.
_DEGREES = (jnp.inf, 30.0, 10.0, 6.0, 4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.1, 1.0)
_QUANTILES = (
    *(1.6449, 1.6973, 1.8125, 1.9432, 2.1318, 2.3534),
    *(2.5582, 2.9200, 3.2253, 3.7052, 4.5480, 5.4238, 6.3138),
)


class SlopeTest(NamedTuple):
    """A least squares line through scores, and how far it can be trusted."""

    slope: jax.Array  # [] float32 score per round
    standard_error: jax.Array  # [] float32 of the slope; inf below 5 scores
    mean: jax.Array  # [] float32 of the scores
    residual_sd: jax.Array  # [] float32
    autocorrelation: jax.Array  # [] float32 lag one, of the residuals, in [-.99, .99]
    degrees_of_freedom: jax.Array  # [] float32 of the effective sample size
    quantile: jax.Array  # [] float32 Student t, one-sided 5 %
    count: jax.Array  # [] int32 scores used

    @property
    def lower(self) -> jax.Array:
        """The slope's lower 95 % limit, [] float32."""
        return self.slope - self.quantile * self.standard_error

    @property
    def upper(self) -> jax.Array:
        """The slope's upper 95 % limit, [] float32."""
        return self.slope + self.quantile * self.standard_error

    @property
    def gain_limit(self) -> jax.Array:
        """The upper limit of the gain over the scores, in residual deviations, [].

        Without residuals the sign of the slope decides.
        """
        smallest = jnp.finfo(self.residual_sd.dtype).tiny
        return self.upper * self.count / jnp.maximum(self.residual_sd, smallest)


def slope_test(scores: jax.Array, count: jax.Array | int) -> SlopeTest:
    """Test the slope of the last `count` scores, allowing for autocorrelation.

    The autocorrelation of the residuals, corrected for its bias, gives the effective
    number of independent scores, and that the standard error and the degrees of
    freedom (Santer et al. 2000, J. Geophys. Res. 105, 7337). A shift or a positive
    factor of the scores changes no conclusion. Scores on an exact line have no error,
    so the sign of their slope decides; constant scores have slope 0 and error 0.

    Args:
        scores: [N] float, oldest first; entries before the last `count` are ignored.
        count: [] int, 0 to N; may be traced.

    Returns:
        A `SlopeTest`; the slope rises with an error rate of 5 % if `lower > 0`, and
        falls if `upper < 0`.

    Example:
        >>> test = slope_test(jnp.array([0.0, 9.0, 11.0, 10.0, 12.0, 11.0, 14.0]), 6)
        >>> round(float(test.slope), 3), bool(test.lower > 0)
        (0.771, True)
    """
    chex.assert_rank([scores, count], [1, 0])
    size = scores.shape[0]
    n = jnp.asarray(count, scores.dtype)
    used = jnp.arange(size) >= size - count
    # A large offset would eat the digits of the sums below, large or tiny units would
    # leave the range of their squares: both are taken out first.
    origin = scores[-1]
    centred = jnp.where(used, scores - origin, 0.0)
    unit = jnp.max(jnp.abs(centred))
    centred = centred / jnp.where(unit > 0, unit, 1.0)
    mean = jnp.sum(centred) / jnp.maximum(n, 1)
    time = jnp.where(used, jnp.arange(size) - (size - 1) + (n - 1) / 2, 0.0)
    time_squares = jnp.maximum(jnp.sum(time**2), 0.5)
    slope = jnp.sum(time * (centred - mean)) / time_squares
    residuals = jnp.where(used, centred - mean - slope * time, 0.0)
    squares = jnp.sum(residuals**2)

    products = jnp.sum(residuals[1:] * residuals[:-1])
    lag_one = products / jnp.where(squares > 0, squares, 1.0)
    correction = jnp.where(squares > 0, 2.0, 0.0)
    autocorrelation = (n * lag_one + correction) / jnp.maximum(n - 4, 1)
    autocorrelation = jnp.clip(autocorrelation, -0.99, 0.99)
    persistence = jnp.maximum(autocorrelation, 0)
    effective = jnp.maximum(3.0, n * (1 - persistence) / (1 + persistence))
    degrees = effective - 2
    error = jnp.sqrt(squares / degrees / time_squares)
    return SlopeTest(
        slope=slope * unit,
        standard_error=jnp.where(n >= 5, error * unit, jnp.inf),
        mean=origin + mean * unit,
        residual_sd=jnp.sqrt(squares / jnp.maximum(n - 2, 1)) * unit,
        autocorrelation=autocorrelation,
        degrees_of_freedom=degrees,
        quantile=_quantile(1 / degrees),
        count=jnp.asarray(count, jnp.int32),
    )


def _quantile(inverse_degrees: jax.Array) -> jax.Array:
    """Return the table's quantile: a sum of ramps, cheaper to compile than a search."""
    knots = 1 / np.array(_DEGREES)
    widths, rises = np.diff(knots), np.diff(_QUANTILES)
    ramps = jnp.clip((inverse_degrees - knots[:-1]) / widths, 0.0, 1.0)
    return _QUANTILES[0] + jnp.sum(ramps * rises)
