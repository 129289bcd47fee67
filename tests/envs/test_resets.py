"""How ended episodes begin again, against a slow account of who ended when."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.resets import cost_of_reset, is_dear, with_resets
from optix.make import make
from tests import probes


class State(NamedTuple):
    first: jax.Array  # [] float32 drawn by the reset
    time: jax.Array


class Drawn(probes.Probe):
    """Shows the number that its reset drew; the action 1 ends the episode."""

    def reset_env(self, key, params):
        first = jax.random.uniform(key)
        return first[None], State(first, jnp.int32(0))

    def step_env(self, key, state, action, params):
        state = state._replace(time=state.time + 1)
        return state.first[None] + 1, state, 1.0, action == 1, {}


class Dear(Drawn):
    """Sums a million numbers before it begins."""

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs + 0 * jax.random.normal(key, (10_000,)).sum(), state


def played(env, ended, seed=0):
    """Observations before and after a step in which the rows of `ended` end."""
    key = jax.random.key(seed)
    state, first = env.reset(key, len(ended))
    action = jnp.asarray(ended, jnp.int32)
    state, result = jax.jit(env.step)(jax.random.fold_in(key, 1), state, action)
    return np.asarray(first)[:, 0], np.asarray(result.obs)[:, 0], result, state


ENDED = np.zeros(48, bool)
ENDED[[3, 20, 40]] = True  # as many as are fresh, of 48 environments


def test_shared_states_are_fresh_and_no_two_alike():
    env = with_resets(device(Drawn()), "shared")
    first, obs, result, state = played(env, ENDED)
    fresh = obs[ENDED]
    assert len(set(fresh)) == 3 and not set(fresh) & set(first)
    np.testing.assert_allclose(obs[~ENDED], first[~ENDED] + 1)
    np.testing.assert_allclose(np.asarray(result.next_obs)[:, 0], first + 1)
    np.testing.assert_array_equal(np.asarray(state.time), np.where(ENDED, 0, 1))
    np.testing.assert_array_equal(np.asarray(state.first)[ENDED], fresh)


def test_more_ends_than_fresh_states_share_evenly():
    env = with_resets(device(Drawn()), "shared")
    _, obs, _, _ = played(env, np.ones(48, bool))
    values, counts = np.unique(obs, return_counts=True)
    assert len(values) == 3 and set(counts) == {16}


def test_first_states_are_distributed_as_the_environments_own():
    from scipy.stats import kstest

    env = with_resets(device(Drawn()), "shared")
    fresh = jax.vmap(
        lambda key: env.step(key, env.reset(key, 2)[0], jnp.array([1, 0], jnp.int32))[
            1
        ].obs[0, 0]
    )(jax.random.split(jax.random.key(5), 2000))
    assert kstest(np.asarray(fresh), "uniform").pvalue > 1e-3


def test_cached_goes_back_to_the_first_state():
    env = with_resets(device(Drawn()), "cached")
    first, obs, result, state = played(env, ENDED)
    np.testing.assert_array_equal(obs[ENDED], first[ENDED])
    np.testing.assert_allclose(np.asarray(result.next_obs)[:, 0], first + 1)
    np.testing.assert_array_equal(np.asarray(state.state.time), np.where(ENDED, 0, 1))


@pytest.mark.parametrize("resets", ["shared", "cached"])
def test_bits_are_the_same_under_vmap(resets):
    env = with_resets(device(Drawn()), resets)

    def one(key):
        state, _ = env.reset(key, 20)
        action = jnp.asarray(np.arange(20) % 3 == 0, jnp.int32)
        return env.step(jax.random.fold_in(key, 1), state, action)[1].obs

    keys = jax.random.split(jax.random.key(0), 3)
    alone = jnp.stack([jax.jit(one)(key) for key in keys])
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(keys), alone)


def test_the_cost_decides():
    cheap, dear = device(Drawn()), device(Dear())
    assert not is_dear(cheap) and is_dear(dear)
    assert cost_of_reset(dear) > 1_000_000 > cost_of_reset(cheap)
    assert not is_dear(device("CartPole-v1"))
    assert environment(Drawn()).step.__module__ == "optix.envs.device"
    assert environment(Dear()).step.__module__ == "optix.envs.resets"


@pytest.mark.parametrize("resets", ["all", "shared", "cached"])
def test_a_run_takes_each(resets):
    options = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 2}
    run = make(Drawn(), "ppo", resets=resets, num_minibatches=2, **options)
    state = jax.eval_shape(run.init, jax.random.key(0))
    jax.eval_shape(run.step, state)


@pytest.mark.parametrize("resets", ["some", 3, True])
def test_another_word(resets):
    with pytest.raises(ValueError, match="unknown resets"):
        make(Drawn(), "ppo", resets=resets)


def test_resets_are_not_chosen_for_what_is_made_already():
    with pytest.raises(ValueError, match="resets are chosen"):
        make(device(Drawn()), "ppo", resets="all")
    with pytest.raises(ValueError, match="resets are chosen"):
        make("gymnasium:CartPole-v1", "ppo", resets="all")
