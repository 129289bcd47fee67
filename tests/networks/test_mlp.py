"""The actor-critic: shapes, torsos, scales, images, many seeds, refusals."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.networks.mlp import actor_critic
from optix.types import Box, Discrete

ROOT = Path(__file__).parents[2]


def build(shape=(3,), space=Discrete(4), **options):  # noqa: B008 immutable
    network = actor_critic(shape, space, hidden=(8, 6), **options)
    params, structure = jit(network.init)(jax.random.key(0))
    assert structure == () and network.initial_carry(5) == ()
    return params, lambda params, obs: network.apply(params, structure, (), obs)[1]


@pytest.fixture(scope="module")
def separate():
    return build()


def test_discrete_shapes_and_scales(separate):
    params, apply = separate
    logits, value = jit(apply)(params, jnp.ones((2, 5, 3)))
    assert logits.shape == (2, 5, 4) and value.shape == (2, 5)
    assert logits.dtype == value.dtype == jnp.float32
    seeds = jax.random.split(jax.random.key(0), 500)
    network = actor_critic((3,), Discrete(4), hidden=(8, 6))
    many, _ = jit(jax.vmap(network.init))(seeds)
    for name, kernel in kernels(many).items():
        wanted = 1 / np.sqrt(kernel.shape[1])  # LeCun: by the number of inputs
        np.testing.assert_allclose(kernel.std(), wanted, rtol=0.05, err_msg=name)


def kernels(params):
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in flat if leaf.ndim == 3}


def test_each_observation_is_seen_alone(separate):
    params, apply = separate
    obs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    logits, value = jit(apply)(params, obs)
    one = jit(apply)(params, obs[1, 3])
    np.testing.assert_allclose(logits[1, 3], one[0], atol=1e-6)
    np.testing.assert_allclose(value[1, 3], one[1], atol=1e-6)


def test_the_layers_are_what_they_say(separate):
    params, apply = separate
    obs = np.random.default_rng(1).normal(size=(7, 3))

    def layer(x, part):
        return x @ np.asarray(part["kernel"], np.float64) + np.asarray(part["bias"])

    hidden = {}
    for torso in ("actor", "critic"):
        hidden[torso] = obs
        for name in ("Dense_0", "Dense_1"):
            hidden[torso] = np.tanh(layer(hidden[torso], params[torso][name]))
    logits, value = jit(apply)(params, obs.astype(np.float32))
    np.testing.assert_allclose(
        logits, layer(hidden["actor"], params["logits"]), atol=1e-5
    )
    expected = layer(hidden["critic"], params["value"])[:, 0]
    np.testing.assert_allclose(value, expected, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_torsos(shared):
    params, apply = build(shared=shared, activation="relu")
    assert ("torso" in params) == shared and ("critic" in params) != shared
    obs = jnp.ones((2, 3))
    of_value = jit(jax.grad(lambda p: apply(p, obs)[1].sum()))(params)
    of_logits = jit(jax.grad(lambda p: (apply(p, obs)[0] ** 2).sum()))(params)
    for name in params:
        moved = [
            any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient[name]))
            for gradient in (of_value, of_logits)
        ]
        if name == "torso":
            assert moved == [True, True]
        else:
            assert moved == [name in ("critic", "value"), name in ("actor", "logits")]


@pytest.mark.parametrize("state_dependent", [False, True])
def test_gaussian_scales(state_dependent):
    params, apply = build(space=Box((2,)), state_dependent_scale=state_dependent)
    obs = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    (mean, log_scale), value = jit(apply)(params, obs)
    assert mean.shape == log_scale.shape == (3, 4, 2) and value.shape == (3, 4)
    assert np.ptp(np.asarray(mean).reshape(-1, 2), 0).min() > 0
    spread = np.ptp(np.asarray(log_scale).reshape(-1, 2), 0)
    np.testing.assert_array_equal(spread > 0, state_dependent)
    assert np.abs(log_scale).max() < 0.1  # scale one at first
    if not state_dependent:
        changed, _ = jit(apply)({**params, "log_scale": jnp.array([-1.0, 2.0])}, obs)
        np.testing.assert_array_equal(changed[1][2, 3], [-1.0, 2.0])


def test_images():
    params, apply = build(shape=(6, 5, 2))
    assert params["actor"]["Convolution_0"]["kernel"].shape == (3, 3, 2, 16)
    obs = np.random.default_rng(0).random((3, 2, 6, 5, 2)).astype(np.float32)
    logits, value = jit(apply)(params, obs)
    assert logits.shape == (3, 2, 4) and value.shape == (3, 2)
    one = jit(apply)(params, obs[2, 1])
    np.testing.assert_allclose(value[2, 1], one[1], atol=1e-5)
    assert params["actor"]["Dense_0"]["kernel"].shape[0] == 4 * 3 * 16  # no padding
    # a mirrored image is another image
    assert np.abs(jit(apply)(params, obs[:, :, :, ::-1])[1] - value).max() > 1e-3


def test_large_images_pass_three_convolutions():
    """As DQN's have it: (32, 8, 4), (64, 4, 2), (64, 3, 1) and 3136 features at 84."""
    shapes = {}
    for size in (84, 36, 35):
        network = actor_critic((size, size, 4), Discrete(3))
        actor = jax.eval_shape(network.init, jax.random.key(0))[0]["actor"]
        kernels = [actor[name] for name in sorted(actor) if "Convolution" in name]
        shapes[size] = [layer["kernel"].shape for layer in kernels]
        shapes[size].append(actor["Dense_0"]["kernel"].shape[0])
    large = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)]
    assert shapes[84] == [*large, 3136] and shapes[36] == [*large, 64]
    assert shapes[35] == [(3, 3, 4, 16), 33 * 33 * 16]


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 by 3.*got shape \(2, 5, 3\)"):
        build(shape=(2, 5, 3))


