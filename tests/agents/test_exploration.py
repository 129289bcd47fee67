"""How the agents that learn from a replay explore, and how they play when they do not."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import special, stats

from optix.agents.dqn import exploration_rate
from optix.agents.sac import squashed_gaussian
from tests.agents.replay_reference import (
    ACTIONS,
    ATOMS,
    INPUTS,
    SIZE,
    N,
    build,
    float64,
    net,
)

KEY = jax.random.key(3)
PLAIN = {"normalize_observations": False, "normalize_rewards": False}


def acting(algorithm, draws=4000, explore=True, env_steps=0, **floats):
    """The policy, and actions on one observation with as many keys, [draws, ...]."""
    agent = build(algorithm, **PLAIN)
    policy = agent.init(jax.random.key(0))
    extras = policy.extras._replace(env_steps=jnp.int32(env_steps))
    policy = policy._replace(extras=extras)
    obs = jnp.array([[0.5, -1.0, 0.3]])
    hyperparams = {**agent.hyperparams, **floats}

    def act(key):
        return agent.act(policy, (), obs, hyperparams, key, explore)[1][0]

    return policy, obs[0], jit(jax.vmap(act))(jax.random.split(KEY, draws))


def test_epsilon_falls_linearly_and_then_stays():
    schedule = {"epsilon_start": 0.9, "epsilon_end": 0.1, "epsilon_steps": 200.0}
    steps = jnp.array([0, 50, 100, 150, 200, 201, 2**31 - 1])
    got = jax.vmap(lambda n: exploration_rate(n, schedule))(steps)
    np.testing.assert_allclose(got, [0.9, 0.7, 0.5, 0.3, 0.1, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize(("env_steps", "epsilon"), [(0, 1.0), (75, 0.4), (400, 0.2)])
def test_dqn_is_greedy_but_for_epsilon(env_steps, epsilon):
    schedule = {"epsilon_start": 1.0, "epsilon_end": 0.2, "epsilon_steps": 100.0}
    policy, obs, actions = acting("dqn", env_steps=env_steps, **schedule)
    chances = np.full(ACTIONS, epsilon / ACTIONS)
    chances[net(float64(policy.params), float64(obs)).argmax()] += 1 - epsilon
    counts = np.bincount(actions, minlength=ACTIONS)
    assert stats.chisquare(counts, len(actions) * chances).pvalue > 1e-3


def test_rainbow_without_noise_is_greedy():
    policy, obs, actions = acting("rainbow", 10)
    out = net(float64(policy.params.mean), float64(obs)).reshape(ACTIONS, ATOMS)
    best = (special.softmax(out, -1) @ np.arange(ATOMS)).argmax()
    np.testing.assert_array_equal(actions, best)


def test_dqn_plays_greedily():
    policy, obs, actions = acting("dqn", 10, explore=False)
    best = net(float64(policy.params), float64(obs)).argmax()
    np.testing.assert_array_equal(actions, best)


def test_td3_adds_noise_within_the_box_and_plays_without():
    policy, obs, actions = acting("td3", exploration_noise=0.4)
    centre = np.tanh(net(float64(policy.params["actor"]), float64(obs)))
    assert np.abs(actions).max() <= 1
    for i in range(SIZE):
        inside = np.asarray(actions[:, i])[np.abs(actions[:, i]) < 1]
        ends = (np.array([-1, 1]) - centre[i]) / 0.4
        truth = stats.truncnorm(*ends, centre[i], 0.4)
        assert stats.kstest(inside, truth.cdf).pvalue > 1e-3
    np.testing.assert_allclose(acting("td3", 2, False)[2], [centre] * 2, rtol=1e-5)


def test_sac_draws_from_its_squashed_gaussian_and_plays_the_mode():
    policy, obs, actions = acting("sac")
    mean, log_scale = np.split(net(float64(policy.params["actor"]), float64(obs)), 2)
    for i in range(SIZE):
        truth = stats.norm(mean[i], np.exp(log_scale[i]))
        assert stats.kstest(np.arctanh(actions[:, i]), truth.cdf).pvalue > 1e-3
    np.testing.assert_allclose(acting("sac", 2, False)[2], np.tanh([mean] * 2), 1e-5)


def test_rainbow_draws_noise_for_every_step_and_plays_without():
    agent = build("rainbow", noise_scale=2.0, **PLAIN)
    policy = agent.init(jax.random.key(0))
    obs = jnp.repeat(jax.random.normal(KEY, (1, INPUTS)), 2, axis=0)
    keys = jax.random.split(KEY, 400)

    def act(key, policy, explore):
        return agent.act(policy, (), obs, agent.hyperparams, key, explore)[1]

    noisy = jit(jax.vmap(lambda key: act(key, policy, True)))(keys)
    assert set(np.asarray(noisy[:, 0])) == set(range(ACTIONS))
    # an action says nothing of the next one, nor of that of another environment
    for one, other in [(noisy[1:, 0], noisy[:-1, 0]), (noisy[:, 0], noisy[:, 1])]:
        counts = np.bincount(one * ACTIONS + other, minlength=ACTIONS**2)
        table = counts.reshape(ACTIONS, ACTIONS)
        assert stats.chi2_contingency(table).pvalue > 1e-3
    played = jit(jax.vmap(lambda key: act(key, policy, False)))(keys)
    assert len(set(np.asarray(played).ravel())) == 1
    louder = jax.tree.map(lambda x: 100 * x, policy.params.deviation)
    policy = policy._replace(params=policy.params._replace(deviation=louder))
    np.testing.assert_array_equal(act(KEY, policy, False), played[0])


# the density of SAC's actions


def squashed(mean, scale, noise):
    return squashed_gaussian(jnp.float32(mean), jnp.log(jnp.float32(scale)), noise)


def test_the_squashed_density_is_that_of_distrax():
    draw = np.random.default_rng(0)
    mean, scale = draw.normal(size=(N, SIZE)), np.exp(draw.normal(size=(N, SIZE)) / 2)
    noise = jax.random.normal(KEY, (N, SIZE))
    action, log_prob = squashed(mean, scale, noise)
    normal = distrax.MultivariateNormalDiag(jnp.float32(mean), jnp.float32(scale))
    oracle = distrax.Transformed(normal, distrax.Block(distrax.Tanh(), 1))
    before = mean + scale * noise
    expected = normal.log_prob(before) - distrax.Tanh().forward_log_det_jacobian(
        before
    ).sum(-1)
    np.testing.assert_allclose(action, np.tanh(before), rtol=1e-5)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)
    # its inverse of tanh is exact only away from the ends
    inside = (np.abs(action) < 0.99).all(-1)
    assert inside.sum() >= 3
    got, wanted = log_prob[inside], oracle.log_prob(action)[inside]
    np.testing.assert_allclose(got, wanted, rtol=1e-3)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
def test_the_squashed_density_integrates_to_one(mean, scale):
    noise = jnp.linspace(-7.0, 7.0, 4001)[:, None]
    action, log_prob = squashed([mean], [scale], noise)
    density = np.exp(np.float64(log_prob))
    places = np.tanh(mean + scale * np.float64(noise[:, 0]))
    np.testing.assert_allclose(action[:, 0], places, atol=1e-6)
    np.testing.assert_allclose(np.trapezoid(density, places), 1, atol=1e-3)
    mean_action = np.trapezoid(density * places, places)
    sampled = np.tanh(stats.norm(mean, scale).ppf((np.arange(10**5) + 0.5) / 10**5))
    np.testing.assert_allclose(mean_action, sampled.mean(), atol=1e-3)


@pytest.mark.parametrize("mean", [-30.0, 30.0])
def test_the_squashed_density_is_finite_at_the_ends(mean):
    def log_prob(mean):
        return squashed_gaussian(mean, jnp.zeros(1), jnp.zeros(1))[1]

    value, slope = jax.value_and_grad(log_prob)(jnp.array([mean]))
    # log(1 - tanh(x)**2) is 2 log 2 - 2 |x| there
    exact = stats.norm.logpdf(0) - 2 * np.log(2) + 2 * abs(mean)
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    np.testing.assert_allclose(slope, [2 * np.sign(mean)], rtol=1e-5)
