"""Affine and convolutional layers."""

import jax.numpy as jnp
from flax import linen

from optix.xla.affine import apply_affine
from optix.xla.convolution import convolve


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
    """A convolution on [N, height, width, channels].

    Without padding; with `same` with so many zeros around that its size stays, of a
    stride of 1.
    """

    features: int
    size: int = 3
    stride: int = 1
    same: bool = False

    @linen.compact
    def __call__(self, x):
        """Return [N, height', width', features]."""
        shape = self.size, self.size, x.shape[-1], self.features
        kernel = self.param("kernel", linen.initializers.lecun_normal(), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        if self.same:
            around = (self.size - 1) // 2, self.size // 2
            x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
        return convolve(x, kernel, bias, self.stride)
