"""A convolution by whichever of two ways suits the size of the image."""

import jax
import jax.numpy as jnp

from optix.xla.affine import apply_affine

# patches hold nine copies of an image: of a large one, or of one with many channels, as
# within a deep network, that is too much memory
_PIXELS_WORTH_PATCHES = 32 * 32
_NUMBERS_WORTH_PATCHES = 4 * 32 * 32


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int = 1
) -> jax.Array:
    """Return the convolution without padding of x [N, height, width, channels].

    Small images, as those of MinAtar, are one product with their 3 by 3 patches: a third
    less time forward and back than XLA's own convolution on a CPU, and under vmap, where
    XLA's own becomes a grouped one, 2.8 times as fast on an H100. Large ones go through
    XLA's own: at 84 by 84 it is as fast on a CPU in half the memory. A sum of nine
    shifted products takes more of both than either.

    Args:
      x: images; of integers too, as a product takes them.
      kernel: [size, size, channels, features].
      bias: [features].
      stride: pixels between two places of the kernel.

    Returns:
      [N, height', width', features]; for size 3 and stride 1 two pixels less each way.
    """
    pixels = x.shape[1] * x.shape[2]
    small = pixels <= _PIXELS_WORTH_PATCHES
    small &= pixels * x.shape[3] <= _NUMBERS_WORTH_PATCHES
    if not small or kernel.shape[0] != 3 or stride != 1:
        layout = ("NHWC", "HWIO", "NHWC")
        return bias + jax.lax.conv_general_dilated(
            x.astype(kernel.dtype),
            kernel,
            (stride, stride),
            "VALID",
            dimension_numbers=layout,
        )
    height, width = x.shape[1] - 2, x.shape[2] - 2
    patches = [
        x[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return apply_affine(jnp.concatenate(patches, -1), matrix, bias)
