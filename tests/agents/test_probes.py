"""Agents that learn from a replay, where the true values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces
from jax import jit

from optix.envs.device import device
from optix.learners.off_policy import off_policy
from optix.make import build_agent
from optix.math.categorical import support
from optix.registry import ALGORITHMS
from optix.types import Box
from tests import probes


class Real:
    """A probe whose actions, which change nothing, are a box."""

    def action_space(self, params):
        del params
        return gymnax_spaces.Box(-2.0, 2.0, (1,))


def probe(name, algorithm):
    """The probe, with actions that the algorithm can take."""
    original = getattr(probes, name)
    if Box not in ALGORITHMS[algorithm].actions or name == "ActionIsTarget":
        return original()
    return type(name, (Real, original), {})()


DISCOUNT = 0.9
SETTINGS = {  # the true values are those of a policy that hardly explores
    "dqn": {"epsilon_end": 0.2, "epsilon_steps": 1000, "target_period": 20},
    "rainbow": {
        "normalize_rewards": False,
        "value_min": -5.0,
        "value_max": 25.0,
        "target_period": 20,
        "dueling": True,
        "num_atoms": 51,
    },
    "sac": {
        "tune_temperature": False,
        "initial_temperature": 1e-4,
        "target_rate": 0.05,
    },
    "td3": {"target_rate": 0.05, "stochastic": False, "exploration_noise": 0.3},
}


def train(algorithm, name, *, updates=1500, learner=None, **options):
    """Return (policy, value(obs, action), act(obs)) after many updates."""
    env = device(probe(name, algorithm))
    spaces = env.observation_shape, env.action_space
    options = {
        "learning_rate": 3e-3,
        "discount": DISCOUNT,
        "hidden": (32, 32),
        **SETTINGS[algorithm],
        **options,
    }
    agent = build_agent(ALGORITHMS[algorithm], *spaces, None, options)
    sizes = {"num_envs": 4, "num_steps": 500, "batch_size": 32, "capacity": 1000}
    learn = off_policy(
        agent,
        env,
        learning_starts=32,
        evaluation_episodes=1,
        **sizes,
        **(learner or {}),
    )

    @jit
    def run(key):
        init_key, run_key = jax.random.split(key)

        def window(state, key):
            state, report = learn.step(state, learn.hyperparams, key, True)
            return state, report.finite

        keys = jax.random.split(run_key, updates // sizes["num_steps"])
        return jax.lax.scan(window, learn.init(init_key), keys)

    state, finite = run(jax.random.key(0))
    assert finite.all()
    policy = state.policy
    row = ALGORITHMS[algorithm]
    network = row.network(
        *spaces,
        **{k: v for k, v in options.items() if k in row.network_options()},
    )

    def value(obs, action=0):
        obs = jnp.array([[obs]], jnp.float32)
        if algorithm in ("sac", "td3"):
            action = jnp.array([[action]], jnp.float32)
            inputs, own = (obs, action), policy.params["critics"][0]
            return float(network.critic.apply(own, (), (), inputs)[1][0])
        if algorithm == "dqn":
            out = network.apply(policy.params, (), (), obs)[1]
        else:
            out = network.apply(policy.params.mean, (), (), obs)[1]
            atoms = support(options["value_min"], options["value_max"], out.shape[-1])
            out = jax.nn.softmax(out) @ atoms
        return float(out[0, action])

    def act(obs):
        obs = jnp.array([[obs]], jnp.float32)
        key = jax.random.key(0)
        return agent.act(policy, (), obs, agent.hyperparams, key, False)[1][0]

    return value, act


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("algorithm", SETTINGS)
def test_values_are_discounted_and_bootstrapped_at_a_time_limit(algorithm, n_step):
    value, _ = train(algorithm, "Endless", learner={"n_step": n_step})
    np.testing.assert_allclose(value(1), 1 / (1 - DISCOUNT), rtol=0.05)
    np.testing.assert_allclose(value(0), 10 + DISCOUNT / (1 - DISCOUNT), rtol=0.05)


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_the_value_ends_with_the_episode(algorithm):
    support = {"value_min": -2.0, "value_max": 2.0} if algorithm == "rainbow" else {}
    value, _ = train(algorithm, "TwoSteps", **support)
    np.testing.assert_allclose([value(0), value(1)], [DISCOUNT, 1], atol=0.05)


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_the_value_is_of_the_observation(algorithm):
    value, _ = train(algorithm, "RewardIsObservation", learner={"prioritised": True})
    np.testing.assert_allclose([value(-1), value(1)], [-1, 1], atol=0.15)


@pytest.mark.parametrize("algorithm", ["dqn", "rainbow"])
def test_the_action_is_found(algorithm):
    # what is never done any more has no value
    noise = {"noise_scale": 1.0} if algorithm == "rainbow" else {}
    value, act = train(algorithm, "ActionIsSign", **noise)
    assert (act(-1), act(1)) == (0, 1)
    np.testing.assert_allclose([value(1, 1), value(-1, 0)], 1, atol=0.05)
    np.testing.assert_allclose([value(1, 0), value(-1, 1)], -1, atol=0.3)


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_the_action_is_found_and_scaled(algorithm):
    _, act = train(algorithm, "ActionIsTarget")
    np.testing.assert_allclose([act(1)[0], act(-1)[0]], [0.5, -0.5], atol=0.1)
