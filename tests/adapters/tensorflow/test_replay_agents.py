"""Agents with a replay in TensorFlow: updates as those of JAX, and acting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow as tf

from optix.agents import dqn, td3
from optix.agents.sac import squashed_gaussian
from optix.host.agent import HyperparamSet
from optix.host.replay import Rows
from optix.networks.continuous import actor_and_critic
from optix.networks.values import action_values
from optix.types import Box, Discrete, Sample, Transition
from tests.adapters.acting import play
from tests.adapters.tensorflow.windows import make

COUNT = 10


def rows_of(discrete, seed=0):
    rng = np.random.default_rng(seed)
    obs, after = rng.normal(size=(2, COUNT, 4)).astype(np.float32)
    action = rng.integers(0, 3, COUNT)
    if not discrete:
        action = rng.uniform(-1, 1, (COUNT, 2)).astype(np.float32)
    reward, weight = rng.random((2, COUNT)).astype(np.float32)
    discount = np.float32(0.9) * (rng.random(COUNT) < 0.7)
    index = np.arange(COUNT)
    return Rows(obs, action, reward, discount.astype(np.float32), after, index, weight)


def sample(rows):
    obs, action, reward, discount, after, index, weight = map(jnp.asarray, rows)
    return Sample(Transition(obs, action, reward, discount, after), index, weight)


class Given:
    """A replay whose draws are known."""

    def __init__(self, *drawn):
        self.drawn, self.priority = list(drawn), None

    def __len__(self):
        return 1000

    def sample(self, rng, batch_size, **kwargs):
        taken = [self.drawn.pop(0) for _ in range(batch_size // COUNT)]
        return Rows(*map(np.concatenate, zip(*taken, strict=True)))

    def prioritise(self, index, priority):
        self.priority = priority


def updated(agent, rows):
    """Make one update, as `learn` does; return its numbers and the errors."""
    agent.memory = Given(rows)
    sums = agent._learn_from(1)
    return dict(zip(agent.NAMES, sums, strict=True)), agent.memory.priority


def copy_layers(model, params):
    """Give a model the weights of JAX's layers, in order."""
    model.set_weights([np.array(p[k]) for p in params for k in ("kernel", "bias")])


def check_layers(model, params):
    wanted = [np.array(p[k]) for p in params for k in ("kernel", "bias")]
    for got, one in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(got, one, rtol=2e-4, atol=5e-6)


KNOWN = {"batch_size": COUNT, "prioritised": True, "priority_exponent": 1.0}


@pytest.mark.parametrize("double", [True, False])
def test_dqn_learns_as_jax_does(double):
    options = {"target_period": 2, "target_rate": 0.5, "learning_rate": 1e-2}
    network = action_values((4,), Discrete(3), hidden=(4,))
    other = dqn.dqn(network, (4,), Discrete(3), double=double, **options)
    policy = other.init(jax.random.key(0))
    agent = make("dqn", double=double, **options, **KNOWN)

    def layers(params):
        return params["torso"]["Dense_0"], params["values"]

    for model in agent.modules.values():
        copy_layers(model, layers(policy.params))
    learn = jax.jit(other.learn)
    for seed in range(3):
        rows = rows_of(discrete=True, seed=seed)
        learned = learn(policy, sample(rows), other.hyperparams, jax.random.key(1))
        info, priority = updated(agent, rows)
        policy = learned.policy
        np.testing.assert_allclose(priority, learned.priority, rtol=1e-3, atol=1e-5)
        wanted = float(learned.info["value_loss"])
        assert info["value_loss"] == pytest.approx(wanted, rel=1e-4)
    check_layers(agent.q_network, layers(policy.params))
    check_layers(agent.target, layers(policy.extras.target))


