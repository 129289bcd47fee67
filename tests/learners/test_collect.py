"""What is recorded of training episodes, against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.envs.device import device
from optix.learners.collect import collector, window_return
from optix.types import Agent, Policy, Trajectory
from tests import probes


def agent_of(hyperparams):
    def act(policy, carry, obs, hyperparams, key, explore):
        return carry, jnp.zeros(obs.shape[0], jnp.int32), {}

    return Agent(
        lambda key: Policy(()), lambda batch: (), act, lambda *_: None, hyperparams
    )


def window(reward, ended, running):
    """A trajectory [T, B] of rewards and ends; `running` [B] is from before."""
    returns, total = [], np.array(running, float)
    for r, e in zip(reward, ended, strict=True):
        total = total + r
        returns.append(total.copy())
        total = np.where(e, 0.0, total)
    flags = jnp.asarray(ended)
    return Trajectory(
        (), (), (), flags, flags & False, (), {"episode_return": jnp.array(returns)}
    )


def test_the_return_is_of_the_episodes_that_ended_in_the_window():
    reward = np.arange(12.0).reshape(4, 3)
    ended = np.zeros((4, 3), bool)
    ended[1, 0] = ended[3, 0] = ended[2, 2] = True
    told = window_return(window(reward, ended, [10, 20, 30]), jnp.full(3, -jnp.inf))
    first, second, third = 10 + 0 + 3, 6 + 9, 30 + 2 + 5 + 8
    assert told == np.float32((first + second + third) / 3)


def test_without_an_end_it_is_of_the_latest_episodes_before():
    quiet = window(np.ones((2, 3)), np.zeros((2, 3), bool), [0, 0, 0])
    assert window_return(quiet, jnp.array([4.0, -jnp.inf, 8.0])) == 6
    assert window_return(quiet, jnp.full(3, -jnp.inf)) == -jnp.inf


def test_devices_share_it():
    ends = [np.array([[True]]), np.array([[False]])]
    both = [window(np.full((1, 1), 5.0), end, [0]) for end in ends]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *both)
    told = jax.vmap(lambda w, r: window_return(w, r, "device"), axis_name="device")(
        stacked, jnp.array([[1.0], [100.0]])
    )
    assert told.tolist() == [5.0, 5.0]


def test_running_returns_start_afresh_where_an_episode_ended():
    """Episodes of three steps that give 1 each."""
    env = device(probes.Endless(), probes.Params(max_steps_in_episode=3))
    experience = collector(agent_of({"discount": 0.5}), env, 2)
    rollout = experience.begin(jax.random.key(0))
    assert (rollout.latest_return == -jnp.inf).all()
    step = jit(
        lambda rollout, key: experience.step(
            Policy(()), rollout, {"discount": 0.5}, key, key
        )
    )
    returns, discounted, total, part = [], [], 0.0, 0.0
    for turn in range(7):
        rollout, told = step(rollout, jax.random.key(turn))
        reward = float(told.reward[0])
        total, part = total + reward, reward + 0.5 * part
        returns.append((float(told.extras["episode_return"][0]), total))
        discounted.append((float(told.extras["discounted_return"][0]), part))
        if told.terminated[0] | told.truncated[0]:
            assert rollout.latest_return[0] == np.float32(total)
            total = part = 0.0
    np.testing.assert_allclose(*zip(*returns, strict=True), rtol=1e-6)
    np.testing.assert_allclose(*zip(*discounted, strict=True), rtol=1e-6)


@pytest.mark.parametrize("floats", [{}, {"gamma": 0.9}])
def test_a_discount_is_required(floats):
    with pytest.raises(ValueError, match='must have a "discount"'):
        collector(agent_of(floats), device(probes.Endless()), 1)
