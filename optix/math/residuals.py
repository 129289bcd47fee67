"""Is there structure in a series of scores that a smooth curve does not explain?

Learning curves bend, and what bends around a straight line looks like autocorrelation:
of white noise around a saturating curve that rises by 8 of its standard deviations, a
straight line leaves "structure" in 99 % of runs of 60 scores, a cubic in 6 %.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

_DEGREE = 3  # of the curve that is taken out


class ResidualTest(NamedTuple):
    """The autocorrelation left around a cubic, and what chance would leave."""

    autocorrelation: jax.Array  # [] float32 lag one, of the residuals
    expected: jax.Array  # [] float32 of independent scores: below 0
    deviation: jax.Array  # [] float32 standard deviation of independent scores
    z: jax.Array  # [] float32 (autocorrelation - expected) / deviation; -inf where
    # there is nothing to test: below 8 scores, or on an exact curve

    @property
    def structured(self) -> jax.Array:
        """Whether chance explains it in less than 5 % of cases, [] bool."""
        return self.z > 1.645


def residual_test(scores: jax.Array, count: jax.Array | int) -> ResidualTest:
    """Test whether the last `count` scores hang together beyond a cubic in time.

    The residuals are e = M y, with M the projection onto what no cubic explains, and
    the lag-one autocorrelation is e'Ae / e'e, with 1/2 beside the diagonal of A. Of
    independent normal scores its moments are exactly (Durbin and Watson 1950)

        mean = tr(MA) / k,  variance = 2 (k tr(MAMA) - tr(MA)^2) / (k^2 (k + 2)),

    with k = count - 4. Both traces follow from the four polynomials, so nothing of size
    count^2 is made. A shift or a positive factor of the scores changes nothing.

    Args:
      scores: [N] float, oldest first; entries before the last `count` are ignored.
      count: [] int, 0 to N; may be traced.

    Returns:
      A `ResidualTest`.

    >>> wave = jnp.sin(jnp.arange(60.0))
    >>> test = jax.jit(residual_test)
    >>> bool(test(wave, 60).structured), bool(test(jnp.arange(60.0) ** 3, 60).structured)
    (True, False)
    """
    chex.assert_rank([scores, count], [1, 0])
    size = scores.shape[0]
    n = jnp.asarray(count, scores.dtype)
    used = jnp.arange(size) >= size - count
    # a large offset or unit would eat the digits of the sums
    centred = jnp.where(used, scores - scores[-1], 0.0)
    unit = jnp.max(jnp.abs(centred))
    centred = centred / jnp.where(unit > 0, unit, 1.0)

    curves = jnp.where(used, _orthonormal(size, n), 0.0)  # [4, N]
    residuals = centred
    for curve in curves:  # one by one, as rounding leaves less than all at once
        residuals = residuals - curve * jnp.sum(curve * residuals)
    squares = jnp.sum(residuals**2)
    products = jnp.sum(residuals[1:] * residuals[:-1])
    # what float32 leaves of an exact curve is no residual
    exact = squares <= n * (32 * jnp.finfo(scores.dtype).eps) ** 2
    autocorrelation = products / jnp.where(exact, 1.0, squares)

    beside = 0.5 * (_shifted(curves, 1) + _shifted(curves, -1))
    beside = jnp.where(used, beside, 0.0)  # A times each curve, [4, N]
    within = curves @ beside.T
    degrees = jnp.maximum(n - _DEGREE - 1, 1)
    trace = -jnp.trace(within)
    square_trace = (n - 1) / 2 - 2 * jnp.sum(beside**2) + jnp.sum(within**2)
    variance = 2 * (degrees * square_trace - trace**2)
    variance = variance / (degrees**2 * (degrees + 2))
    expected = trace / degrees
    deviation = jnp.sqrt(jnp.maximum(variance, jnp.finfo(scores.dtype).tiny))
    tested = (n >= 8) & ~exact
    z = jnp.where(tested, (autocorrelation - expected) / deviation, -jnp.inf)
    return ResidualTest(jnp.where(exact, 0.0, autocorrelation), expected, deviation, z)


def _orthonormal(size: int, n: jax.Array) -> jax.Array:
    """The polynomials of degree 0 to 3 that are orthonormal on the last `n` of `size`.

    By their recurrence (Gram's polynomials), as the size of a QR would have to be known.
    """
    last = jnp.maximum(n - 1, 1)
    time = 2 * (jnp.arange(size) - (size - 1)) / last + 1  # -1 to 1
    curves = [jnp.ones(size), time]
    for k in range(1, _DEGREE):
        ratio = k**2 * (n**2 - k**2) / ((4 * k**2 - 1) * last**2)
        curves.append(time * curves[-1] - ratio * curves[-2])
    stacked = jnp.stack(curves)
    inside = jnp.where(time >= -1 - 1 / last, stacked, 0.0)
    squares = jnp.sum(inside**2, axis=1, keepdims=True)
    return stacked / jnp.sqrt(jnp.maximum(squares, jnp.finfo(stacked.dtype).tiny))


def _shifted(curves, by):
    """Rows moved by one place, with a 0 for what comes in."""
    moved = jnp.roll(curves, by, axis=1)
    return moved.at[:, 0 if by > 0 else -1].set(0.0)
