"""One update of each agent that learns from a replay, against NumPy.

The optimizer is plain descent: Adam would hide a factor of the gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.math.running import Moments
from optix.types import Sample, Transition
from tests.agents.replay_reference import (
    ACTIONS,
    INPUTS,
    PERIOD,
    SIZE,
    N,
    build,
    slow_dqn,
    slow_rainbow,
    slow_sac,
    slow_td3,
)

KEY = jax.random.key(7)


def policy_of(agent, updates):
    """A policy after so many updates, whose target is another than its parameters."""
    policy, other = (agent.init(jax.random.key(seed)) for seed in (0, 1))
    extras = other.extras._replace(
        observations=Moments(jnp.float32(9), jnp.arange(3.0), jnp.array([1, 4, 0.5])),
        returns=Moments(jnp.float32(9), jnp.float32(2), jnp.float32(9)),
        updates=jnp.int32(updates),
    )
    return policy._replace(extras=extras)


def batch_of(algorithm):
    """Rows of n-step returns, some of which end the episode, with unequal weights."""
    draw = np.random.default_rng(0)
    discrete = algorithm in ("dqn", "rainbow")
    actions = draw.integers(ACTIONS, size=N), draw.uniform(-1, 1, size=(N, SIZE))
    rows = Transition(
        obs=jnp.float32(2 * draw.normal(size=(N, INPUTS))),
        action=jnp.int32(actions[0]) if discrete else jnp.float32(actions[1]),
        reward=jnp.float32(3 * draw.normal(size=N)),
        discount=jnp.float32([0.9, 0.81, 0, 0.9, 0, 0.9]),
        next_obs=jnp.float32(2 * draw.normal(size=(N, INPUTS))),
    )
    return Sample(rows, jnp.arange(N), jnp.float32([1, 0.5, 0.25, 1, 0.8, 0.1]))


def floats(agent, **changed):
    given = {"learning_rate": 0.1, "target_rate": 0.3, **changed}
    assert given.keys() <= agent.hyperparams.keys()
    return {**agent.hyperparams, **given}


def learned(agent, algorithm, updates, hyperparams):
    policy, batch = policy_of(agent, updates), batch_of(algorithm)
    traced = jax.tree.map(jnp.float32, hyperparams)
    new, info, _, priority = agent.learn(policy, batch, traced, KEY)
    assert new.extras.updates == updates + 1
    return policy, batch, new, {**info, "error": priority}


def assert_near(got, expected, start):
    """Compare what has changed, leaf by leaf."""

    def compare(x, y, before):
        step = np.asarray(x, np.float64) - np.asarray(before, np.float64)
        wanted = y - np.asarray(before, np.float64)
        np.testing.assert_allclose(step, wanted, rtol=5e-3, atol=3e-6)

    jax.tree.map(compare, got, expected, start)


def assert_update(got, info, expected, policy):
    new, target, error, told = expected
    assert_near(got[0], new, policy[0])
    assert_near(got[1], target, policy[1])
    np.testing.assert_allclose(info["error"], error, rtol=1e-4)
    for name, value in told.items():
        np.testing.assert_allclose(info[name], value, rtol=1e-3, err_msg=name)


CLIPPING = pytest.mark.parametrize("norm", [0.05, 1e6])


@CLIPPING
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("updates", [PERIOD - 1, PERIOD])
def test_dqn(double, updates, norm):
    agent = build("dqn", double=double)
    hyperparams = floats(agent, max_grad_norm=norm)
    policy, batch, new, info = learned(agent, "dqn", updates, hyperparams)
    due = updates == PERIOD - 1
    expected = slow_dqn(policy, batch, hyperparams, double, due)
    other = slow_dqn(policy, batch, hyperparams, not double, due)
    assert np.abs(expected[2] - other[2]).max() > 0.1  # it matters here
    got = new.params, new.extras.target
    assert_update(got, info, expected, (policy.params, policy.extras.target))


@pytest.mark.parametrize("updates", [PERIOD - 1, PERIOD])
def test_rainbow_without_noise(updates):
    agent = build("rainbow")
    hyperparams = floats(agent, max_grad_norm=1e6, value_min=-1.0, value_max=2.0)
    policy, batch, new, info = learned(agent, "rainbow", updates, hyperparams)
    expected = slow_rainbow(policy, batch, hyperparams, updates == PERIOD - 1)
    got = new.params.mean, new.extras.target.mean
    assert_update(got, info, expected, (policy.params.mean, policy.extras.target.mean))


def test_rainbow_clips_means_and_deviations_together():
    agent = build("rainbow")
    hyperparams = floats(agent, max_grad_norm=0.05)
    policy, _, new, _ = learned(agent, "rainbow", 0, hyperparams)
    steps = jax.tree.map(lambda x, y: x - y, new.params, policy.params)
    squares = [np.square(x).sum() for x in jax.tree.leaves(steps)]
    np.testing.assert_allclose(np.sqrt(sum(squares)), 0.1 * 0.05, rtol=1e-3)


def test_rainbow_learns_the_deviations_by_factorised_noise():
    """Where deviations are zero their gradient is that of the mean times the noise."""
    agent = build("rainbow")
    hyperparams = floats(agent, max_grad_norm=1e6)
    policy, _, new, _ = learned(agent, "rainbow", 0, hyperparams)
    step = jax.tree.map(lambda x, y: np.asarray(x) - y, new.params, policy.params)
    for layer in ("hidden", "head"):
        deviation = step.deviation[f"['{layer}']"]
        noise = {part: deviation[part] / step.mean[layer][part] for part in deviation}
        kernel, bias = noise["kernel"], noise["bias"]
        inputs = kernel[:, 0] / bias[0]
        np.testing.assert_allclose(kernel, np.outer(inputs, bias), rtol=2e-2)
        assert np.unique(np.round(bias, 4)).size == bias.size


@CLIPPING
def test_sac(norm):
    agent = build("sac", initial_temperature=0.3)
    hyperparams = floats(agent, max_grad_norm=norm, entropy_scale=0.7)
    policy, batch, new, info = learned(agent, "sac", 4, hyperparams)
    draws = jax.random.normal(KEY, (2, N, SIZE))
    noise = np.asarray(draws, np.float64)
    expected = slow_sac(policy, batch, hyperparams, noise)
    got = new.params, new.extras.target
    assert_update(got, info, expected, (policy.params, policy.extras.target))


def test_sac_keeps_the_temperature_that_is_not_tuned():
    agent = build("sac", tune_temperature=False, initial_temperature=0.3)
    policy, _, new, info = learned(agent, "sac", 4, floats(agent))
    assert new.params["log_temperature"] == policy.params["log_temperature"]
    np.testing.assert_allclose(info["temperature"], 0.3, rtol=1e-6)


@CLIPPING
@pytest.mark.parametrize("updates", [PERIOD - 1, PERIOD])
def test_td3(updates, norm):
    agent = build("td3")
    smoothing = {"target_noise": 0.6, "target_noise_limit": 0.5}
    hyperparams = floats(agent, max_grad_norm=norm, **smoothing)
    policy, batch, new, info = learned(agent, "td3", updates, hyperparams)
    noise = np.asarray(jax.random.normal(KEY, (N, SIZE)), np.float64)
    clipped = np.abs(0.6 * noise) > 0.5
    assert clipped.any() and not clipped.all()
    expected = slow_td3(policy, batch, hyperparams, noise, updates == PERIOD - 1)
    got = new.params, new.extras.target
    assert_update(got, info, expected, (policy.params, policy.extras.target))
