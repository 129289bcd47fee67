"""Affine and convolutional layers."""

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
    """A 3 by 3 convolution without padding, on [N, height, width, channels]."""

    features: int

    @linen.compact
    def __call__(self, x):
        """Return [N, height - 2, width - 2, features]."""
        shape = 3, 3, x.shape[-1], self.features
        kernel = self.param("kernel", linen.initializers.lecun_normal(), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.features,))
        return convolve(x, kernel, bias)
