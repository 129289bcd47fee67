"""PPO in TensorFlow: against the JAX agent, and against a loop written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras
import tensorflow as tf

from optix.agents import ppo
from optix.agents.reading import Batch
from optix.agents.sac import squashed_gaussian
from optix.host.agent import HyperparamSet
from optix.host.normalizers import RewardNormalizer
from optix.host.proximal import INFO
from optix.host.window import EpisodeData
from optix_tensorflow import TFPPOAgent
from optix_tensorflow.actions import Categorical, Gaussian, squashed
from optix_tensorflow.on_policy import Samples, proximal_loss
from tests.adapters.acting import play, same
from tests.adapters.tensorflow.windows import linear, make

H = {"clip_ratio": 0.2, "value_coefficient": 0.7, "entropy_coefficient": 0.03}


class Softmax:
    """What the loss of JAX asks of a distribution, of logits; distrax needs tf_keras."""

    def __init__(self, logits):
        self.log_probs = jax.nn.log_softmax(logits)

    def log_prob(self, action):
        return self.log_probs[jnp.arange(len(action)), action]

    def entropy(self):
        return -(jnp.exp(self.log_probs) * self.log_probs).sum(-1)


class Normal:
    """The same, of means and log scales."""

    def __init__(self, parameters):
        self.mean, self.log_scale = parameters

    def log_prob(self, action):
        density = jax.scipy.stats.norm.logpdf
        return density(action, self.mean, jnp.exp(self.log_scale)).sum(-1)

    def entropy(self):
        return (self.log_scale + 0.5 * np.log(2 * np.pi * np.e)).sum(-1)


@pytest.mark.parametrize("kind", ["discrete", "gaussian"])
@pytest.mark.parametrize("clip_values", [True, False])
def test_the_loss_and_its_gradient_are_those_of_jax(kind, clip_values):
    rng, count = np.random.default_rng(0), 12
    discrete = kind == "discrete"
    outputs = rng.normal(size=(count, 3 if discrete else 4)).astype(np.float32)
    value, log_prob, advantage, old = rng.normal(size=(4, count)).astype(np.float32)
    log_prob -= 1.5
    action = rng.integers(0, 3, count)
    if not discrete:
        action = rng.normal(size=(count, 2)).astype(np.float32)

    def objective(outputs, value):
        batch = Batch(None, action, log_prob, advantage, old)
        parameters = outputs if discrete else (outputs[:, :2], outputs[:, 2:])
        distribution = Softmax if discrete else Normal
        return ppo.loss((parameters, value), batch, H, distribution, clip_values)

    (wanted, info), slopes = jax.value_and_grad(objective, (0, 1), has_aux=True)(
        jnp.asarray(outputs), jnp.asarray(value)
    )
    leaves = [tf.Variable(x) for x in (outputs, value)]
    samples = Samples(*map(tf.constant, (value, action, log_prob, advantage, old)))
    with tf.GradientTape() as tape:
        actions = (Categorical if discrete else Gaussian)(leaves[0])
        chosen = actions.log_prob(samples.action)
        entropy = actions.entropy()
        loss, numbers = proximal_loss(
            chosen, entropy, leaves[1], samples, H, clip_values
        )
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    for name, number in zip(INFO, numbers, strict=False):
        np.testing.assert_allclose(number, info[name], rtol=1e-4, err_msg=name)
    for got, slope in zip(tape.gradient(loss, leaves), slopes, strict=True):
        np.testing.assert_allclose(got, slope, rtol=1e-4, atol=1e-6)


def test_the_squashed_gaussian_is_that_of_jax():
    rng = np.random.default_rng(0)
    given = 3 * rng.normal(size=(3, 50, 2)).astype(np.float32)
    wanted = squashed_gaussian(*map(jnp.asarray, given))
    for got, one in zip(squashed(*map(tf.constant, given)), wanted, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-4, atol=1e-4)


def test_actions_are_drawn_as_their_probabilities_say():
    generator = tf.random.Generator.from_seed(0)
    logits = tf.tile([[0.5, -1.0, 2.0]], [40_000, 1])
    counts = np.bincount(Categorical(logits).sample(generator), minlength=3)
    np.testing.assert_allclose(counts / 40_000, tf.nn.softmax(logits[0]), atol=0.01)
    drawn = Gaussian(tf.tile([[1.0, -2.0, 0.5, -1.0]], [40_000, 1])).sample(generator)
    np.testing.assert_allclose(np.mean(drawn, 0), [1, -2], atol=0.03)
    np.testing.assert_allclose(np.std(drawn, 0), np.exp([0.5, -1.0]), rtol=0.02)


def gains_by_hand(window, value, following, h):
    """Advantages [T, B], a number at a time."""
    gains = np.zeros(window.rewards.shape, np.float32)
    steps, envs = gains.shape
    for b in range(envs):
        gain = 0.0
        for t in reversed(range(steps)):
            target = window.rewards[t, b]
            target += h["discount"] * following[t, b] * (not window.terminated[t, b])
            going_on = not (window.terminated[t, b] or window.truncated[t, b])
            gain = (
                target - value[t, b] + h["discount"] * h["gae_lambda"] * going_on * gain
            )
            gains[t, b] = gain
    return gains


def by_hand(weights, window, h, order):
    """PPO on a window [T, B] of two affine networks, written down once more in JAX."""

    def outputs(weights, obs):
        (w, b), (v, c) = weights
        return jax.nn.log_softmax(obs @ w + b), (obs @ v + c)[:, 0]

    def flat(x):
        return x.reshape(-1, *x.shape[2:])

    lead, obs = window.rewards.shape, flat(window.observations)
    value = np.array(outputs(weights, obs)[1])
    after = outputs(weights, flat(window.next_observations))[1]
    gains = gains_by_hand(window, value.reshape(lead), after.reshape(lead), h)
    gains, old = gains.reshape(-1), flat(window.extras["log_prob"])

    def loss(weights, index):
        log_probs, now = outputs(weights, obs[index])
        chosen = log_probs[jnp.arange(len(index)), flat(window.actions)[index]]
        ratio = jnp.exp(chosen - old[index])
        gain = gains[index]
        gain = (gain - gain.mean()) / jnp.sqrt(gain.var() + 1e-8)
        near = jnp.clip(ratio, 1 - h["clip_ratio"], 1 + h["clip_ratio"])
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        error = now - (gains + value)[index]
        return (
            -jnp.minimum(ratio * gain, near * gain).mean()
            + h["value_coefficient"] * 0.5 * (error**2).mean()
            - h["entropy_coefficient"] * entropy
        )

    for index in order:
        slopes = jax.grad(loss)(weights, index)
        norm = jnp.sqrt(sum((x**2).sum() for x in jax.tree.leaves(slopes)))
        rate = h["learning_rate"] * min(1.0, h["max_grad_norm"] / norm)
        weights = jax.tree.map(lambda x, slope, r=rate: x - r * slope, weights, slopes)
    return weights


def test_learning_is_that_of_a_loop_written_by_hand():
    """Time limits are bootstrapped from what was seen at the cut, not at the reset."""
    keras.utils.set_random_seed(0)
    models = linear(4, 3), linear(4, 1)
    agent = TFPPOAgent(
        *models,
        keras.optimizers.SGD(0.2),
        {"num_epochs": 2, "num_minibatches": 3},
        normalize_observations=False,
        normalize_rewards=False,
        clip_values=False,
    )
    window = play(agent, steps=10, ends=0.5)
    assert window.truncated.any() and window.terminated.any()
    weights = [tuple(map(np.array, model.get_weights())) for model in models]
    agent.seed(5)
    agent.learn(window)
    rng = np.random.default_rng(5)
    orders = rng.permuted(np.tile(np.arange(20), (2, 1)), axis=1)
    order = [index for row in orders for index in np.array_split(row, 3)]
    assert sorted(map(len, order)) == [6, 6, 7, 7, 7, 7]
    wanted = by_hand(weights, window, agent.hyperparams, order)
    for model, arrays in zip(models, wanted, strict=True):
        for got, one in zip(model.get_weights(), arrays, strict=True):
            np.testing.assert_allclose(got, one, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def agents():
    """One agent of each kind, to be put back after use."""
    made = {name: make(name) for name in ("ppo", "gaussian")}
    first = {name: agent.state() for name, agent in made.items()}
    return made, first


@pytest.mark.parametrize("name", ["ppo", "gaussian"])
def test_windows_without_extras_and_without_an_axis_of_environments(name, agents):
    """The behaviour is the policy as it is: what extras tell can be found again."""
    agent, first = agents[0][name], agents[1][name]
    agent.restore(first)
    window = play(agent, envs=1, steps=9)
    if name == "gaussian":  # beyond its bounds an action does not tell what was drawn
        assert np.abs(window.extras["drawn"]).max() > 1
        drawn = np.clip(window.extras["drawn"], -0.9, 0.9)
        fields = {**vars(window), "actions": agent.bounds.decode(drawn)}
        window = EpisodeData(**{**fields, "extras": {"drawn": drawn}})
    flat = {k: v[:, 0] for k, v in vars(window).items() if isinstance(v, np.ndarray)}
    states = []
    for one in (
        window,
        EpisodeData(**{**vars(window), "extras": {}}),
        EpisodeData(**flat),
    ):
        agent.restore(first)
        agent.seed(1)
        assert agent.learn(one)["kl"] < 1e-3
        states.append(agent.state())
    for state in states[1:]:
        for key, value in state.items():
            np.testing.assert_allclose(value, states[0][key], rtol=1e-3, atol=1e-5)


def test_observations_and_rewards_are_seen_as_the_jax_agent_sees_them(agents):
    agent = agents[0]["ppo"]
    agent.restore(agents[1]["ppo"])
    window = play(agent, steps=16)
    rows = window.observations.reshape(-1, 4)
    np.testing.assert_array_equal(agent.obs(rows)[0], np.clip(rows, -10, 10))
    agent.learn(window)
    scaled = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(agent.obs(rows)[0], scaled, rtol=1e-3, atol=1e-3)
    second = play(agent, seed=2, fresh=False)
    # rewards are divided by a deviation that has seen this window already
    before = agent.records["returns"].state()
    scaled = agent.scaled(second)
    scale = agent.records["returns"].inverse()
    assert not same(before, agent.records["returns"].state())
    np.testing.assert_allclose(scaled, second.rewards * scale, rtol=1e-6)


def test_a_reward_normalizer_of_ones_own():
    normalizer = RewardNormalizer(num_envs=2)
    agent = TFPPOAgent(linear(4, 3), linear(4, 1), None, None, normalizer)
    agent.learn(play(agent))
    assert "returns/returns" in agent.state() and normalizer.count == 16
    with pytest.raises(ValueError, match="ended must hold 2 numbers"):
        agent.learn(play(agent, envs=3))


def test_updates_end_where_the_divergence_passes_its_limit():
    agent = make("ppo", learning_rate=0.5, num_epochs=20, target_kl=1e9)
    first, window = agent.state(), play(agent)
    assert agent.learn(window)["kl"] > 0.1
    agent.restore(first)
    agent.set_hyperparams(HyperparamSet({"target_kl": 1e-3}))
    assert agent.learn(window)["kl"] < 1e-3
    made = agent.state()["optimizer.0.iteration"]
    assert 1 <= made < 20  # the first is always made
    agent.restore(first)
    agent.set_hyperparams(HyperparamSet({"target_kl": 0.0}))
    agent.learn(window)
    assert agent.state()["optimizer.0.iteration"] in (1, 2)


def test_continuous_actions_are_scaled_and_clipped_and_learned_as_drawn(agents):
    agent = agents[0]["gaussian"]
    agent.restore(agents[1]["gaussian"])
    window = play(agent, steps=64)
    low, high = np.float32([-2, -1]), np.float32([2, 3])
    drawn = window.extras["drawn"]
    assert (np.abs(drawn) > 1).any()
    wanted = np.clip(drawn * (high - low) / 2 + (high + low) / 2, low, high)
    np.testing.assert_allclose(window.actions, wanted, rtol=1e-6)
    rate = agent.hyperparams["learning_rate"]
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.0}))
    assert agent.learn(window)["kl"] == pytest.approx(0, abs=1e-6)
    agent.set_hyperparams(HyperparamSet({"learning_rate": rate}))
    mean, _ = agent.act_batch(window.observations[0], explore=False)
    again, _ = agent.act_batch(window.observations[0], explore=False)
    np.testing.assert_array_equal(mean, again)


def test_seeds_decide_what_is_drawn_and_probabilities_what_is_likely(agents):
    agent = agents[0]["ppo"]
    one, other = (play(agent, seed=3).actions for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (play(agent, seed=4).actions != one).any()
    probs = agent.action_probs(np.ones(4))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-6)
    assert agent.act(np.ones(4), explore=False) == probs.argmax()
    with pytest.raises(NotImplementedError, match="does not offer action_probs"):
        agents[0]["gaussian"].action_probs(np.ones(4))
