"""A convolution is that of its definition, and so are its gradients, in all three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.xla import convolution
from optix.xla.convolution import convolve


def slowly(x, kernel, bias, stride):
    """By the definition, in float64."""
    size = kernel.shape[0]
    rows, columns = ((edge - size) // stride + 1 for edge in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            patch = x[:, top : top + size, left : left + size]
            out[:, row, column] = np.einsum("nhwc,hwcf->nf", patch, kernel) + bias
    return out


WAYS = {
    "patches": {},
    "own gradients": {"_PATCHES_AT_MOST": 0},
    "an accelerator": {"on_cpu": lambda: False},
}
# of an image, height and width; of a kernel, size and stride
SIZES = [
    (9, 8, 3, 1),
    (9, 8, 2, 1),
    (13, 11, 4, 2),
    (18, 21, 8, 4),
    (7, 7, 7, 7),
    (9, 9, 3, 2),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("height, width, size, stride", SIZES)
def test_it_is_that_of_the_definition(way, height, width, size, stride, monkeypatch):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(convolution, name, value)
    draw = np.random.default_rng(0).normal
    x, kernel = draw(size=(2, height, width, 3)), draw(size=(size, size, 3, 5))
    bias = draw(size=5)
    expected = slowly(x, kernel, bias, stride)
    g = draw(size=expected.shape)

    def found(x, kernel, bias):
        return convolve(x, kernel, bias, stride)

    given = [jnp.float32(part) for part in (x, kernel, bias)]
    learned = jax.make_jaxpr(lambda g, *given: jax.vjp(found, *given)[1](g))
    own = size % stride > 0 if way == "patches" else (size, stride) != (3, 1)
    assert ("conv_general" in str(learned(jnp.float32(g), *given))) == own
    out, gradients = jax.jit(lambda *given: jax.vjp(found, *given))(*given)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)

    # it is linear in each of them: a gradient is what unit steps change
    for part, gradient in enumerate(gradients(jnp.float32(g))):
        parts = [x, kernel, bias]
        for entry in np.random.default_rng(1).integers(0, gradient.size, 6):
            one = np.zeros(gradient.size)
            one[entry] = 1.0
            moved = [
                old + one.reshape(gradient.shape) if n == part else old
                for n, old in enumerate(parts)
            ]
            change = np.sum((slowly(*moved, stride) - expected) * g)
            np.testing.assert_allclose(
                gradient.ravel()[entry], change, rtol=1e-4, atol=1e-3
            )


@pytest.mark.parametrize("way", WAYS)
def test_it_is_mapped_over_seeds(way, monkeypatch):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(convolution, name, value)
    draw = np.random.default_rng(0).normal
    x, kernels = (
        jnp.float32(draw(size=size)) for size in ((2, 9, 9, 3), (3, 4, 4, 3, 5))
    )
    bias = jnp.zeros(5)

    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(convolve(x, k, bias, 2) ** 2))(kernel)

    together = jax.jit(jax.vmap(gradient))(kernels)
    alone = jnp.stack([gradient(kernel) for kernel in kernels])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-3)
