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
from optix.types import Trajectory
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


class Long(Drawn):
    """Lasts 1 to 4 steps, as its reset drew."""

    LENGTHS = 4

    def reset_env(self, key, params):
        first = jax.random.randint(key, (), 1, 1 + self.LENGTHS).astype(jnp.float32)
        return first[None], State(first, jnp.int32(0))

    def step_env(self, key, state, action, params):
        obs, state, *_ = super().step_env(key, state, action, params)
        return obs, state, 1.0, state.time >= state.first, {}


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


@pytest.mark.parametrize("batch", [1, 16, 17, 48])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_who_shares_a_state_is_counted(batch, share):
    ended = np.random.default_rng(batch).uniform(size=batch) < share
    _, obs, result, _ = played(with_resets(device(Drawn()), "shared"), ended)
    values, counts = np.unique(obs[ended], return_counts=True)
    several = np.isin(obs, values[counts > 1]) & ended
    np.testing.assert_array_equal(result.shared, several)
    # evenly among as many as are fresh
    assert len(values) == min(ended.sum(), -(-batch // 16))
    assert not ended.any() or np.ptp(counts) <= 1


@pytest.mark.parametrize("ends, made", [(0, 0), (2, 2), (48, 3)])
def test_no_more_states_are_made_than_are_wanted(ends, made):
    calls = []

    class Counted(Drawn):
        def reset_env(self, key, params):
            jax.debug.callback(lambda: calls.append(1))
            return super().reset_env(key, params)

    env = with_resets(device(Counted()), "shared")
    state, _ = env.reset(jax.random.key(0), 48)
    jax.effects_barrier()
    calls.clear()
    action = jnp.asarray(np.arange(48) < ends, jnp.int32)
    jax.block_until_ready(jax.jit(env.step)(jax.random.key(1), state, action))
    jax.effects_barrier()
    assert len(calls) == made


def test_an_accelerator_begins_with_the_same_states(monkeypatch):
    shared = with_resets(device(Drawn()), "shared")
    one_by_one = played(shared, ENDED)[1]
    monkeypatch.setattr("optix.envs.resets.on_cpu", lambda: False)
    shared = with_resets(device(Drawn()), "shared")
    np.testing.assert_array_equal(played(shared, ENDED)[1], one_by_one)


def test_a_window_reports_how_many_share():
    from optix.learners.collect import window_report

    shared = jnp.asarray(np.arange(12).reshape(3, 4) % 3 == 0)
    flags, zeros = jnp.ones((3, 4), bool), jnp.zeros((3, 4))
    told = {"episode_return": zeros}
    window = Trajectory((), (), zeros, flags, flags, (), told)
    rest = zeros[0], jnp.bool_(True), None
    report = window_report(12, jnp.bool_(True), {}, window, *rest)
    assert "shared_resets" not in report.metrics  # where none can be shared
    window = window._replace(extras={**told, "shared": shared})
    report = window_report(12, jnp.bool_(True), {}, window, *rest)
    assert float(report.metrics["shared_resets"]) == 4

    def of_a_device(_):
        rest = zeros[0], jnp.bool_(True), "device"
        told = window_report(12, jnp.bool_(True), {}, window, *rest)
        return told.metrics["shared_resets"]

    both = jax.vmap(of_a_device, axis_name="device")(jnp.arange(2))
    assert both.tolist() == [8, 8]


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_log_has_how_many_share(agent):
    sizes = {"num_envs": 20, "num_steps": 4, "hidden": (4,), "evaluation_episodes": 2}
    more = {"num_minibatches": 2} if agent == "ppo" else {}
    run = make(Long(), agent, resets="shared", **sizes, **more)
    state = jax.eval_shape(run.init, jax.random.key(0))
    _, report = jax.eval_shape(run.step, state)
    assert report.metrics["shared_resets"].shape == ()


def test_first_states_are_distributed_as_the_environments_own():
    from scipy.stats import kstest

    env = with_resets(device(Drawn()), "shared")
    fresh = jax.vmap(
        lambda key: env.step(key, env.reset(key, 2)[0], jnp.array([1, 0], jnp.int32))[
            1
        ].obs[0, 0]
    )(jax.random.split(jax.random.key(5), 2000))
    assert kstest(np.asarray(fresh), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("resets", ["all", "shared"])
def test_episodes_are_as_long_as_the_environments_own(resets):
    from scipy.stats import chisquare

    env, steps = with_resets(device(Long()), resets), 3 * Long.LENGTHS

    @jax.jit
    @jax.vmap
    def ends(key):
        state, _ = env.reset(key, 17)

        def step(state, key):
            state, result = env.step(key, state, jnp.zeros(17, jnp.int32))
            return state, result.terminated[3]

        return jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    # of one environment of each run: those of a run share states
    ended = np.asarray(ends(jax.random.split(jax.random.key(7), 2000)))
    when = np.array([np.flatnonzero(row)[:3] for row in ended])
    for lengths in np.diff(when, axis=1).T:  # the second episodes and the third
        counts = np.bincount(lengths, minlength=1 + Long.LENGTHS)[1:]
        assert chisquare(counts).pvalue > 1e-3


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