def test_td3_learns_as_jax_does():
    options = {"target_noise": 0.0, "target_rate": 0.1, "policy_delay": 2}
    networks = actor_and_critic((4,), Box((2,)), hidden=(4,), stochastic=False)
    other = td3.td3(networks, (4,), Box((2,)), **options)
    policy = other.init(jax.random.key(0))
    agent = make("td3", **options, **KNOWN)

    def pairs(params, before=""):
        actor, (one, two) = params["actor"], params["critics"]
        yield f"{before}actor", (actor["Torso_0"]["Dense_0"], actor["mean"])
        for name, critic in (("critic1", one), ("critic2", two)):
            yield f"{before}{name}", (critic["Torso_1"]["Dense_0"], critic["value"])

    for before in ("", "target_"):
        for name, params in pairs(policy.params, before):
            copy_layers(agent.modules[name], params)
    learn = jax.jit(other.learn)
    for seed in range(4):
        rows = rows_of(discrete=False, seed=seed)
        learned = learn(policy, sample(rows), other.hyperparams, jax.random.key(1))
        info, priority = updated(agent, rows)
        policy = learned.policy
        np.testing.assert_allclose(priority, learned.priority, rtol=1e-3, atol=1e-5)
        wanted = float(learned.info["policy_loss"])
        assert info["policy_loss"] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
        assert (wanted == 0) == (seed % 2 == 0)
    for name, params in pairs(policy.params):
        check_layers(agent.modules[name], params)
    for name, params in pairs(policy.extras.target, "target_"):
        check_layers(agent.modules[name], params)


