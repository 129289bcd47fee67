"""A convolution by whichever of three ways suits backend and images."""

import math

import jax
import jax.numpy as jnp

from optix.xla.affine import apply_affine
from optix.xla.backend import on_cpu

# of an accelerator, where patches hold nine copies of an image: of a large one, or of one
# with many channels, as within a deep network, that is too much memory
_PIXELS_WORTH_PATCHES = 32 * 32
_NUMBERS_WORTH_PATCHES = 4 * 32 * 32
# of a CPU: numbers in the patches of all images, 128 MB
_PATCHES_AT_MOST = 2**25


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int = 1
) -> jax.Array:
    """Return the convolution without padding of x [N, height, width, channels].

    On a CPU it is one product with the patches of the images, and where these are too
    many XLA's own convolution with gradients in forms that XLA:CPU is quick at: of those
    that it makes itself a loop around them makes it 12 to 24 times as slow. On an
    accelerator small images, as those of MinAtar, are a product with their 3 by 3 patches
    too, since XLA's own becomes a grouped one under vmap.

    Args:
      x: images; of integers too, as a product takes them.
      kernel: [size, size, channels, features].
      bias: [features].
      stride: pixels between two places of the kernel.

    Returns:
      [N, height', width', features]; for size 3 and stride 1 two pixels less each way.
    """
    x = x.astype(kernel.dtype)
    if on_cpu() and kernel.shape[0] % stride == 0:
        x, kernel = in_blocks(x, kernel, stride)
        if _patches(x, kernel) <= _PATCHES_AT_MOST:
            return _product(x, kernel, bias)
        return bias + own_gradients(x, kernel)
    pixels = x.shape[1] * x.shape[2]
    small = pixels <= _PIXELS_WORTH_PATCHES
    small &= pixels * x.shape[3] <= _NUMBERS_WORTH_PATCHES
    if small and kernel.shape[0] == 3 and stride == 1:
        return _product(x, kernel, bias)
    return bias + _plain(x, kernel, stride)


def in_blocks(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, jax.Array]:
    """Return images and a kernel whose convolution is the same, but with a stride of 1.

    What lies between two places of the kernel, `stride` by `stride` pixels, becomes the
    channels of one: of the patches of an 8 by 8 kernel with a stride of 4, each pixel is
    then in four and not in 64 parts.
    """
    if stride == 1:
        return x, kernel
    size, features = kernel.shape[0] // stride, kernel.shape[-1]
    count, height, width, channels = x.shape
    rows, columns = (edge // stride for edge in (height, width))
    x = x[:, : rows * stride, : columns * stride]
    x = x.reshape(count, rows, stride, columns, stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows, columns, -1)
    kernel = kernel.reshape(size, stride, size, stride, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
    return x, kernel.reshape(size, size, -1, features)


def _patches(x: jax.Array, kernel: jax.Array) -> int:
    """Return how many numbers the patches of all images are."""
    places = [edge - kernel.shape[0] + 1 for edge in x.shape[1:3]]
    return x.shape[0] * math.prod(places) * math.prod(kernel.shape[:3])


def _product(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Return the convolution with a stride of 1, as a product with patches."""
    size = kernel.shape[0]
    height, width = (edge - size + 1 for edge in x.shape[1:3])
    patches = [
        x[:, row : row + height, column : column + width]
        for row in range(size)
        for column in range(size)
    ]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return apply_affine(jnp.concatenate(patches, -1), matrix, bias)


def _plain(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=layout
    )


@jax.custom_vjp
def own_gradients(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution with a stride of 1, whose gradients are such ones too.

    The barriers keep XLA from folding transposes and mirrored kernels into convolutions
    of a form that XLA:CPU does number by number.
    """
    return _plain(x, kernel)


def _forward(x, kernel):
    return _plain(x, kernel), (x, kernel)


def _backward(residuals, g):
    x, kernel = residuals
    barrier, beyond = jax.lax.optimization_barrier, kernel.shape[0] - 1
    around = jnp.pad(g, ((0, 0), (beyond, beyond), (beyond, beyond), (0, 0)))
    mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    by_channel = barrier(x.transpose(3, 1, 2, 0)), barrier(g.transpose(1, 2, 0, 3))
    of_kernel = barrier(_plain(*by_channel)).transpose(1, 2, 0, 3)
    return _plain(barrier(around), barrier(mirrored)), of_kernel


own_gradients.defvjp(_forward, _backward)
