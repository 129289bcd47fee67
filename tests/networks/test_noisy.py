"""Noise in weights: its size, its layers, its absence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import jit

from optix.networks.dense import Dense
from optix.networks.noisy import add_noise, apply_with_noise, perturb
from optix.networks.values import action_values
from optix.types import Discrete


@pytest.fixture(scope="module")
def params():
    return action_values((10, 10, 4), Discrete(3), hidden=(8,)).init(jax.random.key(0))[
        0
    ]


def test_noise_is_factorised_and_of_the_learned_deviation():
    layer = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    noisy = add_noise({"a": layer}, scale=0.5)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jit(jax.vmap(perturb, in_axes=(None, 0)))(noisy, keys)["a"]
    kernel, bias = np.asarray(drawn["kernel"]) - 1, np.asarray(drawn["bias"]) - 1
    # f(x) = sign(x) sqrt(|x|) has mean 0 and variance E|x| = sqrt(2 / pi)
    variance = np.sqrt(2 / np.pi)
    deviation = 0.5 / np.sqrt(3)
    np.testing.assert_allclose(kernel.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(kernel.var(0), (deviation * variance) ** 2, rtol=0.05)
    np.testing.assert_allclose(bias.var(0), deviation**2 * variance, rtol=0.05)
    # an outer product: of rank one, and the bias has its output factor
    np.testing.assert_allclose(
        kernel[:, 0, 0] * kernel[:, 1, 1], kernel[:, 0, 1] * kernel[:, 1, 0], atol=1e-5
    )
    np.testing.assert_allclose(
        kernel[:, 0, 0] * bias[:, 1], kernel[:, 0, 1] * bias[:, 0], atol=1e-5
    )


def test_every_dense_layer_is_noisy_and_no_other(params):
    noisy = add_noise(params)
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)), params, perturb(noisy, jax.random.key(1))
    )
    dense = {name: layer for name, layer in moved.items() if name != "torso"}
    dense["hidden"] = moved["torso"]["Dense_0"]
    assert all(jax.tree.leaves(dense)), moved
    assert not any(jax.tree.leaves(moved["torso"]["Convolution_0"]))


def test_without_deviation_there_is_no_noise(params):
    noisy = add_noise(params, scale=0.0)
    for a, b in zip(
        jax.tree.leaves(params),
        jax.tree.leaves(perturb(noisy, jax.random.key(1))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_layers_draw_their_own_noise():
    layer = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    drawn = perturb(add_noise({"a": layer, "b": layer}), jax.random.key(0))
    assert not np.allclose(drawn["a"]["kernel"], drawn["b"]["kernel"])


@pytest.mark.parametrize("layer", ["of optix", "of flax"])
def test_rows_have_the_noise_that_perturbs_parameters(layer):
    """A layer of optix never builds its matrices, one of flax is given them."""

    class Network(linen.Module):
        @linen.compact
        def __call__(self, obs):
            x = obs.reshape(*obs.shape[:-2], -1)
            x = jnp.tanh(Dense(5, name="hidden")(x))
            return Dense(4)(x) if layer == "of optix" else linen.Dense(4)(x)

    module = Network()
    key, obs = jax.random.key(1), jax.random.normal(jax.random.key(2), (6, 3, 2))
    noisy = add_noise(module.init(key, obs)["params"], scale=2.0)
    heard = []

    def apply(params, obs):
        heard.append(obs.shape)
        return module.apply({"params": params}, obs)

    rows = layer == "of optix"
    given = jit(lambda: apply_with_noise(apply, noisy, key, obs, dense_rows=rows))()
    assert heard == [obs.shape if rows else (1, *obs.shape[1:])]
    expected = [
        module.apply({"params": perturb(noisy, own)}, row)
        for own, row in zip(jax.random.split(key, 6), obs, strict=True)
    ]
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_that_cannot_be_met_is_refused():
    layer = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    noisy = add_noise({"a": layer})
    with pytest.raises(ValueError, match="dense_rows must be False.*'a'"):
        apply_with_noise(
            lambda params, obs: obs @ params["a"]["kernel"],
            noisy,
            jax.random.key(0),
            jnp.ones((4, 3)),
            dense_rows=True,
        )


def test_many_rows_of_constant_parameters():
    """XLA:CPU gets this wrong where the product with the deviation is fused."""
    network = action_values((6,), Discrete(4), hidden=(8,), num_atoms=5)
    params, structure = network.init(jax.random.key(0))
    noisy = add_noise(params, scale=2.0)
    key, atoms = jax.random.key(1), jnp.arange(5.0)

    def values(params, obs):
        return jax.nn.softmax(network.apply(params, structure, (), obs)[1]) @ atoms

    obs = jax.random.normal(jax.random.key(2), (256, 6))
    given, expected = (
        jax.jit(
            lambda obs, rows=rows: apply_with_noise(
                values, noisy, key, obs, dense_rows=rows
            )
        )(obs)
        for rows in (True, False)
    )
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_rows_of_images_have_the_noise_that_perturbs_parameters():
    network = action_values((10, 10, 4), Discrete(3), hidden=(8, 8), dueling=True)
    params, structure = network.init(jax.random.key(0))
    noisy = add_noise(params, scale=2.0)
    obs = jax.random.normal(jax.random.key(2), (4, 10, 10, 4))

    def apply(params, obs):
        return network.apply(params, structure, (), obs)[1]

    key = jax.random.key(1)
    given = jit(lambda: network.noisy(noisy, structure, key, obs))()
    for own, image, row in zip(jax.random.split(key, 4), obs, given, strict=True):
        expected = apply(perturb(noisy, own), image[None])[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


def test_a_network_without_a_dense_layer_is_refused():
    with pytest.raises(ValueError, match="must have a dense layer"):
        add_noise({"weights": jnp.zeros((3, 3))})
