"""Agents that learn from a replay on two devices are one with both their batches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents import sac
from optix.networks import noisy
from tests.agents.replay_reference import N, agent_of
from tests.agents.test_replay_updates import batch_of, floats, policy_of
from tests.devices import in_two_devices


@pytest.mark.parametrize("algorithm", ["dqn", "rainbow", "sac", "td3"])
def test_two_halves_of_a_batch_are_the_whole(algorithm, monkeypatch):
    """Plain descent, for Adam would hide a factor; all noise is the same number."""

    def constant(key, shape):
        return jnp.full(shape, 0.7)

    for module, name in [
        (jax.random, "normal"),
        # what is stored is traced once, perhaps before
        (sac, "normal"),
        (noisy, "normal"),
    ]:
        monkeypatch.setattr(module, name, constant)
    whole, split = agent_of(algorithm), agent_of(algorithm, axis_name="device")
    policy, batch = policy_of(whole, 2), batch_of(algorithm)
    hyperparams = jax.tree.map(jnp.float32, floats(whole))
    key = jax.random.key(0)
    alone, info, _, errors = jit(whole.learn)(policy, batch, hyperparams, key)

    halves = jax.tree.map(lambda x: x.reshape(2, N // 2, *x.shape[1:]), batch)
    learn = jax.vmap(split.learn, (None, 0, None, None), axis_name="device")
    both, split_info, _, split_errors = jit(learn)(policy, halves, hyperparams, key)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), alone.params, policy.params)
    assert max(jax.tree.leaves(moved)) > 1e-2
    for device in range(2):
        jax.tree.map(
            lambda x, y, d=device: np.testing.assert_allclose(x[d], y, 1e-4, 1e-5),
            both,
            alone,
        )
    np.testing.assert_allclose(split_errors.ravel(), errors, rtol=1e-4)
    for name, value in info.items():
        np.testing.assert_allclose(split_info[name], [value] * 2, 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("algorithm", "meetings"), [("dqn", 1), ("rainbow", 1), ("sac", 2), ("td3", 2)]
)
def test_devices_meet_once_for_each_part_that_moves(algorithm, meetings):
    """Not once for each array: a meeting costs as much as a layer."""
    agent = agent_of(algorithm, axis_name="device")
    learn = jax.make_jaxpr(agent.learn, axis_env=[("device", 2)])
    arguments = policy_of(agent, 2), batch_of(algorithm), floats(agent)
    text = str(learn(*arguments, jax.random.key(0)))
    assert len(re.findall(r"= (psum|pmin|all_gather)\w*\[", text)) == meetings


def test_runs_on_two_real_devices_share_one_policy():
    """Each has its own experience and replay; uneven ones do not hang."""
    out = in_two_devices(
        """
        import jax, numpy as np
        from optix.make import build_agent, build_learner
        from optix.registry import ALGORITHMS
        from optix.envs.device import device
        from tests import probes
        from jax import jit

        class Broken(probes.RewardIsObservation):
            # half of what is collected is never stored
            def reward(self, state, action, params):
                return jax.numpy.where(state.obs[0] > 0, 1.0, jax.numpy.nan)

        for name, env in [("dqn", Broken()), ("td3", probes.ActionIsTarget())]:
            env, row = device(env), ALGORITHMS[name]
            options = dict(
                axis_name="device", hidden=(8,), num_envs=3, num_steps=24,
                batch_size=8, capacity=64, learning_starts=20, prioritised=True,
            )
            spaces = env.observation_shape, env.action_space
            agent = build_agent(row, *spaces, None, options)
            learner = build_learner(row, agent, env, options)
            keys = jax.random.split(jax.random.key(0))
            first, second = (jax.numpy.stack([key, key]) for key in keys)
            state = jax.pmap(learner.init, axis_name="device")(first)
            begun = jax.tree.map(np.asarray, state.policy.params)
            step = jax.pmap(
                lambda state, key: learner.step(state, learner.hyperparams, key, True),
                axis_name="device",
            )
            for _ in range(2):
                state, report = step(state, second)
            for leaf in jax.tree.leaves(state.policy):
                np.testing.assert_array_equal(leaf[0], leaf[1])
            moved = jax.tree.map(lambda x, y: np.abs(x - y).max(),
                                 begun, state.policy.params)
            assert min(jax.tree.leaves(moved)) > 0
            assert (report.env_steps == 2 * 3 * 24).all()
            # both count the steps of both, as epsilon's schedule and the report do
            np.testing.assert_array_equal(state.memory.env_steps, 2 * 2 * 3 * 24)
            np.testing.assert_array_equal(state.policy.extras.env_steps, 2 * 2 * 3 * 24)
            obs = np.asarray(report.trajectory.obs)
            assert (obs[0] != obs[1]).any()
        print("shared")
        """
    )
    assert "shared" in out