class Noise:
    """A generator whose draws are known: one after the other, where it is traced."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def normal(self, shape):
        return tf.constant(self.draws.pop(0))


def weights_of(agent):
    return {
        name: list(map(jnp.array, m.get_weights())) for name, m in agent.modules.items()
    }


def run(weights, x):
    w, b, v, c = weights
    return jax.nn.relu(x @ w + b) @ v + c


def values(weights, obs, action, before=""):
    row = jnp.concatenate([obs, action], 1)
    return [run(weights[f"{before}critic{k}"], row)[:, 0] for k in (1, 2)]


def test_the_actions_of_targets_are_smoothed():
    agent = make("td3", **KNOWN, target_noise=0.5, target_noise_limit=0.6)
    weights, rows = weights_of(agent), rows_of(discrete=False)
    noise = np.float32(np.random.default_rng(1).normal(size=(COUNT, 2)))
    agent.generator = Noise(noise)
    _, errors = updated(agent, rows)
    smooth = np.clip(0.5 * noise, -0.6, 0.6)
    assert (np.abs(smooth) == np.float32(0.6)).any()
    action = jnp.clip(
        jnp.tanh(run(weights["target_actor"], rows.next_obs)) + smooth, -1, 1
    )
    following = jnp.minimum(*values(weights, rows.next_obs, action, "target_"))
    target = rows.reward + rows.discount * following
    one, two = values(weights, rows.obs, rows.action)
    wanted = (abs(one - target) + abs(two - target)) / 2
    np.testing.assert_allclose(errors, wanted, rtol=1e-4, atol=1e-6)


def sac_by_hand(weights, log_temperature, rows, h, noise, adams):
    """One update of SAC, written down once more in JAX."""

    def act(actor, obs, noise):
        mean, log_scale = jnp.split(run(actor, obs), 2, -1)
        return squashed_gaussian(mean, jnp.clip(log_scale, -20, 2), noise)

    def step(k, value, slope):
        norm = optax.tree.norm(slope)
        slope = jax.tree.map(lambda x: x * min(1, h["max_grad_norm"] / norm), slope)
        adam = optax.adam(h["learning_rate"], eps=1e-8)
        adams[k] = adam.init(value) if adams[k] is None else adams[k]
        change, adams[k] = adam.update(slope, adams[k])
        return optax.apply_updates(value, change)

    temperature = jnp.exp(log_temperature)
    following, log_prob = act(weights["actor"], rows.next_obs, noise[0])
    least = jnp.minimum(*values(weights, rows.next_obs, following, "target_"))
    target = rows.reward + rows.discount * (least - temperature * log_prob)

    def value_loss(critics):
        found = values(critics, rows.obs, rows.action)
        return sum((rows.weight * (v - target) ** 2).mean() / 2 for v in found)

    critics = {k: weights[k] for k in ("critic1", "critic2")}
    weights = weights | step(0, critics, jax.grad(value_loss)(critics))

    def policy_loss(actor):
        action, log_prob = act(actor, rows.obs, noise[1])
        value = jnp.minimum(*values(weights, rows.obs, action))
        return (temperature * log_prob - value).mean(), log_prob

    slope, log_prob = jax.grad(policy_loss, has_aux=True)(weights["actor"])
    weights = weights | {"actor": step(1, weights["actor"], slope)}
    surplus = (2 * h["entropy_scale"] - log_prob).mean()
    log_temperature = step(2, log_temperature, surplus)
    for name in critics:
        slow, fast = weights[f"target_{name}"], weights[name]
        moved = [
            s + h["target_rate"] * (f - s) for s, f in zip(slow, fast, strict=True)
        ]
        weights[f"target_{name}"] = moved
    return weights, log_temperature


def test_sac_learns_as_by_hand():
    """Three updates in one call, as a window has them."""
    agent = make("sac", learning_rate=1e-2, initial_temperature=0.3, batch_size=COUNT)
    weights, log_temperature = weights_of(agent), jnp.log(0.3)
    noise = np.float32(np.random.default_rng(1).normal(size=(2, COUNT, 2)))
    agent.generator = Noise(*noise)
    batches = [rows_of(discrete=False, seed=seed) for seed in range(3)]
    agent.memory = Given(*batches)
    agent._learn_from(3)
    adams = [None] * 3
    for rows in batches:
        weights, log_temperature = sac_by_hand(
            weights, log_temperature, rows, agent.hyperparams, noise, adams
        )
    assert float(agent.log_temperature) == pytest.approx(
        float(log_temperature), rel=1e-5
    )
    for name, model in agent.modules.items():
        for got, wanted in zip(model.get_weights(), weights[name], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-5)


def test_a_temperature_that_is_kept():
    agent = make("sac", tune_temperature=False, initial_temperature=0.3, **KNOWN)
    info, _ = updated(agent, rows_of(discrete=False))
    assert info["temperature"] == pytest.approx(0.3)
    assert np.exp(float(agent.log_temperature)) == pytest.approx(0.3)


@pytest.fixture(scope="module")
def learned():
    """An agent of each kind that has learned from a window of 16 steps."""
    made = {}
    for name, options in (
        ("dqn", {"epsilon_steps": 100, "epsilon_end": 0.2, "prioritised": True}),
        ("sac", {"updates_per_step": 0.25}),
        ("td3", {"exploration_noise": 0.3, "normalize_rewards": True}),
    ):
        agent = make(name, learning_starts=16, **options)
        first = agent.state()
        obs = np.ones((3000, 4), np.float32)
        actions, _ = agent.act_batch(obs)  # there is nothing to learn from yet
        window = play(agent, ends=0.9)
        assert set(agent.learn(window)) == set(agent.NAMES)
        made[name] = agent, first, actions, window
    return made


@pytest.mark.parametrize("name", ["dqn", "sac", "td3"])
def test_actions_are_random_until_there_is_enough_to_learn_from(name, learned):
    agent, _, actions, _ = learned[name]
    if name == "dqn":
        np.testing.assert_allclose(np.bincount(actions) / 3000, 1 / 3, atol=0.04)
    else:
        np.testing.assert_allclose(actions.mean(0), [0, 1], atol=0.15)
        assert actions.min() < -1.9 and actions.max() > 2.9
    memory, agent.memory = agent.memory, agent.make_memory()
    before = agent.state()
    assert agent.learn(play(agent, steps=2)) == {}
    after = agent.state()
    assert all((after[k] == before[k]).all() for k in before if "kernel" in k)
    agent.memory = memory
    agent.restore(before)


def test_epsilon_falls_with_the_steps_of_the_window_under_way(learned):
    agent = learned["dqn"][0]
    agent.seed(0)
    assert agent.epsilon == pytest.approx(1 - 0.16 * 0.8)
    agent.act_batch(np.ones((10, 4), np.float32))
    assert agent.epsilon == pytest.approx(1 - 0.26 * 0.8)
    agent.act_batch(np.ones((10, 4), np.float32), explore=False)
    assert agent.epsilon == pytest.approx(1 - 0.26 * 0.8)
    agent.act_batch(np.ones((100, 4), np.float32))
    assert agent.epsilon == pytest.approx(0.2)
    obs = np.random.default_rng(0).normal(size=(4000, 4))
    explored, _ = agent.act_batch(obs)
    greedy, _ = agent.act_batch(obs, explore=False)
    assert (explored != greedy).mean() == pytest.approx(0.2 * 2 / 3, abs=0.02)
    agent.seed(0)  # another window begins
    assert agent.epsilon == pytest.approx(1 - 0.16 * 0.8)


def test_sac_and_td3_explore_within_the_bounds(learned):
    obs = np.ones((2000, 4), np.float32)
    for name in ("sac", "td3"):
        agent = learned[name][0]
        played, _ = agent.act_batch(obs, explore=False)
        explored, _ = agent.act_batch(obs)
        assert (played == played[0]).all() and explored.dtype == np.float32
        beside = agent.bounds.encode(explored) - agent.bounds.encode(played)
        inside = np.abs(agent.bounds.encode(explored)) < 1
        assert inside.mean() > 0.3 and beside[inside].std() > 0.1
        assert name == "sac" or beside[inside].std() < 0.35
        assert (explored >= [-2, -1]).all() and (explored <= [2, 3]).all()


def test_what_is_stored_is_in_the_agents_own_units_and_rewards_are_scaled(learned):
    agent, _, _, window = learned["td3"]
    agent.memory = agent.make_memory()
    agent._store(window)
    saved = agent.memory.state()
    actions = window.actions.reshape(-1, 2)
    np.testing.assert_allclose(agent.bounds.decode(saved["action"]), actions, atol=1e-6)
    assert np.abs(saved["action"]).max() <= 1 + 1e-6
    after = window.next_observations.reshape(-1, 4)
    np.testing.assert_array_equal(saved["next_obs"], after)
    scale = agent.records["returns"].inverse()
    rows, reward = agent.drawn(1)
    np.testing.assert_allclose(reward, saved["reward"][rows.index] * scale, rtol=1e-6)
    assert scale != 1


def test_updates_are_made_as_steps_ask_for(learned):
    agent = learned["sac"][0]
    state = agent.state()
    assert int(agent.numbers["updates"]) == 4
    for seed, ratio, total in ((1, 0.1, 5), (2, 0.1, 7), (3, 0.0, 7), (4, 1.0, 23)):
        agent.set_hyperparams(HyperparamSet({"updates_per_step": ratio}))
        agent.learn(play(agent, seed=seed))
        assert int(agent.numbers["updates"]) == total
        assert int(agent.state()["actor_optimizer.0.iteration"]) == total
    agent.restore(state)


def test_many_updates_are_made_in_several_calls(learned, monkeypatch):
    """What is drawn at once is bounded, and the same is learned."""
    agent = learned["sac"][0]
    agent.set_hyperparams(HyperparamSet({"updates_per_step": 0.25}))
    state, outcomes = agent.state(), []
    agent.memory = Given()
    for most in (2**26, 600):  # bytes: one call of four, two calls of two
        monkeypatch.setattr("optix_tensorflow.off_policy.MOST_BYTES", most)
        agent.restore(state)
        agent.seed(3)
        agent.set_hyperparams(HyperparamSet({"batch_size": COUNT}))
        agent.memory.drawn = [rows_of(discrete=False, seed=k) for k in range(4)]
        outcomes.append((agent._improve(4), agent.state()))
    (numbers, wanted), (again, got) = outcomes
    np.testing.assert_allclose(numbers, again, rtol=1e-5)
    assert int(wanted["learned/windows"]) == int(got["learned/windows"])
    for name in wanted:
        np.testing.assert_allclose(wanted[name], got[name], rtol=1e-5, atol=1e-7)


def test_priorities_are_the_errors(learned):
    agent = learned["dqn"][0]
    assert len(set(agent.memory.state()["priority"])) > 5
    assert agent._importance() == pytest.approx(0.4 + 0.6 * agent.env_steps / 100_000)
