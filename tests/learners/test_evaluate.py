"""Scores against a Python loop over gymnax's own steps."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.types import Agent, Policy
from tests import probes

EPISODES = 6
FLOATS = {"learning_rate": 0.1}


def agent_of(act, initial_carry=lambda batch: ()):
    def init(key):
        del key
        return Policy(jnp.float32(0))

    return Agent(init, initial_carry, act, None, FLOATS)


def swaying(policy, carry, obs, hyperparams, key, explore):
    """Push where the pole leans; every `params`-th step push left."""
    del key, hyperparams
    assert not explore
    steps, last = carry
    lazy = (steps % jnp.maximum(policy.params, 1)) == 0
    action = jnp.where(lazy, 0, (obs[:, 2] + last > 0).astype(jnp.int32))
    return (steps + 1, obs[:, 3]), action.astype(jnp.int32), {}


def swaying_carry(batch):
    return jnp.zeros(batch), jnp.zeros(batch)


@pytest.fixture(scope="module")
def cartpole():
    inner, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=60)
    plain = device(inner, params)
    starts = np.random.default_rng(0).uniform(-0.05, 0.05, (EPISODES, 4))
    starts = starts.astype(np.float32)

    def reset(key, batch):
        """The same episodes whatever the key, so that a loop can play them too."""
        assert batch == EPISODES
        state, _ = plain.reset(key, batch)
        x, x_dot, theta, theta_dot = starts.T
        state = state.replace(x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot)
        return state, jnp.asarray(starts)

    env = plain._replace(reset=reset)
    agent = agent_of(swaying, swaying_carry)
    return jit(evaluator(agent, env, episodes=EPISODES)), inner, params, starts


def slow_score(inner, params, starts, lazy):
    step = jit(inner.step_env)
    template = inner.reset(jax.random.key(0))[1]
    returns = []
    for start in starts:
        fields = dict(zip(["x", "x_dot", "theta", "theta_dot"], start, strict=True))
        state, obs, last, total = template.replace(time=0, **fields), start, 0.0, 0.0
        while True:
            action = int(obs[2] + last > 0)
            if int(state.time) % lazy == 0:
                action = 0
            last = obs[3]
            obs, state, reward, terminated, _ = step(
                jax.random.key(0), state, action, params
            )
            total += float(reward)
            if terminated or int(state.time) >= params.max_steps_in_episode:
                break
        returns.append(total)
    return returns


@pytest.mark.parametrize("lazy", [1, 2, 7])
def test_the_score_is_that_of_a_python_loop(cartpole, lazy):
    evaluate, inner, params, starts = cartpole
    returns = slow_score(inner, params, starts, lazy)
    score = evaluate(Policy(jnp.float32(lazy)), FLOATS, jax.random.key(0))
    np.testing.assert_allclose(score, np.mean(returns), rtol=1e-5)
    if lazy == 2:  # episodes of different lengths, none as long as another's limit
        assert len(set(returns)) > 1 and max(returns) < 60
    if lazy == 7:  # some are cut off
        assert max(returns) == 60


def still(policy, carry, obs, hyperparams, key, explore):
    del key, hyperparams, explore
    action = jnp.broadcast_to(policy.params, obs.shape[:1]).astype(jnp.int32)
    return carry, action, {}


def test_a_key_gives_the_same_episodes_to_every_policy():
    """The reward is the random observation, whatever is done."""
    env = device(probes.RewardIsObservation())
    evaluate = jit(evaluator(agent_of(still), env, episodes=51))
    policies = [Policy(jnp.float32(x)) for x in (0, 1)]
    scores = {
        seed: evaluate(policies[0], FLOATS, jax.random.key(seed)) for seed in range(6)
    }
    for seed, score in scores.items():
        assert score == evaluate(policies[1], FLOATS, jax.random.key(seed))
        assert score != 0 and abs(score) <= 1
    assert len({float(score) for score in scores.values()}) > 2
    # 306 signs: the mean of all is near zero
    assert abs(np.mean(list(scores.values()))) < 4 / np.sqrt(306)


def coin(policy, carry, obs, hyperparams, key, explore):
    """Plays 1 for certain, or a fair coin where it may explore."""
    del policy, hyperparams
    tossed = jax.random.bernoulli(key, 0.5, obs.shape[:1])
    action = tossed if explore else jnp.ones(obs.shape[0])
    return carry, action.astype(jnp.int32), {}


def biased_coin(policy, carry, obs, hyperparams, key, explore):
    tossed = jax.random.bernoulli(key, hyperparams["bias"], obs.shape[:1])
    return carry, tossed.astype(jnp.int32), {}


def test_samples_are_drawn_with_the_hyperparameters_that_are_asked_about():
    """Not with the defaults of the agent's factory."""
    env = device(ActionIsReward(), probes.Params(max_steps_in_episode=100))
    agent = agent_of(biased_coin)._replace(hyperparams={"bias": 0.5})
    play = jit(evaluator(agent, env, episodes=20, deterministic=False))
    scores = [play(Policy(()), {"bias": x}, jax.random.key(0)) for x in (0.0, 1.0)]
    assert scores == [0.0, 5.0]


