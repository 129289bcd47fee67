"""What kind of time is it for a series of scores: trending, ranging or volatile?

Both questions are asked without units, so that a shift or a positive factor of the
scores changes no answer: is the slope of the recent window beyond its own uncertainty,
and do the scores spread wider around it than they did before? Noise that has always been
large is not volatile. To leave a regime takes less evidence than to enter it was needed,
so that noise does not flip it.
"""

import enum
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.math.statistics import slope_test

BLOCKS = 6  # windows kept: the recent one, and five that it is compared with


class Regime(enum.IntEnum):
    """A kind of time."""

    RANGING = 0
    TRENDING = 1  # up or down
    VOLATILE = 2


class Thresholds(NamedTuple):
    """Where a regime begins, and below what it ends.

    With the defaults, of white noise (of noise with autocorrelation .5, .8) 2 % (5 %,
    7 %) of rounds count as trending and 0 % (0 %, 1 %) as volatile.
    """

    trend: float = 1.5  # slope, in its one-sided 95 % limits
    no_trend: float = 1.0
    spread: float = 2.0  # residual standard deviation, in those of the windows before
    no_spread: float = 1.4


DEFAULTS = Thresholds()


class RegimeState(NamedTuple):
    """The latest scores and what they were taken for."""

    scores: jax.Array  # [BLOCKS * window] float32 oldest first
    count: jax.Array  # [] int32 scores so far
    regime: jax.Array  # [] int32 Regime


def initial_regime(window: int = 30) -> RegimeState:
    """Return the state before the first score: ranging.

    Args:
      window: scores that a trend is looked for in.

    Raises:
      ValueError: a window below five, in which no slope can be tested.
    """
    checks.positive_int("window", window, 5)
    return RegimeState(
        jnp.zeros(BLOCKS * window), jnp.int32(0), jnp.int32(Regime.RANGING)
    )


def update_regime(
    state: RegimeState, score: jax.Array, thresholds: Thresholds = DEFAULTS
) -> RegimeState:
    """Take in one score; what is not finite is no measurement.

    >>> state = initial_regime(window=5)
    >>> for score in range(5):
    ...     state = jax.jit(update_regime)(state, jnp.float32(score))
    >>> Regime(int(state.regime)).name
    'TRENDING'
    """
    chex.assert_rank(score, 0)
    finite = jnp.isfinite(score)
    pushed = jnp.append(state.scores[1:], score)
    scores = jnp.where(finite, pushed, state.scores)
    count = state.count + finite
    return RegimeState(scores, count, classify(scores, count, state.regime, thresholds))


def classify(
    scores: jax.Array,
    count: jax.Array | int,
    previous: jax.Array | int,
    thresholds: Thresholds = DEFAULTS,
) -> jax.Array:
    """Return the regime of the last `count` scores.

    Trending: the slope of the last window, up or down, is beyond its 95 % limit, which
    allows for autocorrelation, times the threshold. Volatile, whatever the trend: the
    residual standard deviation of the last window, times beyond that of the whole
    windows before, each around its own line. So a curve that bends is not volatile, but
    a step is, while it is in the window. What stays wild becomes what is usual: after
    two to five windows it is ranging again.

    Args:
      scores: [BLOCKS * window] oldest first; entries before the last `count` are ignored.
      count: [] int, may be traced. Below 5 there is no trend, below two windows no
        volatility.
      previous: [] int Regime before.
      thresholds: where regimes begin and end; may be traced.

    Returns:
      [] int32 Regime.
    """
    chex.assert_rank([scores, count, previous], [1, 0, 0])
    chex.assert_is_divisible(scores.shape[0], BLOCKS)
    blocks = scores.reshape(BLOCKS, -1)
    window = blocks.shape[1]
    used = jnp.minimum(count, window)
    recent = slope_test(blocks[-1], used)

    whole = count >= window * jnp.arange(BLOCKS, 1, -1)  # [BLOCKS - 1] the earlier ones
    before = jax.vmap(slope_test, in_axes=(0, None))(blocks[:-1], window)
    # windows not yet filled may hold anything
    sd = jnp.where(whole, before.residual_sd, 0.0)
    unit = jnp.where(sd.max() > 0, sd.max(), 1.0)  # squares may leave the range
    variance = jnp.square(sd / unit).sum() / jnp.maximum(whole.sum(), 1)
    usual = unit * jnp.sqrt(variance)

    def beyond(value, unit, regime, enter, leave):
        threshold = jnp.where(previous == regime, leave, enter)
        return value > threshold * unit

    limit = recent.quantile * recent.standard_error  # infinite below five scores
    trending = beyond(
        jnp.abs(recent.slope),
        limit,
        Regime.TRENDING,
        thresholds.trend,
        thresholds.no_trend,
    )
    volatile = beyond(
        recent.residual_sd,
        usual,
        Regime.VOLATILE,
        thresholds.spread,
        thresholds.no_spread,
    )
    # of scores on an exact line only rounding is left, and says nothing
    latest = jnp.arange(scores.shape[0]) >= scores.shape[0] - count
    span = jnp.max(jnp.where(latest, jnp.abs(scores - scores[-1]), 0.0))
    volatile &= (count >= 2 * window) & (recent.residual_sd > 1e-5 * span)
    return jnp.where(
        volatile,
        Regime.VOLATILE,
        jnp.where(trending, Regime.TRENDING, Regime.RANGING),
    ).astype(jnp.int32)
