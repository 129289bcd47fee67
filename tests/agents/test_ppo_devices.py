"""PPO over two devices is PPO on one with all their experience."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import jit

from tests.agents.ppo_reference import B, T, assert_trees, build, floats

ROOT = Path(__file__).parents[2]


def test_two_devices_are_one(learn, policy, window):
    """Plain gradients, for Adam would hide a factor."""
    devices = jit(
        jax.vmap(
            build(axis_name="device").learn,
            in_axes=(None, 0, None, None),
            axis_name="device",
        )
    )
    halves = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(T, 2, B // 2, *x.shape[2:]), 1, 0), window
    )
    split, split_info, *_ = devices(policy, halves, floats(), jax.random.key(0))
    whole, info, *_ = learn(policy, window, floats(), jax.random.key(0))
    for i in range(2):
        assert_trees(
            jax.tree.map(lambda x, i=i: x[i], split), whole, rtol=1e-4, atol=1e-5
        )
        row = jax.tree.map(lambda x, i=i: x[i], split_info)
        assert_trees(row, info, rtol=1e-4, atol=1e-5)


PMAP = """
import jax, jax.numpy as jnp, numpy as np
import optax
from optix.agents.ppo import ppo
from optix.envs.device import device
from optix.learners.on_policy import on_policy
from tests import probes
from tests.agents.ppo_reference import linear

assert jax.local_device_count() == 2
env = device(probes.ActionIsSign())
spaces = (env.observation_shape, env.action_space)
options = dict(num_epochs=1, num_minibatches=1, optimizer=optax.identity)
network = linear(1, 2)

def learner(axis_name):
    agent = ppo(network, *spaces, axis_name=axis_name, learning_rate=0.5, **options)
    return agent, on_policy(agent, env, num_envs=3, num_steps=8)

agent, split = learner("device")
keys = [jnp.stack([k, k]) for k in jax.random.split(jax.random.key(0))]
states = jax.pmap(split.init, axis_name="device")(keys[0])
step = jax.pmap(
    lambda state, key: split.step(state, agent.hyperparams, key, True),
    axis_name="device",
)
before = jax.tree.map(lambda x: np.asarray(x[0]), states.policy)
for _ in range(2):
    start = jax.tree.map(lambda x: np.asarray(x[0]), states.policy)
    states, report = step(states, keys[1])
    for leaf in jax.tree.leaves(states.policy):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    obs = np.asarray(report.trajectory.obs)
    assert (obs[0] != obs[1]).any()
    np.testing.assert_array_equal(report.env_steps, 2 * 3 * 8)

# the last window again, on one device
batch = jax.tree.map(
    lambda x: np.concatenate(np.asarray(x), axis=1), report.trajectory
)
alone, _ = learner(None)
new, *_ = jax.jit(alone.learn)(start, batch, agent.hyperparams, jax.random.key(9))
for a, b, c in zip(*map(jax.tree.leaves, (new, states.policy, start))):
    np.testing.assert_allclose(a, b[0], rtol=1e-3, atol=1e-5)
moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), new.params, start.params)
assert max(jax.tree.leaves(moved)) > 1e-2, moved
score = jax.pmap(
    lambda policy, key: split.evaluate(policy, agent.hyperparams, key),
    axis_name="device",
)
scores = score(states.policy, keys[1])
assert scores[0] == scores[1]
"""


def test_two_real_devices_are_one():
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", PMAP]
    subprocess.run(run, check=True, timeout=200, cwd=ROOT, env=environment)
