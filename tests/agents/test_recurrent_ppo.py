"""Recurrent PPO: carries, gradients through time, known values, memory, refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.ppo import ppo
from optix.agents.recurrent_ppo import recurrent_ppo
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_actor_critic
from optix.types import Discrete, Network, Trajectory
from tests import probes
from tests.agents.ppo_reference import assert_trees, linear
from tests.agents.windows import train

T, B = 12, 4


def leaky():
    """A user's own memory of one number, whose outputs are known by hand."""

    def init(key):
        del key
        return {"keep": jnp.float32(0.5), "gain": jnp.float32(2.0)}, jnp.float32(1)

    def apply(params, structure, carry, obs):
        carry = structure * params["keep"] * carry + obs[..., 0]
        value = params["gain"] * carry
        return carry, (jnp.stack([value, -value], -1), value)

    return Network(init, lambda batch: jnp.zeros(batch), apply)


def window(agent, policy, seed=0, ends=True):
    """Act on random observations, as the learner does, with ends in the middle."""
    rng = np.random.default_rng(seed)
    obs = jnp.asarray(rng.normal(size=(T, B, 1)), jnp.float32)
    terminated = jnp.asarray(rng.random((T, B)) < 0.15 * ends)
    truncated = jnp.asarray(rng.random((T, B)) < 0.15 * ends) & ~terminated
    carry, steps = agent.initial_carry(B), []
    act = jit(agent.act, static_argnums=5)
    for t in range(T):
        key = jax.random.key(t)
        carry, action, extras = act(policy, carry, obs[t], {}, key, True)
        steps.append((action, extras))
        done = terminated[t] | truncated[t]
        carry = jax.tree.map(
            lambda x, done=done: jnp.where(
                done.reshape(-1, *[1] * (x.ndim - 1)), jnp.zeros_like(x), x
            ),
            carry,
        )
    action, extras = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    reward = jnp.asarray(rng.normal(size=(T, B)), jnp.float32)
    next_obs = jnp.asarray(rng.normal(size=(T, B, 1)), jnp.float32)
    going_on = ~(terminated | truncated)[:-1, :, None]
    next_obs = next_obs.at[:-1].set(jnp.where(going_on, obs[1:], next_obs[:-1]))
    extras = {**extras, "discounted_return": reward}
    return Trajectory(obs, action, reward, terminated, truncated, next_obs, extras)


@pytest.mark.parametrize("cell", ["gru", "lstm", "separate"])
def test_no_learning_rate_no_divergence(cell):
    """Training sees the very carries of acting: across ends, sequences and epochs."""
    options = {"shared": False} if cell == "separate" else {"cell": cell}
    network = recurrent_actor_critic(
        (1,), Discrete(2), hidden=(4,), cell_size=4, **options
    )
    # every minibatch is one sequence: none can hide behind the mean of many
    agent = recurrent_ppo(
        network,
        (1,),
        Discrete(2),
        sequence_length=4,
        num_epochs=2,
        num_minibatches=12,
        learning_rate=0.0,
    )
    policy = agent.init(jax.random.key(0))
    params = jax.tree.map(lambda x: 2 * x, policy.params)  # a memory that matters
    policy = policy._replace(params=params)
    batch = window(agent, policy)
    assert (batch.terminated | batch.truncated).sum() > 5
    learn = jit(agent.learn)
    new, info, *_ = learn(policy, batch, agent.hyperparams, jax.random.key(1))
    assert_trees(new.params, policy.params, rtol=0)
    assert info["clip_fraction"] == 0 and abs(info["kl"]) < 1e-6
    # other ends are other carries
    other = batch._replace(truncated=~batch.truncated & ~batch.terminated)
    _, info, *_ = learn(policy, other, agent.hyperparams, jax.random.key(1))
    assert info["kl"] > 1e-5


def slow_values(batch, keep, gain):
    """Values of `leaky` by hand: of what was acted on, and of what followed."""
    values = np.zeros((2, T, B))
    for b in range(B):
        carry = 0.0
        for t in range(T):
            carry = keep * carry + float(batch.obs[t, b, 0])
            values[0, t, b] = gain * carry
            values[1, t, b] = gain * (keep * carry + float(batch.next_obs[t, b, 0]))
            if batch.terminated[t, b] or batch.truncated[t, b]:
                carry = 0.0
    return values


def slow_value_loss(batch, keep, gain, length, old=(0.5, 2.0), discount=0.9, lam=0.8):
    """Half the squared error of the values to targets of the old ones, in NumPy."""
    value, next_value = slow_values(batch, *old)
    stored = np.asarray(batch.extras["carry"], np.float64)
    errors = []
    for b in range(B):
        advantage, targets = 0.0, np.zeros(T)
        for t in reversed(range(T)):
            ended = batch.terminated[t, b] or batch.truncated[t, b]
            bootstrap = 0.0 if batch.terminated[t, b] else next_value[t, b]
            delta = batch.reward[t, b] + discount * bootstrap - value[t, b]
            advantage = delta + (0.0 if ended else discount * lam * advantage)
            targets[t] = advantage + value[t, b]
        for t in range(T):
            if t % length == 0:
                carry = stored[t, b]
            carry = keep * carry + float(batch.obs[t, b, 0])
            errors.append(gain * carry - targets[t])
            if batch.terminated[t, b] or batch.truncated[t, b]:
                carry = 0.0
    return 0.5 * np.mean(np.square(errors))


