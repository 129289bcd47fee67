"""Affine layers, with weight gradients that are fast on XLA:CPU."""

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


def apply_affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Return `x @ kernel + bias` for x [..., inputs], by whatever is faster."""
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] < _ROWS_WORTH_A_TRANSPOSE:
        return x @ kernel + bias
    return affine(rows, kernel, bias).reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(linen.Module):
    """An affine layer on [..., inputs]: LeCun normal weights times `scale`, zero bias.

    Not orthogonal weights: the QR behind them deadlocks XLA:CPU under vmap, and on small
    observations they start smaller and learn later.
    """

    features: int
    scale: float = 1.0

    @linen.compact
    def __call__(self, x):
        """Return [..., features]."""

        def init(key, shape):
            return self.scale * linen.initializers.lecun_normal()(key, shape)

        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        return apply_affine(x, kernel, bias)


class Convolution(linen.Module):
    """A 3 by 3 convolution without padding, on [N, height, width, channels].

    As one product with the 3 by 3 patches of the image: XLA:CPU differentiates a product
    many times faster than a convolution.
    """

    features: int

    @linen.compact
    def __call__(self, x):
        """Return [N, height - 2, width - 2, features]."""
        shape = 3, 3, x.shape[-1], self.features
        kernel = self.param("kernel", linen.initializers.lecun_normal(), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        height, width = x.shape[1] - 2, x.shape[2] - 2
        patches = [
            x[:, row : row + height, column : column + width]
            for row in range(3)
            for column in range(3)
        ]
        matrix = kernel.reshape(-1, self.features)
        return apply_affine(jnp.concatenate(patches, -1), matrix, bias)
