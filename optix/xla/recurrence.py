"""Linear recurrences along time, by what the backend does best."""

import jax
import jax.numpy as jnp

from optix.xla.backend import on_cpu


def discounted_sums(x: jax.Array, decay: jax.Array) -> jax.Array:
    """Return y [T] with `y[t] = x[t] + decay[t] * y[t + 1]`, and nothing after the end.

    A CPU goes from step to step. An accelerator pays for every turn of a loop, so there
    the steps are combined pairwise, in about 2 log2(T) operations without a loop.

    Args:
      x: [T] float32.
      decay: [T] float32.

    >>> discounted_sums(jnp.ones(3), jnp.array([0.5, 0.5, 0.5])).tolist()
    [1.75, 1.5, 1.0]
    """
    return _step_by_step(x, decay) if on_cpu() else _pairwise(x, decay)


def _step_by_step(x, decay):
    def backwards(after, inputs):
        x, decay = inputs
        total = x + decay * after
        return total, total

    return jax.lax.scan(backwards, jnp.zeros_like(x[0]), (x, decay), reverse=True)[1]


def _pairwise(x, decay):
    def combine(later, earlier):
        """Two stretches as one: its sum without what follows, and its whole decay."""
        return earlier[0] + earlier[1] * later[0], earlier[1] * later[1]

    return jax.lax.associative_scan(combine, (x, decay), reverse=True)[0]
