"""A learning curve of fixed size: when it is full, every second point is kept."""

import jax
import jax.numpy as jnp

POINTS = 1024
EMPTY = float("-inf")  # a point without a score; a NaN would end a run under debug_nans


def initial_curve() -> tuple[jax.Array, jax.Array]:
    """Return (points [1024] of -inf, stride [] of one round)."""
    return jnp.full((POINTS,), EMPTY, jnp.float32), jnp.int32(1)


def record(
    curve: jax.Array, stride: jax.Array, round_: jax.Array, score: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Put the score of a round at point `round // stride`, if it is one of the points."""
    full = round_ // stride >= POINTS
    thinned = jnp.concatenate([curve[::2], jnp.full((POINTS // 2,), EMPTY)])
    curve = jnp.where(full, thinned, curve)
    stride = jnp.where(full, 2 * stride, stride)
    point = jnp.where(round_ % stride == 0, round_ // stride, POINTS)
    return curve.at[point].set(score, mode="drop"), stride
