"""PQN: one update in NumPy, exploration, known values, memory, refusals."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit
from scipy import stats

from optix.agents.pqn import pqn, valued
from optix.agents.recurrent_pqn import recurrent_pqn
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_action_values
from optix.networks.sequence import run_sequence
from optix.networks.values import action_values
from optix.types import Box, Discrete, Network, Trajectory
from tests import probes
from tests.agents.windows import train

T, B, ACTIONS = 6, 3, 3
FLOATS = {"learning_rate": 0.3, "discount": 0.9, "td_lambda": 0.7, "max_grad_norm": 1e9}


def linear(keep=0.0):
    """A user's own network: values linear in a memory that keeps a share of itself."""

    def init(key):
        del key
        kernel = jnp.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]])
        return {"kernel": kernel, "bias": jnp.array([0.1, -0.2, 0.3])}, ()

    def apply(params, structure, carry, obs):
        del structure
        carry = keep * carry + obs if keep else ()
        x = carry if keep else obs
        return carry, x @ params["kernel"] + params["bias"]

    def initial_carry(batch):
        return jnp.zeros((batch, 2)) if keep else ()

    return Network(init, initial_carry, apply)


def build(keep=0.0, **options):
    options = {"num_epochs": 1, "num_minibatches": 1, **options}
    options = {"optimizer": optax.identity, **FLOATS, **options}
    network = linear(keep)
    if keep:
        return recurrent_pqn(network, (2,), Discrete(ACTIONS), **options)
    return pqn(network, (2,), Discrete(ACTIONS), **options)


def values_of(agent, policy, obs):
    return agent.outputs(policy, (), obs)[1]


def window(agent, policy):
    """Act on random observations, as the learner does, with ends of both kinds."""
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(T, B, 2)), jnp.float32)
    next_obs = jnp.asarray(rng.normal(size=(T, B, 2)), jnp.float32)
    terminated = jnp.asarray(rng.random((T, B)) < 0.2)
    truncated = jnp.asarray(rng.random((T, B)) < 0.3) & ~terminated
    ended = terminated | truncated
    next_obs = next_obs.at[:-1].set(
        jnp.where(ended[:-1, :, None], next_obs[:-1], obs[1:])
    )
    carry, steps = agent.initial_carry(B), []
    for t in range(T):
        key = jax.random.key(t)
        carry, *step = agent.act(policy, carry, obs[t], agent.hyperparams, key, True)
        carry = jax.tree.map(lambda x, t=t: jnp.where(ended[t][:, None], 0, x), carry)
        steps.append(step)
    action, extras = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    reward = jnp.asarray(rng.normal(size=(T, B)), jnp.float32)
    extras = {**extras, "discounted_return": reward}
    return Trajectory(obs, action, reward, terminated, truncated, next_obs, extras)


