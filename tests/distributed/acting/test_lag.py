"""Learning from what a policy played that is eight windows old."""

from unittest import mock

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from optix.agents import impala as module
from optix.distributed import actors
from optix.networks.mlp import actor_critic
from optix.types import Box

BEHIND = 8


class Aim(gymnasium.Env):
    """One step an episode, of which the best action is 0.5."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), -float((action[0] - 0.5) ** 2), True, False, {}


def uncorrected(*arguments):
    """V-trace as if the policy that learns had acted."""
    reward, value, following, terminated, truncated, ratio, *floats = arguments
    given = (reward, value, following, terminated, truncated, jnp.ones_like(ratio))
    return VTRACE(*given, *floats)


VTRACE = module.vtrace


def final_return(rule, seed=1, rate=0.01, windows=200):
    """Return the mean return of the last twenty windows; the best is 0."""
    box = Box((1,))
    network = actor_critic((1,), box, hidden=(8,))
    sizes = {"sequence_length": 4, "num_minibatches": 4, "learning_rate": rate}
    agent = module.impala(network, (1,), box, **sizes)
    learner = actors(
        agent, Aim, 2, num_envs=8, num_steps=16, lockstep=BEHIND, max_lag=BEHIND
    )
    state, rewards = learner.init(jax.random.key(seed)), []
    with mock.patch.object(module, "vtrace", rule):
        step = jax.jit(learner.step)
        for key in jax.random.split(jax.random.key(seed + 100), windows):
            state, report = step(state, agent.hyperparams, key, True)
            rewards.append(report.trajectory.reward.mean())
    assert report.metrics["policy_lag"] == BEHIND
    learner.host.rest()
    return float(np.mean(rewards[-20:]))


def test_v_trace_learns_where_the_gradient_as_it_is_does_not():
    assert final_return(module.vtrace) > -0.02
    assert final_return(uncorrected) < -0.05
