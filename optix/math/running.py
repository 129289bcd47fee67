"""Running means and variances that merge exactly, over chunks and over devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optix.trees import count_devices

_LARGEST = 1e37  # of what moments are taken of


class Moments(NamedTuple):
    """Count, mean and variance of a stream, per feature.

    float32 on the device; `optix.host.normalizers` keeps them in float64 on the host.
    """

    count: jax.Array | np.ndarray  # []
    mean: jax.Array | np.ndarray  # [...]
    variance: jax.Array | np.ndarray  # [...] of the population; 1 where no data is


def initial_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Return the moments of no data: mean 0 and variance 1, which change nothing."""
    return Moments(jnp.float32(0), jnp.zeros(shape), jnp.ones(shape))


def merge(a: Moments, b: Moments) -> Moments:
    """Merge two disjoint streams (Chan, Golub and LeVeque, 1983).

    Written with operators alone, so that it is the same for JAX and NumPy.
    """
    count = a.count + b.count
    weight = b.count / (count + (count == 0))
    delta = b.mean - a.mean
    # a stream of no data has a weight of exactly zero, and changes nothing
    return Moments(
        count,
        a.mean + delta * weight,
        a.variance * (1 - weight)
        + b.variance * weight
        + delta * (weight * (1 - weight)) * delta,  # a weight of 0 or 1 comes first
    )


def update_moments(
    moments: Moments, batch: jax.Array, axis_name: str | None = None
) -> Moments:
    """Merge a batch of samples into the moments.

    Args:
      moments: what was seen before, of features [...].
      batch: [N, ...] samples; rows that are not finite are left out. A size beyond 1e37
        counts as that, and a variance that float32 can not hold as the greatest one.
      axis_name: devices whose equally long batches count as one.
    """
    feature_axes = tuple(range(1, batch.ndim))
    finite = jnp.isfinite(batch).all(feature_axes)  # [N]
    weight = finite.astype(jnp.float32).reshape(-1, *([1] * len(feature_axes)))
    batch = jnp.where(weight > 0, jnp.clip(batch, -_LARGEST, _LARGEST), 0.0)

    count = finite.astype(jnp.float32).sum(0)
    rows = jnp.maximum(count, 1.0)
    # from one of the rows on, for a large offset would eat the digits of the sums
    origin = batch[jnp.argmax(finite)]
    centred = jnp.where(weight > 0, batch - origin, 0.0)
    mean = (centred / rows).sum(0)
    squares = jnp.where(weight > 0, jnp.square(centred - mean) / rows, 0.0)
    own = _within_float32(Moments(count, origin + mean, squares.sum(0)))
    return _within_float32(merge(moments, pool(own, axis_name)))


def _within_float32(moments: Moments) -> Moments:
    greatest = jnp.finfo(jnp.float32).max
    return moments._replace(variance=jnp.minimum(moments.variance, greatest))


def pool(moments: Moments, axis_name: str | None) -> Moments:
    """Merge the moments that each device of `axis_name` has of its own samples."""
    if axis_name is None:
        return moments
    count_devices(axis_name)  # refuses the name of no axis
    # one meeting of the devices in place of one for each number
    flat, restore = ravel_pytree(moments)
    count, mean, variance = jax.vmap(restore)(jax.lax.all_gather(flat, axis_name))
    total = count.sum()
    share = (count / jnp.maximum(total, 1.0)).reshape(-1, *[1] * (mean.ndim - 1))
    centre = (share * mean).sum(0)
    beside = mean - centre
    spread = share * variance + (share * beside) * beside  # no share of an infinity
    return Moments(total, centre, spread.sum(0))


def inverse_deviation(moments: Moments) -> jax.Array:
    """Return one over the standard deviation, [...], whatever the unit is.

    A deviation below a ten-thousandth of the mean counts as that: it may be rounding. Of
    what has only been zero, and of no data, it is one.
    """
    variance = jnp.maximum(moments.variance, jnp.square(1e-4 * moments.mean))
    variance = jnp.minimum(variance, jnp.finfo(jnp.float32).max)
    varies = variance > 0
    return jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1.0)), 1.0)


def standardize(moments: Moments, x: jax.Array, clip: float = 10.0) -> jax.Array:
    """Shift and scale to mean 0 and variance 1, clipped at `clip` deviations."""
    scaled = (x - moments.mean) * inverse_deviation(moments)
    return jnp.clip(scaled, -clip, clip)