class ActionIsReward(probes.Probe):
    """Five steps, each rewarded by its action."""

    num_steps = 5

    def reward(self, state, action, params):
        return params.reward * action


@pytest.mark.parametrize("deterministic", [True, False])
def test_modes_or_samples(deterministic):
    env = device(ActionIsReward(), probes.Params(max_steps_in_episode=100))
    evaluate = evaluator(agent_of(coin), env, episodes=200, deterministic=deterministic)
    score = jit(evaluate)(Policy(()), FLOATS, jax.random.key(0))
    if deterministic:
        assert score == 5.0
    else:  # 1000 tosses: every step and episode has its own
        assert abs(score - 2.5) < 4 * 5 * 0.5 / np.sqrt(1000)


class Unequal(probes.Probe):
    """Rewards 1 for as many steps as the first observation says, NaN after that."""

    num_steps = None

    def first_obs(self, key):
        return jax.random.randint(key, (1,), 1, 4).astype(jnp.float32)

    def reward(self, state, action, params):
        return jnp.where(state.time < state.obs[0], 1.0, jnp.nan)

    def step_env(self, key, state, action, params):
        obs, after, reward, _, info = super().step_env(key, state, action, params)
        return obs, after, reward, after.time >= state.obs[0], info


def test_nothing_after_the_end_counts():
    """Episodes of one to three steps side by side; the dead ones see NaN."""
    env = device(Unequal(), probes.Params(max_steps_in_episode=1000))
    evaluate = jit(evaluator(agent_of(still), env, episodes=60))
    score = evaluate(Policy(jnp.float32(0)), FLOATS, jax.random.key(0))
    assert 1.5 < score < 2.5


def test_a_nan_within_an_episode_does_count():
    class Sick(probes.Probe):
        def reward(self, state, action, params):
            return jnp.nan

    evaluate = jit(evaluator(agent_of(still), device(Sick()), episodes=2))
    assert np.isnan(evaluate(Policy(jnp.float32(0)), FLOATS, jax.random.key(0)))


def test_the_time_limit_ends_evaluation():
    """An environment that forgets to say that it is over does not hang."""

    class Forgetful(probes.Endless):
        def is_truncated(self, state, params):
            return False

    evaluate = jit(evaluator(agent_of(still), device(Forgetful()), episodes=2))
    assert evaluate(Policy(jnp.float32(0)), FLOATS, jax.random.key(0)) == 10 + 4 * 1


def test_devices_play_their_own_episodes_and_share_the_mean():
    env = device(probes.RewardIsObservation())
    split = evaluator(agent_of(still)._replace(axis_name="device"), env, episodes=5)

    def one(_, key):
        return split(Policy(jnp.float32(0)), FLOATS, key)

    devices = jit(jax.vmap(one, in_axes=(0, None), axis_name="device"))
    scores = [devices(jnp.arange(2), jax.random.key(seed)) for seed in range(8)]
    assert all(score[0] == score[1] for score in scores)
    # five signs have an odd sum; only two sums that differ have an even mean
    sums = np.array([round(float(score[0]) * 5) for score in scores])
    assert (sums % 2 == 0).any()
