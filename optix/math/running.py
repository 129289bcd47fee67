"""Running means and variances that merge exactly, over chunks and over devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optix.trees import count_devices


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
        + delta * delta * weight * (1 - weight),
    )


def update_moments(
    moments: Moments, batch: jax.Array, axis_name: str | None = None
) -> Moments:
    """Merge a batch of samples into the moments.

    Args:
      moments: what was seen before, of features [...].
      batch: [N, ...] samples; rows that are not finite are left out.
      axis_name: devices whose equally long batches count as one.
    """
    feature_axes = tuple(range(1, batch.ndim))
    finite = jnp.isfinite(batch).all(feature_axes)  # [N]
    weight = finite.astype(jnp.float32).reshape(-1, *([1] * len(feature_axes)))
    batch = jnp.where(weight > 0, batch, 0.0)

    count = finite.astype(jnp.float32).sum(0)
    rows = jnp.maximum(count, 1.0)
    mean = batch.sum(0) / rows
    variance = (weight * jnp.square(batch - mean)).sum(0) / rows
    return merge(moments, pool(Moments(count, mean, variance), axis_name))


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
    spread = share * (variance + jnp.square(mean - centre))
    return Moments(total, centre, spread.sum(0))


def standardize(moments: Moments, x: jax.Array, clip: float = 10.0) -> jax.Array:
    """Shift and scale to mean 0 and variance 1, clipped at `clip` deviations."""
    scaled = (x - moments.mean) * jax.lax.rsqrt(moments.variance + 1e-8)
    return jnp.clip(scaled, -clip, clip)
