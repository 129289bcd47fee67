"""The affine layer: a weight gradient that is fast on XLA:CPU, an init without QR."""

import math

import jax
import jax.numpy as jnp
from flax import linen

# below this many rows the plain gradient is as fast, and compiles sooner
_ROWS_WORTH_A_TRANSPOSE = 512


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Return `x @ kernel + bias` for x [N, inputs].

    XLA:CPU contracts over the rows of a large `x` three times slower than it multiplies
    forward, unless the transpose is made first: the barrier keeps it from being folded
    back into the product.
    """
    return x @ kernel + bias


def _affine_forward(x, kernel, bias):
    return affine(x, kernel, bias), (x, kernel)


def _affine_backward(residuals, g):
    x, kernel = residuals
    inputs, outputs = kernel.shape
    barrier = jax.lax.optimization_barrier
    narrow = outputs < inputs
    by_columns = barrier(barrier(g.T) @ x).T if narrow else barrier(x.T) @ g
    return g @ kernel.T, by_columns, g.sum(0)


affine.defvjp(_affine_forward, _affine_backward)


def orthogonal(scale: float = 1.0):
    """Return an initialiser of orthogonal matrices by Newton-Schulz iteration.

    The QR of `jax.nn.initializers.orthogonal` deadlocks XLA:CPU under vmap.
    """

    def init(key, shape, dtype=jnp.float32):
        tall = (max(shape), min(shape))
        x = jax.random.normal(key, tall, dtype)
        x = x / jnp.linalg.norm(x)  # singular values in (0, 1]: the iteration converges
        x = jax.lax.fori_loop(0, 40, lambda _, x: 1.5 * x - 0.5 * x @ (x.T @ x), x)
        return scale * (x if shape == tall else x.T)

    return init


class Dense(linen.Module):
    """An affine layer on [..., inputs] with orthogonal weights and zero bias."""

    features: int
    scale: float = math.sqrt(2.0)

    @linen.compact
    def __call__(self, x):
        """Return [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", orthogonal(self.scale), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] < _ROWS_WORTH_A_TRANSPOSE:
            return x @ kernel + bias
        return affine(rows, kernel, bias).reshape(*x.shape[:-1], self.features)
