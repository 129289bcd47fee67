"""A convolution by whichever of three ways suits backend and images."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from optix.xla.affine import apply_affine
from optix.xla.backend import on_cpu

# patches hold nine copies of an image: of a large one, or of one with many channels, as
# within a deep network, that is too much memory
_PIXELS_WORTH_PATCHES = 32 * 32
_NUMBERS_WORTH_PATCHES = 4 * 32 * 32
# numbers in the patches of all images that are learned from on a CPU, 128 MB
_PATCHES_AT_MOST = 2**25


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int = 1
) -> jax.Array:
    """Return the convolution without padding of x [N, height, width, channels].

    Small images, as those of MinAtar, are one product with their 3 by 3 patches: of XLA's
    own convolution the gradients are slow on a CPU, and under vmap it becomes a grouped
    one. Others are XLA's own, and on a CPU with other gradients, by a product with their
    patches or, where these are too many, by convolutions of a form that XLA:CPU is quick
    at: of those that it makes itself a loop around them makes it 12 to 24 times as slow.

    Args:
      x: images; of integers too, as a product takes them.
      kernel: [size, size, channels, features].
      bias: [features].
      stride: pixels between two places of the kernel.

    Returns:
      [N, height', width', features]; for size 3 and stride 1 two pixels less each way.
    """
    x, size = x.astype(kernel.dtype), kernel.shape[0]
    pixels = x.shape[1] * x.shape[2]
    small = pixels <= _PIXELS_WORTH_PATCHES
    small &= pixels * x.shape[3] <= _NUMBERS_WORTH_PATCHES
    if small and size == 3 and stride == 1:
        return _product(x, kernel, bias)
    if on_cpu() and size % stride == 0:
        return _learned(x, kernel, bias, stride)
    return bias + _plain(x, kernel, stride)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _learned(x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int):
    """Return XLA's own convolution, which is the faster one where nothing is learned."""
    return bias + _plain(x, kernel, stride)


def _forward(x, kernel, bias, stride):
    def whole(x, kernel, bias):
        blocks = in_blocks(x, kernel, stride)
        if _patches(*blocks) <= _PATCHES_AT_MOST:
            return _product(*blocks, bias)
        return bias + _with_own_gradients(x, kernel, stride)

    return jax.vjp(whole, x, kernel, bias)


def _backward(stride, gradients, g):
    del stride
    return gradients(g)


_learned.defvjp(_forward, _backward)


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


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _with_own_gradients(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Return the convolution, whose gradients are such ones with a stride of 1.

    The barriers keep XLA from folding transposes and mirrored kernels into convolutions
    of a form that XLA:CPU does number by number.
    """
    return _plain(x, kernel, stride)


def _own_forward(x, kernel, stride):
    return _plain(x, kernel, stride), (x, kernel)


def _own_backward(stride, residuals, g):
    blocks, unblocked = jax.vjp(partial(in_blocks, stride=stride), *residuals)
    x, kernel = blocks
    barrier, beyond = jax.lax.optimization_barrier, kernel.shape[0] - 1
    around = jnp.pad(g, ((0, 0), (beyond, beyond), (beyond, beyond), (0, 0)))
    mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    by_channel = barrier(x.transpose(3, 1, 2, 0)), barrier(g.transpose(1, 2, 0, 3))
    of_kernel = barrier(_plain(*by_channel)).transpose(1, 2, 0, 3)
    return unblocked((_plain(barrier(around), barrier(mirrored)), of_kernel))


_with_own_gradients.defvjp(_own_forward, _own_backward)