@pytest.mark.parametrize("length", [1, 3, 12])
def test_gradients_flow_through_time_within_a_sequence_only(length):
    """A step along the gradient beside finite differences of a loop in NumPy."""
    import optax

    agent = recurrent_ppo(
        leaky(),
        (1,),
        Discrete(2),
        sequence_length=length,
        num_epochs=1,
        num_minibatches=1,
        normalize_observations=False,
        normalize_rewards=False,
        clip_values=False,
        optimizer=optax.identity,
        learning_rate=1.0,
        discount=0.9,
        gae_lambda=0.8,
        clip_ratio=0.0,
        entropy_coefficient=0.0,
        max_grad_norm=1e9,
    )
    policy = agent.init(jax.random.key(0))
    batch = window(agent, policy)
    learn = jit(agent.learn)
    # nothing but the value loss counts
    hyperparams = {**agent.hyperparams, "value_coefficient": 1e6}
    new, info, *_ = learn(policy, batch, hyperparams, jax.random.key(1))
    expected = slow_value_loss(batch, 0.5, 2.0, length)
    np.testing.assert_allclose(info["value_loss"], expected, rtol=1e-5)
    for name, (keep, gain) in {"keep": (1e-5, 0.0), "gain": (0.0, 1e-5)}.items():
        up = slow_value_loss(batch, 0.5 + keep, 2.0 + gain, length)
        down = slow_value_loss(batch, 0.5 - keep, 2.0 - gain, length)
        moved = (policy.params[name] - new.params[name]) / 1e6
        np.testing.assert_allclose(moved, (up - down) / 2e-5, rtol=1e-3)


def test_learning_rates_side_by_side_without_another_trace():
    agent = recurrent_ppo(leaky(), (1,), Discrete(2), sequence_length=4)
    policy = agent.init(jax.random.key(0))
    batch, key = window(agent, policy), jax.random.key(1)
    learn = jit(chex.assert_max_traces(agent.learn, n=1))

    def floats(rate):
        hyperparams = {k: jnp.float32(v) for k, v in agent.hyperparams.items()}
        return {**hyperparams, "learning_rate": rate}

    rates = jnp.array([0.01, 0.02])
    alone = [learn(policy, batch, floats(rate), key)[0].params for rate in rates]
    axes = {name: 0 if name == "learning_rate" else None for name in agent.hyperparams}
    vmapped = jit(jax.vmap(agent.learn, in_axes=(None, None, axes, None)))
    both = vmapped(policy, batch, floats(rates), key)[0].params
    for i, one in enumerate(alone):
        row = jax.tree.map(lambda x, i=i: x[i], both)
        assert_trees(row, one, rtol=1e-4, atol=1e-5)
    assert alone[0]["keep"] != alone[1]["keep"]


def test_only_who_remembers_can_recall():
    spaces, options = ((2,), Discrete(2)), {"learning_rate": 0.01, "discount": 0.9}
    recurrent = recurrent_actor_critic(*spaces, hidden=(8,), cell_size=16)
    remembers = recurrent_ppo(recurrent, *spaces, **options)
    assert train(remembers, probes.Recall(), 60)[1] > 0.95
    forgets = ppo(actor_critic(*spaces, hidden=(8,)), *spaces, **options)
    assert abs(train(forgets, probes.Recall(), 60)[1]) < 0.5


def test_a_network_without_a_carry_finds_the_values_of_a_cut_episode():
    agent = recurrent_ppo(
        linear(1, 2),
        (1,),
        Discrete(2),
        normalize_observations=False,
        normalize_rewards=False,
        clip_values=False,
        learning_rate=0.05,
        discount=0.9,
        decay_over=200,
    )
    policy, _ = train(agent, probes.Endless(), 200)
    kernel, bias = policy.params["kernel"][0, -1], policy.params["bias"][-1]
    np.testing.assert_allclose([bias, bias + kernel], [19.0, 10.0], rtol=0.02)


# refusals


def test_sequences_that_do_not_divide_are_refused():
    def attempt(**options):
        agent = recurrent_ppo(leaky(), (1,), Discrete(2), **options)
        policy = agent.init(jax.random.key(0))
        batch = window(agent, policy)
        jax.eval_shape(agent.learn, policy, batch, agent.hyperparams, jax.random.key(0))

    with pytest.raises(ValueError, match="divisible by sequence_length=5, got 12"):
        attempt(sequence_length=5)
    with pytest.raises(ValueError, match="sequences.*num_minibatches=5, got 16"):
        attempt(sequence_length=3, num_minibatches=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 0}, "sequence_length must be an integer >= 1, got 0"),
        ({"learning_rat": 0.1}, "hyperparameter of recurrent_ppo 'learning_rat'"),
        ({"discount": 1.01}, r"discount must be in \[0, 1\], got 1.01"),
        ({"num_epochs": 0}, "num_epochs must be an integer >= 1, got 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        recurrent_ppo(leaky(), (1,), Discrete(2), **options)
