"""PPO where the answer is known; its distributions, and what it refuses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import special, stats

from optix.agents.distributions import categorical, gaussian
from optix.agents.ppo import ppo
from optix.envs.device import device
from optix.learners.on_policy import on_policy
from optix.make import make
from optix.math.running import standardize
from optix.types import Box, Discrete
from tests import probes
from tests.agents.ppo_reference import linear


class Coin(NamedTuple):
    """A user's own distribution: action 1 with the probability of one logit."""

    logit: jax.Array  # [..., 1]

    def log_prob(self, action):
        return -jax.nn.softplus(jnp.where(action == 1, -1, 1) * self.logit[..., 0])

    def entropy(self):
        p = jax.nn.sigmoid(self.logit[..., 0])
        return -p * self.log_prob(1) - (1 - p) * self.log_prob(0)

    def mode(self):
        return (self.logit[..., 0] > 0).astype(jnp.int32)

    def sample_and_log_prob(self, *, seed):
        chance = jax.nn.sigmoid(self.logit[..., 0])
        action = jax.random.bernoulli(seed, chance).astype(jnp.int32)
        return action, self.log_prob(action)


def train(probe, network, windows=200, **options):
    """Return (act, value, metrics) after some windows in a probe."""
    env = device(probe)
    spaces = (env.observation_shape, env.action_space)
    settings = {
        "learning_rate": 0.05,
        "discount": 0.9,
        "num_minibatches": 2,
        "normalize_rewards": False,
        "decay_over": windows,  # to still the noise at the end
    }
    agent = ppo(network, *spaces, **{**settings, **options})
    learner = on_policy(agent, env, num_envs=8, num_steps=16)

    @jit
    def run(key):
        init_key, run_key = jax.random.split(key)

        def window(state, key):
            state, report = learner.step(state, agent.hyperparams, key, True)
            return state, (report.finite, report.metrics)

        keys = jax.random.split(run_key, windows)
        return jax.lax.scan(window, learner.init(init_key), keys)

    state, (finite, metrics) = run(jax.random.key(0))
    assert finite.all()
    policy = state.policy

    def outputs(obs):
        obs = jnp.array([[obs]], jnp.float32)
        if options.get("normalize_observations", True):
            obs = standardize(policy.extras.observations, obs)
        return network.apply(policy.params, policy.structure, (), obs)[1]

    return outputs, metrics


@pytest.mark.parametrize(
    ("probe", "values", "options"),
    [
        (probes.Probe(), {0: 1.0}, {}),
        (probes.RewardIsObservation(), {-1: -1.0, 1: 1.0}, {}),
        (probes.TwoSteps(), {0: 0.9, 1: 1.0}, {"normalize_observations": False}),
        (
            probes.Endless(),
            {0: 10 + 0.9 * 10, 1: 1 / (1 - 0.9)},
            {"clip_values": False},
        ),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, probes.Probe) else "",
)
def test_the_value_is_the_true_one(probe, values, options):
    outputs, metrics = train(probe, linear(1, 2), **options)
    for obs, value in values.items():
        np.testing.assert_allclose(outputs(obs)[1], value, rtol=0.02)
    assert metrics["value_loss"][-1] < 1e-3 < metrics["value_loss"][0]


@pytest.mark.parametrize("own", [False, True])
def test_the_right_action_is_found(own):
    network = linear(1, 1 if own else 2)
    options = {"distribution": Coin} if own else {"normalize_rewards": True}
    outputs, metrics = train(probes.ActionIsSign(), network, windows=100, **options)
    for obs in (-1, 1):
        logits = np.asarray(outputs(obs)[0])[0]
        chance = special.expit(logits[0]) if own else special.softmax(logits)[1]
        assert (chance > 0.95) if obs == 1 else (chance < 0.05)
    # between the start and the end it chose, ever more surely
    assert metrics["entropy"][-1] < 0.2 < 0.6 < metrics["entropy"][0]


def test_the_right_continuous_action_is_found_by_the_whole_loop():
    """Through `make`: default network, normalised rewards, scaled actions."""
    run = make(
        probes.ActionIsTarget(),
        "ppo",
        hidden=(16,),
        num_envs=16,
        num_steps=8,
        num_minibatches=2,
        learning_rate=0.01,
        entropy_coefficient=0.0,
        evaluation_episodes=8,
    )
    step = jit(run.step)
    state = jit(run.init)(jax.random.key(0))
    scores = []
    for _ in range(40):
        state, report = step(state)
        scores.append(float(report.score))
    # the best blind action, 0, is 1/2 from both targets: a score of -1/4
    assert np.mean(scores[-5:]) > -0.005


def test_categorical():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    actions = categorical(jnp.asarray(logits))
    log_probs = special.log_softmax(logits, -1)
    np.testing.assert_allclose(
        actions.log_prob(jnp.array([2, 1, 0, 0, 1])),
        log_probs[np.arange(5), [2, 1, 0, 0, 1]],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        actions.entropy(), stats.entropy(np.exp(log_probs), axis=-1), rtol=1e-5
    )
    np.testing.assert_array_equal(actions.mode(), logits.argmax(-1))


def test_gaussian():
    rng = np.random.default_rng(0)
    mean, log_scale, x = rng.normal(size=(3, 5, 2))
    x[1, 1] = mean[1, 1]
    actions = gaussian((jnp.asarray(mean), jnp.asarray(log_scale)))
    each = stats.norm(mean, np.exp(log_scale))
    np.testing.assert_allclose(
        actions.log_prob(jnp.asarray(x)), each.logpdf(x).sum(-1), rtol=1e-4
    )
    np.testing.assert_allclose(actions.entropy(), each.entropy().sum(-1), rtol=1e-4)
    np.testing.assert_allclose(actions.mode(), mean, rtol=1e-6)


# refusals


def test_a_recurrent_network_is_refused():
    recurrent = linear(3, 2)._replace(initial_carry=lambda batch: jnp.zeros((batch, 8)))
    with pytest.raises(ValueError, match="feed-forward.*carry"):
        ppo(recurrent, (3,), Discrete(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"learning_rat": 0.1},
            "hyperparameter of ppo 'learning_rat'.*'learning_rate'",
        ),
        ({"learning_rate": -1e-3}, r"learning_rate must be in \[0, 1\], got -0.001"),
        ({"discount": 1.01}, r"discount must be in \[0, 1\], got 1.01"),
        ({"gae_lambda": float("nan")}, r"gae_lambda must be in \[0, 1\], got nan"),
        ({"clip_ratio": "0.2"}, r"clip_ratio must be in .*got '0.2'"),
        ({"entropy_coefficient": True}, "entropy_coefficient must be in .*got True"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm must be in .*got inf"),
        ({"target_kl": -1.0}, "target_kl must be in .*got -1.0"),
        ({"num_epochs": 0}, "num_epochs must be an integer >= 1, got 0"),
        ({"num_epochs": True}, "num_epochs must be an integer >= 1, got True"),
        ({"num_minibatches": 2.0}, "num_minibatches must be an integer >= 1, got 2.0"),
        ({"decay_over": 0}, "decay_over must be an integer >= 1, got 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        ppo(linear(3, 2), (3,), Box((2,)), **options)
