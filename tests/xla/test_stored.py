"""What is stored is computed once, and is otherwise the function that it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.xla.stored import stored


def wave(x):
    return jnp.sin(x) + x, 2.0 * x


def used_three_times(function):
    def uses(x):
        first, second = function(x)
        return first[:2] + 1.0, first[2:] * second[2:], first[None] - 3.0

    return uses


def sines(function):
    """How many sines the program computes."""
    compiled = jax.jit(used_three_times(function)).lower(jnp.ones(5)).compile()
    return compiled.as_text().count(" sine(")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a matter of XLA:CPU")
def test_it_is_computed_once():
    assert sines(wave) > 1  # else there is nothing to gain
    assert sines(stored(wave)) == 1


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_the_values_are_those_of_the_function(transform):
    x = jnp.linspace(-1.0, 1.0, 5)
    for given, expected in zip(transform(stored(wave))(x), wave(x), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_gradients_pass():
    def loss(x):
        first, second = stored(wave)(x)
        return first * second

    x = jnp.linspace(-1.0, 1.0, 5)
    expected = 2 * x * (jnp.cos(x) + 1.0) + 2 * (jnp.sin(x) + x)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(x), expected, rtol=1e-6)
    tangent = jax.jvp(loss, (0.5,), (1.0,))[1]
    np.testing.assert_allclose(tangent, jax.grad(loss)(0.5), rtol=1e-6)


def test_static_arguments_may_be_named_or_placed():
    draw = stored(jax.random.normal, static_argnames=("shape",))
    key = jax.random.key(0)
    np.testing.assert_array_equal(draw(key, (3,)), draw(key, shape=(3,)))