def slow_update(batch, kernel, bias, keep):
    """Return the loss and its gradients, row by row in float64."""
    values, following = np.zeros((2, T, B)), None
    features = np.zeros((T, B, 2))
    for b in range(B):
        memory = np.zeros(2)
        for t in range(T):
            memory = features[t, b] = keep * memory + np.asarray(batch.obs[t, b])
            after = keep * memory + np.asarray(batch.next_obs[t, b])
            values[0, t, b] = (memory @ kernel + bias).max()
            values[1, t, b] = (after @ kernel + bias).max()
            if batch.terminated[t, b] or batch.truncated[t, b]:
                memory = np.zeros(2)
    loss, gradient, of_bias = 0.0, np.zeros_like(kernel), np.zeros_like(bias)
    for b in range(B):
        following = None
        for t in reversed(range(T)):
            # the definition of a lambda return, not its sum of errors
            bootstrap = values[1, t, b]
            if following is not None and not batch.truncated[t, b]:
                bootstrap = 0.3 * bootstrap + 0.7 * following
            going_on = 0.0 if batch.terminated[t, b] else 1.0
            following = float(batch.reward[t, b]) + 0.9 * going_on * bootstrap
            action = int(batch.action[t, b])
            error = features[t, b] @ kernel[:, action] + bias[action] - following
            loss += 0.5 * error**2 / (T * B)
            gradient[:, action] += error * features[t, b] / (T * B)
            of_bias[action] += error / (T * B)
    return loss, gradient, of_bias


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_one_update_is_a_regression_on_lambda_returns(keep):
    more = {"sequence_length": T} if keep else {}
    agent = build(keep, **more)
    policy = agent.init(jax.random.key(0))
    batch = window(agent, policy)
    assert batch.terminated.any() and batch.truncated[:-1].any()
    new, info, finite, _ = jit(agent.learn)(
        policy, batch, agent.hyperparams, jax.random.key(1)
    )
    kernel, bias = (
        np.asarray(policy.params[k], np.float64) for k in ("kernel", "bias")
    )
    loss, gradient, of_bias = slow_update(batch, kernel, bias, keep)
    assert finite
    np.testing.assert_allclose(info["value_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(
        new.params["kernel"], kernel - 0.3 * gradient, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(new.params["bias"], bias - 0.3 * of_bias, rtol=1e-5)
    assert int(new.extras.env_steps) == T * B


def test_an_update_that_is_not_finite_changes_nothing():
    agent = build()
    policy = agent.init(jax.random.key(0))
    batch = window(agent, policy)
    poisoned = batch._replace(reward=batch.reward.at[0, 0].set(jnp.nan))
    new, _, finite, _ = jit(agent.learn)(
        policy, poisoned, agent.hyperparams, jax.random.key(1)
    )
    assert not finite
    np.testing.assert_array_equal(new.params["kernel"], policy.params["kernel"])
    assert int(new.extras.env_steps) == 0


@pytest.mark.parametrize(("env_steps", "epsilon"), [(0, 1.0), (75, 0.4), (400, 0.2)])
def test_it_is_greedy_but_for_epsilon(env_steps, epsilon):
    agent = build(epsilon_start=1.0, epsilon_end=0.2, epsilon_steps=100.0)
    policy = agent.init(jax.random.key(0))
    extras = policy.extras._replace(env_steps=jnp.int32(env_steps))
    policy, obs = policy._replace(extras=extras), jnp.array([[0.5, -1.0]])

    def act(key, explore):
        return agent.act(policy, (), obs, agent.hyperparams, key, explore)[1][0]

    keys = jax.random.split(jax.random.key(3), 4000)
    best = int(jnp.argmax(values_of(agent, policy, obs)))
    chances = np.full(ACTIONS, epsilon / ACTIONS)
    chances[best] += 1 - epsilon
    counts = np.bincount(jax.vmap(lambda key: act(key, True))(keys), minlength=ACTIONS)
    assert stats.chisquare(counts, 4000 * chances).pvalue > 1e-3
    assert act(keys[0], False) == best


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_window_at_once_gives_the_values_of_acting(cell):
    """Its values, and the best of them, across ends, as step by step."""
    network = valued(
        recurrent_action_values(
            (2,), Discrete(ACTIONS), hidden=(4,), cell_size=4, cell=cell
        )
    )
    params, structure = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (T, B, 2))
    ended = jax.random.bernoulli(jax.random.key(2), 0.3, (T, B))
    carry, steps = network.initial_carry(B), []
    for t in range(T):
        carry, out = network.apply(params, structure, carry, obs[t])
        carry = jax.tree.map(lambda x, t=t: jnp.where(ended[t][:, None], 0, x), carry)
        steps.append(out)
    values, best = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    after, (window_values, window_best) = run_sequence(
        network, params, structure, network.initial_carry(B), obs, ended
    )
    np.testing.assert_allclose(window_values, values, atol=1e-6)
    np.testing.assert_allclose(window_best, values.max(-1), atol=1e-6)
    np.testing.assert_allclose(best, values.max(-1), atol=1e-6)
    np.testing.assert_allclose(after[0], carry[0], atol=1e-6)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_layer_norm_makes_the_values_blind_to_the_scale_of_what_is_seen(layer_norm):
    network = action_values((4,), Discrete(2), hidden=(8, 8), layer_norm=layer_norm)
    params, structure = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 4))
    one, thousand = (
        network.apply(params, structure, (), scale * obs)[1] for scale in (1.0, 1e3)
    )
    assert np.allclose(one, thousand, rtol=1e-3, atol=1e-3) == layer_norm


def test_values_are_discounted_and_bootstrapped_at_a_time_limit():
    network = action_values((1,), Discrete(2), hidden=(16,), layer_norm=False)
    options: Any = {"discount": 0.9, "learning_rate": 5e-3, "epsilon_end": 1.0}
    agent = pqn(network, (1,), Discrete(2), **options)
    policy, _ = train(agent, probes.Endless(), 200)
    values = values_of(agent, policy, jnp.array([[0.0], [1.0]])).max(-1)
    np.testing.assert_allclose(values, [19.0, 10.0], rtol=0.03)


def test_only_who_remembers_can_recall():
    options: Any = {"learning_rate": 5e-3, "discount": 0.9, "epsilon_steps": 5_000.0}
    spaces = (2,), Discrete(2)
    network = recurrent_action_values(*spaces, hidden=(8,), cell_size=16)
    assert (
        train(recurrent_pqn(network, *spaces, **options), probes.Recall(), 60)[1] > 0.95
    )
    network = action_values(*spaces, hidden=(8,), layer_norm=True)
    assert abs(train(pqn(network, *spaces, **options), probes.Recall(), 60)[1]) < 0.5


# refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 0.1}, "hyperparameter of pqn 'learning_rat'"),
        ({"td_lambda": 1.01}, r"td_lambda must be in \[0, 1\], got 1.01"),
        ({"num_epochs": 0}, "num_epochs must be an integer >= 1, got 0"),
        ({"num_minibatches": 0}, "num_minibatches must be an integer >= 1, got 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_networks_and_spaces_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="recurrent_pqn, which trains through time"):
        pqn(linear(0.5), (2,), Discrete(ACTIONS))
    with pytest.raises(ValueError, match="a value of each of 2 actions"):
        pqn(actor_critic((2,), Discrete(2)), (2,), Discrete(2))
    with pytest.raises(ValueError, match="action_space of pqn"):
        pqn(linear(), (2,), cast(Any, Box((1,))))
    agent = build(num_minibatches=5)
    policy = agent.init(jax.random.key(0))
    with pytest.raises(ValueError, match="num_minibatches=5, got 18"):
        agent.learn(policy, window(agent, policy), agent.hyperparams, jax.random.key(0))
