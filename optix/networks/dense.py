"""Affine and convolutional layers."""

import jax.numpy as jnp
from flax import linen

from optix.xla.affine import apply_affine


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
