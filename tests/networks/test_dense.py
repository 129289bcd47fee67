"""Affine layers against plain products and convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import jit

from optix.networks.dense import Convolution, Dense
from optix.xla.affine import affine


def plain(x, kernel, bias):
    return x @ kernel + bias


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 1)])
def test_gradients_are_those_of_the_plain_expression(shape):
    draw = np.random.default_rng(0).normal
    x = draw(size=(2, 11, shape[0])).astype(np.float32)  # [seeds, rows, inputs]
    kernel = draw(size=(2, *shape)).astype(np.float32)
    bias = draw(size=(2, shape[1])).astype(np.float32)
    weight = draw(size=(11, shape[1])).astype(np.float32)

    def gradients(layer):
        def objective(*args):
            return jnp.sum(weight * jnp.sin(layer(*args)))  # not linear

        return jit(jax.vmap(jax.value_and_grad(objective, (0, 1, 2))))(x, kernel, bias)

    for ours, theirs in zip(
        jax.tree.leaves(gradients(affine)),
        jax.tree.leaves(gradients(plain)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [3, 1024])  # each takes a way of its own
def test_dense_is_affine_on_the_last_axis(rows):
    layer = Dense(2)
    x = np.random.default_rng(0).normal(size=(2, rows // 2, 5)).astype(np.float32)
    params = jit(layer.init)(jax.random.key(0), x)["params"]
    params = {**params, "bias": jnp.array([1.0, -1.0])}

    @jit
    def value_and_gradient(params):
        def objective(params):
            out = layer.apply({"params": params}, x)
            return jnp.sum(out**2), out

        return jax.grad(objective, has_aux=True)(params)

    gradient, out = value_and_gradient(params)
    kernel = np.asarray(params["kernel"], np.float64)
    expected = x @ kernel + np.array([1.0, -1.0])
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        gradient["kernel"], 2 * np.einsum("abi,abo->io", x, expected), rtol=1e-3
    )
    np.testing.assert_allclose(
        gradient["bias"], 2 * expected.sum((0, 1)), rtol=1e-3, atol=1e-3
    )


def test_initial_weights_have_the_variance_of_lecun_times_the_scale():
    x = jnp.zeros((1, 100))
    layer = Dense(200, scale=3.0)
    params = jit(jax.vmap(layer.init, (0, None)))(
        jax.random.split(jax.random.key(0), 4), x
    )["params"]
    np.testing.assert_allclose(params["kernel"].std((1, 2)), 0.3, rtol=0.02)
    assert not params["bias"].any()


# few and many small images, and large ones: each takes a way of its own
@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [
        ((3, 6, 5), 3, 1),
        ((64, 6, 5), 3, 1),
        ((1, 33, 32), 3, 1),
        ((2, 9, 8), 4, 2),
        ((2, 9, 8), 3, 2),
    ],
)
def test_a_convolution_is_that_of_flax(shape, size, stride):
    x = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    ours = Convolution(7, size, stride)
    theirs = linen.Conv(7, (size, size), stride, padding="VALID")
    params = jit(ours.init)(jax.random.key(0), x)
    params = jax.tree.map(lambda p: p + 0.1, params)

    def found(layer):
        def objective(params, x):
            out = layer.apply(params, x)
            return jnp.sum(jnp.sin(out)), out

        return jit(jax.grad(objective, (0, 1), has_aux=True))(params, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        found(ours),
        found(theirs),
    )
