"""Convolutions by size and by name, each against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

import optix
from optix.networks.continuous import actor_and_critic
from optix.networks.images import LAYERS
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_action_values, recurrent_actor_critic
from optix.networks.values import action_values
from optix.types import Box, Discrete

SPACE = Discrete(3)


def xla(x, kernel, bias, stride=1, padding="VALID"):
    layout = ("NHWC", "HWIO", "NHWC")
    return bias + jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout
    )


def layers_of(shape, **options):
    """Kernels of the actor's convolutions, and what they leave."""
    network = actor_critic(shape, SPACE, **options)
    actor = jax.eval_shape(network.init, jax.random.key(0))[0]["actor"]
    flat = jax.tree_util.tree_flatten_with_path(actor)[0]
    kernels = [leaf.shape for path, leaf in flat if len(leaf.shape) == 4]
    return kernels, actor["Dense_0"]["kernel"].shape[0]


NATURE = [(8, 8), (4, 4), (3, 3)]


@pytest.mark.parametrize(
    ("shape", "options", "sizes", "features"),
    [
        ((10, 10, 4), {}, [(3, 3)], 8 * 8 * 16),  # MinAtar
        ((63, 63, 3), {}, NATURE, 4 * 4 * 64),  # Craftax-Classic-Pixels
        ((130, 110, 3), {}, NATURE, 12 * 10 * 64),  # Craftax-Pixels
        ((84, 84, 4), {}, NATURE, 7 * 7 * 64),  # Atari
        ((40, 40, 3), {"convolutions": "minatar"}, [(3, 3)], 38 * 38 * 16),
        ((84, 84, 4), {"convolutions": "impala"}, [(3, 3)] * 15, 11 * 11 * 32),
        ((63, 63, 3), {"convolutions": "impala"}, [(3, 3)] * 15, 8 * 8 * 32),
        ((10, 10, 4), {"convolutions": "impala"}, [(3, 3)] * 15, 2 * 2 * 32),
    ],
)
def test_stacks(shape, options, sizes, features):
    kernels, left = layers_of(shape, **options)
    assert [kernel[:2] for kernel in kernels] == sizes and left == features
    assert kernels[0][2] == shape[2]


def reference(params, x, activation):
    """IMPALA's features, written out with XLA's own convolutions."""

    def convolution(part, x):
        return xla(x, part["kernel"], part["bias"], 1, "SAME")

    for section in ("Section_0", "Section_1", "Section_2"):
        layers = [params[section][f"Convolution_{n}"] for n in range(5)]
        x = convolution(layers[0], x)
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
        )
        for first, second in (layers[1:3], layers[3:5]):
            inside = convolution(first, activation(x))
            x = x + convolution(second, activation(inside))
    return activation(x).reshape(len(x), -1)


def test_residual_blocks_are_what_they_say():
    network = action_values((9, 8, 2), SPACE, hidden=(5,), convolutions="impala")
    params, _ = jit(network.init)(jax.random.key(0))
    params = jax.tree.map(  # of another bias than zero
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params
    )
    obs = np.random.default_rng(0).random((2, 9, 8, 2)).astype(np.float32)

    def written_out(params, obs):
        torso = params["torso"]
        x = reference(torso, obs, jax.nn.relu)
        x = jax.nn.relu(x @ torso["Dense_0"]["kernel"] + torso["Dense_0"]["bias"])
        return x @ params["values"]["kernel"] + params["values"]["bias"]

    def ours(params, obs):
        return network.apply(params, (), (), obs)[1]

    def with_gradient(function):
        def objective(params):
            values = function(params, obs)
            return jnp.sum(jnp.sin(values)), values

        return jit(jax.grad(objective, has_aux=True))(params)

    for one, two in zip(
        *(jax.tree.leaves(with_gradient(f)) for f in (ours, written_out)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-4)


def test_every_network_takes_a_name_and_seeds_are_mapped():
    shape, options = (6, 6, 2), {"hidden": (4,), "convolutions": "impala"}
    obs = jnp.zeros((1, *shape))
    for network in (
        actor_critic(shape, SPACE, **options),
        action_values(shape, SPACE, layer_norm=True, **options),
        recurrent_actor_critic(shape, SPACE, cell_size=4, **options),
        recurrent_action_values(shape, SPACE, cell_size=4, **options),
        actor_and_critic(shape, Box((2,)), **options).actor,
    ):

        def one(key, network=network):
            params, structure = network.init(key)
            carry = network.initial_carry(1)
            return network.apply(params, structure, carry, obs)[1], params

        keys = jax.random.split(jax.random.key(0), 3)
        out, params = jax.eval_shape(jax.vmap(one), keys)
        assert all(x.shape[:2] == (3, 1) for x in jax.tree.leaves(out))
        assert "Section_2" in str(jax.tree_util.tree_structure(params))
    normed = action_values(shape, SPACE, layer_norm=True, **options)
    params = jax.eval_shape(normed.init, jax.random.key(0))[0]
    # one before each activation: four in a section, one behind them, one of a layer
    names = str(jax.tree_util.tree_structure(params))
    assert names.count("LayerNorm") == 3 * 4 + 1 + 1


def test_by_an_option_of_a_run():
    small = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 1}
    loop = optix.make("Breakout-MinAtar", "pqn", convolutions="impala", **small)
    state = jax.eval_shape(loop.init, jax.random.key(0))
    assert "Section_0" in state.best.policy.params["torso"]


@pytest.mark.parametrize(
    ("shape", "name", "message"),
    [
        ((84, 84, 4), "impale", "unknown convolutions 'impale'.*mean 'impala'"),
        ((84, 84, 4), 3, "unknown convolutions 3"),
        ((35, 84, 4), "nature", r"at least 36 by 36 .*got .*\(35, 84, 4\)"),
        ((2, 9, 1), "impala", "at least 3 by 3"),
        ((4,), "impala", r"takes images .*got observations of shape \(4,\)"),
    ],
)
def test_refusals(shape, name, message):
    for network in (actor_critic, action_values, recurrent_actor_critic):
        with pytest.raises(ValueError, match=message):
            network(shape, SPACE, convolutions=name)


def test_what_is_not_named_is_chosen_by_size():
    for name, shape in {"minatar": (10, 10, 4), "nature": (36, 36, 1)}.items():
        assert layers_of(shape) == layers_of(shape, convolutions=name)
        assert len(layers_of(shape)[0]) == len(LAYERS[name])


@pytest.mark.parametrize("shape", [(5, 7, 2), (36, 40, 1)])
def test_whole_numbers_are_seen_as_numbers_at_every_size(shape):
    network = action_values(shape, Discrete(2), hidden=(4,))
    params, structure = network.init(jax.random.key(0))
    image = np.random.default_rng(0).integers(0, 9, (2, *shape)).astype(np.uint8)
    seen = [
        network.apply(params, structure, (), x)[1]
        for x in (jnp.asarray(image), jnp.asarray(image, jnp.float32))
    ]
    np.testing.assert_allclose(*seen, rtol=1e-6)