@pytest.mark.parametrize("shape", [(4, 3), ()])
def test_other_ranks_are_flattened(shape):
    params, apply = build(shape=shape)
    assert jit(apply)(params, jnp.ones((2, 3, *shape)))[1].shape == (2, 3)
    assert params["actor"]["Dense_0"]["kernel"].shape[0] == int(np.prod(shape))


SEEDS = """
import jax, jax.numpy as jnp
from optix.networks.mlp import actor_critic
from optix.types import Discrete
from jax import jit

network = actor_critic((8,), Discrete(6), hidden=(32, 32))
params, _ = jit(jax.vmap(network.init))(jax.random.split(jax.random.key(0), 32))
kernel = params["actor"]["Dense_1"]["kernel"]
assert kernel.shape == (32, 32, 32)
assert jnp.unique(kernel[:, 0, 0]).size == 32
"""


def test_many_seeds_at_once_do_not_hang():
    """As the QR of orthogonal weights does on XLA:CPU with two cores under vmap."""
    run = [sys.executable, "-c", SEEDS]
    subprocess.run(run, check=True, timeout=120, cwd=ROOT)


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (Discrete(2), {"activation": "tahn"}, "activation 'tahn'.*mean 'tanh'"),
        (Discrete(2), {"hidden": ()}, r"hidden.*at least one.*\(\)"),
        (Discrete(2), {"hidden": (8, 0)}, "hidden width.*>= 1, got 0"),
        (Discrete(2), {"hidden": (8, 2.0)}, "hidden width.*got 2.0"),
        (Discrete(2), {"hidden": 64}, r"hidden.*got 64"),
        (Box((2, 2)), {}, r"one-dimensional.*\(2, 2\)"),
        (Box(()), {}, r"one-dimensional.*\(\)"),
        (Discrete(0), {}, "n of Discrete actions.*>= 1, got 0"),
        (4, {}, "Discrete or Box.*got 4"),
        (np.zeros(3), {}, "Discrete or Box"),
    ],
)
def test_refusals(space, options, message):
    with pytest.raises(ValueError, match=message):
        actor_critic((3,), space, **options)
