"""Recurrent networks: the cells' equations in NumPy, shapes, torsos, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy.special import expit

from optix.networks.gated import GRU, LSTM
from optix.networks.recurrent import recurrent_actor_critic
from optix.networks.sequence import run_sequence
from optix.types import Box, Discrete


def run(cell):
    """Return (params in float64, carry, x, what the cell gives)."""
    draw = np.random.default_rng(0).normal
    carry = jax.tree.map(lambda c: draw(size=c.shape), cell.initial_carry(6))
    x = draw(size=(6, 3))
    params = jit(cell.init)(jax.random.key(0), carry, x)
    params = jax.tree.map(lambda p: p + 0.1 * draw(size=p.shape), params)
    return params["params"], carry, x, jit(cell.apply)(params, carry, x)


def products(params, x, h):
    return (
        x @ params["input"] + params["bias"][0],
        h @ params["recurrent"] + params["bias"][1],
    )


def test_gru():
    params, (h,), x, (carry, output) = run(GRU(5))
    of_x, of_h = (np.split(y, 3, -1) for y in products(params, x, h))
    keep = expit(of_x[0] + of_h[0] + 1)
    new = np.tanh(of_x[2] + expit(of_x[1] + of_h[1]) * of_h[2])
    np.testing.assert_allclose(carry[0], keep * h + (1 - keep) * new, atol=1e-5)
    np.testing.assert_array_equal(carry[0], output)


def test_lstm():
    params, (c, h), x, (carry, output) = run(LSTM(5))
    write, keep, show, new = np.split(sum(products(params, x, h)), 4, -1)
    c = expit(keep + 1) * c + expit(write) * np.tanh(new)
    np.testing.assert_allclose(carry[0], c, atol=1e-5)
    np.testing.assert_allclose(carry[1], expit(show) * np.tanh(c), atol=1e-5)
    np.testing.assert_array_equal(carry[1], output)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_window_is_the_steps_one_by_one_and_so_are_its_gradients(cell, shared):
    network = recurrent_actor_critic(
        (3,), Discrete(2), cell=cell, hidden=(6,), cell_size=5, shared=shared
    )
    rng = np.random.default_rng(1)
    draw = lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    params, _ = jit(network.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.stack([x, x + 0.3 * draw(x.shape)]), params)
    carry = jax.tree.map(lambda x: draw(x.shape), network.initial_carry(4))
    obs, ended = draw((9, 4, 3)), jnp.asarray(rng.random((9, 4)) < 0.3)
    weight = jax.tree.map(lambda x: draw(x.shape), carry)
    of_out = draw((9, 4, 2)), draw((9, 4))

    def everything(network, params, carry, obs):
        carry, out = run_sequence(network, params, (), carry, obs, ended)
        return (carry, out), sum(
            jnp.vdot(a, b)
            for a, b in zip(
                jax.tree.leaves((weight, of_out)),
                jax.tree.leaves((carry, out)),
                strict=True,
            )
        )

    def found(network):  # of two sets of parameters at once
        def one(params):
            def total(*point):
                out, value = everything(network, *point)
                return value, out

            return jax.grad(total, (0, 1, 2), has_aux=True)(params, carry, obs)

        return jit(jax.vmap(one))(params)

    fast, slow = found(network), found(network._replace(sequence=None))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), fast, slow)
    assert all(jnp.any(x != 0) for x in jax.tree.leaves(fast))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("shared", [True, False])
def test_shapes_and_torsos(cell, shared):
    network = recurrent_actor_critic(
        (3,), Box((2,)), cell=cell, hidden=(6,), cell_size=5, shared=shared
    )
    params, structure = jit(network.init)(jax.random.key(0))
    carry = network.initial_carry(7)
    obs = jnp.ones((7, 3))
    after, ((mean, log_scale), value) = jit(network.apply)(
        params, structure, carry, obs
    )
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)
    assert {x.shape for x in jax.tree.leaves(carry)} == {(7, 5)}
    assert mean.shape == log_scale.shape == (7, 2) and value.shape == (7,)
    assert ("torso_memory" in params) == shared
    # more leading axes are the same step
    more = jax.tree.map(lambda x: jnp.stack([x, x]), (carry, obs))
    _, (_, values) = jit(network.apply)(params, structure, *more)
    np.testing.assert_allclose(values, jnp.stack([value, value]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gro"}, "cell 'gro'.*mean 'gru'"),
        ({"cell_size": 0}, "cell_size must be an integer >= 1, got 0"),
        ({"hidden": ()}, "hidden.*at least one"),
        ({"activation": "tahn"}, "activation 'tahn'.*mean 'tanh'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        recurrent_actor_critic((3,), Discrete(2), **options)
