"""An update of IMPALA against its definition in NumPy, with sequences and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit
from scipy import special

from optix.agents.impala import impala
from optix.networks.recurrent import recurrent_actor_critic
from optix.types import Discrete, Trajectory
from tests.agents.ppo_reference import linear
from tests.math.test_returns import slow_vtrace

T, B, INPUTS, ACTIONS, LENGTH = 12, 4, 3, 4, 6
PLAIN = {"normalize_observations": False, "normalize_rewards": False}
FLOATS = {
    "learning_rate": 0.1,
    "discount": 0.9,
    "trace_lambda": 0.8,
    "rho_clip": 1.2,
    "trace_clip": 0.9,
    "entropy_coefficient": 0.03,
    "value_coefficient": 0.7,
    "max_grad_norm": 1e9,
}


def build(network=None, **options):
    """A linear agent of plain gradients, one update in each window."""
    settings = {"num_minibatches": 1, "optimizer": optax.identity, **PLAIN}
    settings["sequence_length"] = LENGTH
    network = network or linear(INPUTS, ACTIONS)
    return impala(network, (INPUTS,), Discrete(ACTIONS), **{**settings, **options})


def window_of(rng):
    """Experience of another policy, with ends of both kinds."""
    obs, next_obs = rng.normal(size=(2, T, B, INPUTS)).astype(np.float32)
    terminated, truncated = rng.random((2, T, B)) < 0.2
    # what followed a step was acted on in the next one, unless its episode ended
    going = ~(terminated | truncated)[:-1]
    next_obs[:-1] = np.where(going[..., None], obs[1:], next_obs[:-1])
    return Trajectory(
        obs,
        rng.integers(ACTIONS, size=(T, B)).astype(np.int32),
        rng.normal(size=(T, B)).astype(np.float32),
        terminated,
        truncated,
        next_obs,
        {"log_prob": np.log(rng.uniform(0.1, 0.6, (T, B))).astype(np.float32)},
    )


@pytest.fixture(scope="module")
def window():
    return window_of(np.random.default_rng(0))


@pytest.fixture(scope="module")
def policy():
    policy = build().init(jax.random.key(0))
    kernel = jax.random.normal(jax.random.key(1), (INPUTS, ACTIONS + 1))
    return policy._replace(params={**policy.params, "kernel": 0.5 * kernel})


def slow_update(params, window, floats):
    """Plain gradient descent by the derivatives of the loss, in float64."""
    kernel, bias = (np.asarray(params[k], np.float64) for k in ("kernel", "bias"))

    def heads(obs):
        out = np.asarray(obs, np.float64) @ kernel + bias
        return special.log_softmax(out[..., :-1], -1), out[..., -1]

    log_probs, value = heads(window.obs)
    chosen = np.eye(ACTIONS)[window.action]
    ratio = np.exp((log_probs * chosen).sum(-1) - window.extras["log_prob"])
    following = heads(window.next_obs)[1]
    names = "discount", "trace_lambda", "rho_clip", "trace_clip"
    target, advantage = np.empty((2, T, B))
    for first in range(0, T, LENGTH):  # each sequence for itself
        part = slice(first, first + LENGTH)
        data = [
            x[part]
            for x in (
                np.float64(window.reward),
                value,
                following,
                window.terminated,
                window.truncated,
            )
        ]
        settings = [floats[name] for name in names]
        target[part], advantage[part] = slow_vtrace(data, ratio[part], *settings)
    prob = np.exp(log_probs)
    entropy = -(prob * log_probs).sum(-1, keepdims=True)
    d_logits = -advantage[..., None] * (chosen - prob)
    d_logits += floats["entropy_coefficient"] * prob * (log_probs + entropy)
    d_value = floats["value_coefficient"] * (value - target)
    d_out = np.concatenate([d_logits, d_value[..., None]], -1) / (T * B)
    rate = floats["learning_rate"]
    return {
        "kernel": kernel - rate * np.einsum("tbi,tbo->io", window.obs, d_out),
        "bias": bias - rate * d_out.sum((0, 1)),
    }


@pytest.mark.parametrize("changed", [{}, {"rho_clip": 0.3, "trace_clip": 0.1}])
def test_an_update_by_its_definition(policy, window, changed):
    floats = {**FLOATS, **changed}
    learned = jit(build(num_epochs=1).learn)(policy, window, floats, jax.random.key(0))
    wanted = slow_update(policy.params, window, floats)
    for name, leaf in wanted.items():
        np.testing.assert_allclose(learned.policy.params[name], leaf, atol=2e-5)
        assert np.abs(leaf - np.asarray(policy.params[name])).max() > 1e-3
    assert learned.finite and learned.info["kl"] > 0


def test_two_devices_are_one(policy, window):
    split = build(axis_name="data", normalize_rewards=True, normalize_observations=True)
    whole = build(normalize_rewards=True, normalize_observations=True)
    returns = {"discounted_return": np.cumsum(window.reward, 0)}
    window = window._replace(extras={**window.extras, **returns})
    halves = jax.tree.map(
        lambda x: np.moveaxis(x.reshape(T, 2, B // 2, *x.shape[2:]), 1, 0), window
    )
    key = jax.random.key(0)
    one = jit(whole.learn)(policy, window, FLOATS, key)
    learn = jax.vmap(split.learn, (None, 0, None, None), axis_name="data")
    two = jit(learn)(policy, halves, FLOATS, key)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (one.policy, two.policy)), strict=True
    ):
        for device in range(2):
            np.testing.assert_allclose(theirs[device], ours, rtol=1e-4, atol=1e-5)


def test_a_network_that_remembers_starts_from_the_carry_of_acting(window):
    """What a carry holds changes the update; a sequence without one is fresh."""
    network = recurrent_actor_critic(
        (INPUTS,), Discrete(ACTIONS), cell_size=4, hidden=(4,)
    )
    agent = build(network)
    policy = agent.init(jax.random.key(0))
    learn, ends = jit(agent.learn), []
    for scale in (0.0, 1.0):
        carry = jax.tree.map(
            lambda x, s=scale: s + np.zeros((T, *x.shape), x.dtype),
            agent.initial_carry(B),
        )
        given = window._replace(extras={**window.extras, "carry": carry})
        learned = learn(policy, given, FLOATS, jax.random.key(0))
        assert learned.finite
        leaves = jax.tree.leaves(learned.policy.params)
        ends.append(np.concatenate([jnp.ravel(x) for x in leaves]))
    assert np.abs(ends[0] - ends[1]).max() > 1e-4


def test_what_is_not_finite_changes_nothing(policy, window):
    reward = window.reward.copy()
    reward[3, 1] = np.nan
    learned = jit(build().learn)(
        policy, window._replace(reward=reward), FLOATS, jax.random.key(0)
    )
    assert not learned.finite
    np.testing.assert_array_equal(
        learned.policy.params["kernel"], policy.params["kernel"]
    )


def test_sequences_and_minibatches_fit_the_window():
    agent = build(num_minibatches=4)
    with pytest.raises(ValueError, match="divisible by sequence_length=6, got 10"):
        agent.check_window(10, 4)
    with pytest.raises(ValueError, match="divisible by num_minibatches=4, got 6"):
        agent.check_window(12, 3)
    with pytest.raises(ValueError, match="unknown hyperparameter of impala 'rho_clop'"):
        build(rho_clop=1.0)
