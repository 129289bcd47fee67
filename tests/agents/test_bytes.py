"""Windows of images of bytes: learned from like floats, without a copy as floats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.agents.impala import impala
from optix.agents.ppo import ppo
from optix.agents.pqn import pqn
from optix.agents.recurrent_ppo import recurrent_ppo
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_actor_critic
from optix.networks.values import action_values
from optix.types import Discrete, Trajectory

SHAPE, SPACE = (5, 5, 2), Discrete(3)
SMALL = {"num_minibatches": 2, "num_epochs": 2}


def agent_of(name, shape=SHAPE, **options):
    spaces = shape, SPACE
    options = {**SMALL, **options}
    if name == "recurrent_ppo":
        network = recurrent_actor_critic(*spaces, cell_size=4, hidden=(4,))
        return recurrent_ppo(network, *spaces, sequence_length=2, **options)
    if name == "pqn":
        return pqn(action_values(*spaces, hidden=(4,)), *spaces, **options)
    made = {"ppo": ppo, "impala": impala}[name]
    if name == "impala":
        options["sequence_length"] = 4
    return made(actor_critic(*spaces, hidden=(4,)), *spaces, **options)


def window(agent, steps, envs, shape=SHAPE):
    draw = np.random.default_rng(0)
    bits = [
        jnp.asarray(draw.integers(0, 256, (steps, envs, *shape), np.uint8))
        for _ in range(2)
    ]
    numbers = jnp.asarray(draw.normal(size=(steps, envs)), jnp.float32)
    ended = jnp.asarray(draw.random((2, steps, envs)) < 0.2)
    carry = jax.tree.map(
        lambda x: jnp.zeros((steps, *x.shape)), agent.initial_carry(envs)
    )
    extras = {"discounted_return": numbers, "episode_return": numbers}
    extras |= {"log_prob": -jnp.abs(numbers), "value": numbers}
    if jax.tree.leaves(carry):
        extras["carry"] = carry
    action = jnp.asarray(draw.integers(0, 3, (steps, envs)), jnp.int32)
    return Trajectory(bits[0], action, numbers, *ended, bits[1], extras)


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo", "impala", "pqn"])
def test_bytes_are_learned_from_as_shares_of_the_largest(name):
    agent = agent_of(name)
    batch = window(agent, 4, 4)
    floats = batch._replace(obs=batch.obs / 255.0, next_obs=batch.next_obs / 255.0)
    policy, key = agent.init(jax.random.key(0)), jax.random.key(1)
    learn = jax.jit(agent.learn)
    both = [learn(policy, x, agent.hyperparams, key) for x in (batch, floats)]
    for one, two in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(
        lambda x, y: np.abs(x - y).max(), policy.params, both[0].policy.params
    )
    assert max(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.parametrize("name", ["ppo", "impala", "pqn"])
def test_no_window_of_floats_is_made_of_bytes(name):
    """What a program needs beside its arguments is less than the window as floats."""
    shape, steps, envs = (36, 36, 4), 8, 128
    agent = agent_of(name, shape, num_minibatches=32, num_epochs=1)
    batch = jax.eval_shape(lambda: window(agent, steps, envs, shape))
    policy = jax.eval_shape(agent.init, jax.random.key(0))
    key = jax.eval_shape(lambda: jax.random.key(0))
    program = jax.jit(agent.learn).lower(policy, batch, agent.hyperparams, key)
    used = program.compile().memory_analysis().temp_size_in_bytes
    assert used < 4 * np.prod((steps, envs, *shape))
