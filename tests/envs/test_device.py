"""Environments on the device against gymnax's own steps, one environment at a time."""

from typing import NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from gymnax.wrappers.purerl import (
    FlattenObservationWrapper,
    GymnaxWrapper,
    LogWrapper,
    StickyActionWrapper,
)
from jax import jit

from optix.envs.device import device
from optix.types import Box, Discrete
from tests import probes

BATCH = 3
LIMIT = 3  # of an episode, so that every environment starts afresh in a short scan
STEPS = 7
NAMES = [name for name in gymnax.registered_envs if name != "MNISTBandit-bsuite"]
SLOW_TO_COMPILE = {"Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"}


def actions_for(space, steps, batch=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=(steps, batch)).astype(np.int32)
    return rng.uniform(-1.5, 1.5, size=(steps, batch, *space.shape)).astype(np.float32)


def unroll(env, actions, play=False):
    """Return the fresh observation and what the steps of a scan give, [T, B, ...]."""

    def scan(key, actions):
        state, obs = env.reset(key, BATCH)

        def step(state, inputs):
            key, action = inputs
            state, result = (env.play if play else env.step)(key, state, action)
            return state, (state, result)

        keys = jax.random.split(key, len(actions))
        return obs, jax.lax.scan(step, state, (keys, actions))[1]

    return scan, (jax.random.key(0), actions)


def run(env, actions, play=False):
    scan, args = unroll(env, actions, play)
    first_obs, (states, steps) = jit(scan)(*args)
    return first_obs, states, jax.tree.map(np.asarray, steps)


@pytest.mark.parametrize("name", NAMES)
def test_every_gymnax_environment(name):
    inner, params = gymnax.make(name)
    limit = type(params.max_steps_in_episode)(LIMIT)  # one is a float
    env = device(inner, params.replace(max_steps_in_episode=limit), name=name)
    assert env.name == name and env.time_limit == LIMIT
    actions = actions_for(env.action_space, STEPS)
    scan, args = unroll(env, actions)
    obs_type = jax.ShapeDtypeStruct((STEPS, BATCH, *env.observation_shape), jnp.float32)
    flag_type = jax.ShapeDtypeStruct((STEPS, BATCH), bool)
    first, (_, steps) = jax.eval_shape(scan, *args)  # a scan demands a stable state
    assert (first.shape, first.dtype) == (obs_type.shape[1:], jnp.float32)
    for field, expected in [
        (steps.obs, obs_type),
        (steps.next_obs, obs_type),
        (steps.reward, jax.ShapeDtypeStruct((STEPS, BATCH), jnp.float32)),
        (steps.terminated, flag_type),
        (steps.truncated, flag_type),
    ]:
        assert (field.shape, field.dtype) == (expected.shape, expected.dtype)
    if name in SLOW_TO_COMPILE:
        return
    _, states, steps = run(env, actions)
    done = steps.terminated | steps.truncated
    # nobody lives longer than the limit
    assert all(done[t : t + LIMIT].any(0).all() for t in range(STEPS - LIMIT + 1))
    np.testing.assert_array_equal(np.asarray(states.time)[done], 0)
    assert (np.asarray(states.time)[~done] > 0).all()
    np.testing.assert_array_equal(steps.obs[~done], steps.next_obs[~done])
    assert np.isfinite(steps.obs).all() and np.isfinite(steps.reward).all()


class Slow:
    """One environment of gymnax, stepped by a Python loop."""

    def __init__(self, env, params):
        self.env, self.params = env, params
        self.step_env = jit(env.step_env)

    def step(self, state, action):
        # neither environment used here is random once it has begun
        key = jax.random.key(0)
        obs, state, reward, terminated, _ = self.step_env(
            key, state, action, self.params
        )
        truncated = int(state.time) >= self.params.max_steps_in_episode
        return np.asarray(obs), state, float(reward), bool(terminated), truncated


@pytest.fixture(scope="module")
def cartpole():
    """Episodes of CartPole of which some end and some are cut."""
    inner, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=10)
    env = device(inner, params)
    actions = np.ones((30, BATCH), np.int32)
    actions[:, 0] = np.arange(30) % 2  # never falls
    return Slow(inner, params), actions, run(env, actions)


def state_of(states, t, b):
    return jax.tree.map(lambda x: x[t, b], states)


def test_cartpole_is_gymnax_step_by_step(cartpole):
    slow, actions, (first_obs, states, steps) = cartpole
    ends = {"terminated": 0, "truncated": 0}
    for b in range(BATCH):
        x, x_dot, theta, theta_dot = (jnp.float32(v) for v in first_obs[b])
        state = state_of(states, 0, b).replace(
            x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot, time=jnp.int32(0)
        )
        for t in range(len(actions)):
            obs, state, reward, terminated, truncated = slow.step(state, actions[t, b])
            np.testing.assert_allclose(steps.next_obs[t, b], obs, atol=1e-6)
            assert steps.reward[t, b] == reward == 1.0
            assert steps.terminated[t, b] == terminated
            assert steps.truncated[t, b] == truncated
            ends["terminated"] += terminated and not truncated
            ends["truncated"] += truncated and not terminated
            if terminated or truncated:
                # a fresh episode, nowhere near the one that ended
                assert states.time[t, b] == 0
                assert np.abs(steps.obs[t, b]).max() <= 0.05
                state = state_of(states, t, b)
            else:
                np.testing.assert_array_equal(steps.obs[t, b], steps.next_obs[t, b])
    assert min(ends.values()) > 0, ends


def test_fresh_episodes_differ(cartpole):
    _, _, (first_obs, _, steps) = cartpole
    fresh = steps.obs[steps.terminated | steps.truncated]
    everything = np.concatenate([first_obs, fresh])
    assert len(np.unique(everything[:, 0])) == len(everything) > 6


def test_a_limit_between_two_steps_cuts_at_the_later_one():
    inner, params = gymnax.make("Pendulum-v1")
    env = device(inner, params.replace(max_steps_in_episode=2.5))
    assert env.time_limit == 3
    _, _, steps = run(env, actions_for(env.action_space, 6))
    assert steps.truncated[:, 0].tolist() == [False, False, True] * 2


def test_pendulum_scales_actions_to_its_bounds_and_is_only_ever_cut():
    inner, params = gymnax.make("Pendulum-v1")
    params = params.replace(max_steps_in_episode=4)
    env = device(inner, params)
    assert env.action_space == Box((1,))
    actions = actions_for(env.action_space, 9)
    assert (np.abs(actions) > 1).any()  # is clipped, and does not break
    _, states, steps = run(env, actions)
    assert not steps.terminated.any()
    expected = np.zeros((9, BATCH), bool)
    expected[[3, 7]] = True
    np.testing.assert_array_equal(steps.truncated, expected)
    slow = Slow(inner, params)
    for b in range(BATCH):
        for t in range(1, 9):
            torque = 2.0 * np.clip(actions[t, b], -1, 1)
            obs, _, reward, _, _ = slow.step(state_of(states, t - 1, b), torque)
            np.testing.assert_allclose(steps.next_obs[t, b], obs, atol=1e-5)
            np.testing.assert_allclose(steps.reward[t, b], reward, rtol=1e-4)
            same = np.allclose(steps.obs[t, b], obs, atol=1e-5)
            assert same != expected[t, b]


def test_frozen_lake_is_one_hot():
    inner, _ = gymnax.make("FrozenLake-misc")
    env = device(type(inner)(is_slippery=False))
    right_then_down = np.full((2, BATCH), 2, np.int32)
    right_then_down[1] = 1  # into the hole of the second row
    first, _, steps = run(env, right_then_down)
    places = np.eye(16, dtype=np.float32)
    np.testing.assert_array_equal(first, places[[0] * BATCH])
    np.testing.assert_array_equal(steps.next_obs[0], places[[1] * BATCH])
    np.testing.assert_array_equal(steps.next_obs[1], places[[5] * BATCH])
    np.testing.assert_array_equal(steps.obs[1], places[[0] * BATCH])
    np.testing.assert_array_equal(steps.terminated[:, 0], [False, True])


def test_play_replaces_nobody():
    inner, params = gymnax.make("CartPole-v1")
    env = device(inner, params.replace(max_steps_in_episode=2))
    actions = np.zeros((5, BATCH), np.int32)
    _, states, steps = run(env, actions, play=True)
    np.testing.assert_array_equal(states.time[:, 0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(steps.obs, steps.next_obs)
    np.testing.assert_array_equal(steps.truncated[:, 1], [False] + [True] * 4)


def test_keys_decide():
    env = device("CartPole-v1")
    resets = jit(lambda seed: env.reset(jax.random.key(seed), 2)[1])
    np.testing.assert_array_equal(resets(0), resets(0))
    assert len(np.unique(np.stack([resets(0), resets(1)])[..., 0])) == 4


# wrappers


class TenTimesTheReward(GymnaxWrapper):
    """Changes `step` alone; around it `step_env` still gives the plain reward."""

    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = self._env.step(key, state, action, params)
        return obs, state, 10 * reward, *rest


def test_a_wrapper_is_stepped_through():
    inner, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=4)
    env = device(TenTimesTheReward(inner), params)
    assert env.observation_shape == (4,) and env.time_limit == 4
    _, states, steps = run(env, np.arange(18).reshape(6, 3) % 2)
    np.testing.assert_array_equal(steps.reward, 10.0)
    np.testing.assert_array_equal(states.time[:, 0], [1, 2, 3, 0, 1, 2])
    np.testing.assert_array_equal(steps.truncated[:, 0], np.arange(6) == 3)
    # the observation of the end, and that of the episode after it
    assert (steps.next_obs[3] != steps.obs[3]).all()
    assert np.abs(steps.next_obs[3] - steps.next_obs[2]).max() < 0.5
    np.testing.assert_array_equal(steps.obs[4], steps.next_obs[4])


def test_observations_flattened_by_a_wrapper():
    env = device(FlattenObservationWrapper(gymnax.make("Catch-bsuite")[0]))
    assert env.observation_shape == (50,)
    actions = actions_for(env.action_space, 10)
    first, _, steps = run(env, actions)
    assert steps.terminated.any() and steps.obs.shape == (10, BATCH, 50)
    plain = device("Catch-bsuite")
    plain_first = jit(lambda key: plain.reset(key, BATCH)[1])(jax.random.key(0))
    np.testing.assert_array_equal(first, plain_first.reshape(BATCH, 50))


def test_actions_stick_by_a_wrapper():
    """With certainty the first action, zero, is played for ever: to the left."""
    inner, params = gymnax.make("CartPole-v1")
    env = device(LogWrapper(StickyActionWrapper(inner, 1.0)), params)
    actions = np.broadcast_to(np.array([0, 1, 1], np.int32), (4, BATCH))
    _, states, steps = run(env, actions)
    assert (steps.next_obs[-1, :, 1] < -0.5).all()  # velocity
    np.testing.assert_array_equal(states.episode_returns[-1], 4.0)


# a user's own


def test_an_environment_without_gymnax_base_class():
    env = device(probes.Endless())
    assert (env.name, env.observation_shape) == ("Endless", (1,))
    assert (env.action_space, env.time_limit) == (Discrete(2), 5)
    first, states, steps = run(env, np.zeros((STEPS, BATCH), np.int32))
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_array_equal(steps.next_obs[..., 0, 0], 1)
    np.testing.assert_array_equal(steps.obs[:, 0, 0], [1, 1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(steps.reward[:, 0], [10, 1, 1, 1, 1, 10, 1])
    np.testing.assert_array_equal(steps.truncated[:, 0], np.arange(STEPS) == 4)
    assert not steps.terminated.any()
    np.testing.assert_array_equal(states.time[:, 0], [1, 2, 3, 4, 0, 1, 2])


def test_own_parameters_and_name():
    params = probes.Params(max_steps_in_episode=2, reward=7.0)
    env = device(probes.Endless(), params, name="mine")
    assert (env.name, env.time_limit) == ("mine", 2)
    steps = run(env, np.zeros((3, BATCH), np.int32))[2]
    np.testing.assert_array_equal(steps.reward[:, 0], [10, 7, 10])


def test_bounds_that_are_not_symmetric():
    """-1, 0 and 1 are -2, 2 and 6; the best action is 0 at -1 and 4 at 1."""
    env = device(probes.ActionIsTarget())
    actions = np.array([-1.0, 0.0, 1.0, 3.0], np.float32)
    reset = jit(lambda key: env.reset(key, 4))
    state, obs = reset(jax.random.key(3))
    _, step = jit(env.step)(jax.random.key(0), state, actions[:, None])
    target = 0.5 * np.asarray(obs)[:, 0]
    expected = -((np.clip(actions, -1, 1) - target) ** 2)
    np.testing.assert_allclose(step.reward, expected, atol=1e-6)


class Loose(probes.Probe):
    """Python numbers, integers, a key in the state, a matrix of unbounded actions."""

    class State(NamedTuple):
        key: jax.Array
        count: int = 0
        level: float = 0.0
        time: int = 0

    def observation_space(self, params):
        return spaces.Box(0, 255, (), jnp.uint8)

    def action_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2, 3))

    def reset_env(self, key, params):
        return 7, self.State(key)

    def step_env(self, key, state, action, params):
        level = state.level + action[1, 2]
        state = self.State(key, state.count + 1, level, state.time + 1)
        return jnp.uint8(state.count), state, 3, False, {}


def test_loose_types_are_put_right():
    env = device(Loose())
    assert env.observation_shape == (1,) and env.action_space == Box((6,))
    actions = np.arange(3 * BATCH * 6, dtype=np.float32).reshape(3, BATCH, 6)
    first, states, steps = run(env, actions)
    np.testing.assert_array_equal(first, np.full((BATCH, 1), 7, np.float32))
    np.testing.assert_array_equal(states.level, actions[:, :, 5].cumsum(0))
    np.testing.assert_array_equal(steps.reward, np.full((3, BATCH), 3, np.float32))
    assert steps.terminated.dtype == bool and steps.obs.dtype == np.float32
    np.testing.assert_array_equal(steps.obs[:, 0, 0], [1, 2, 3])


class Remembers(probes.Probe):
    """Begins with Python's zeros; a step puts its action before the two latest ones."""

    class State(NamedTuple):
        latest: tuple = (0, 0, 0)
        time: int = 0

    num_steps = None

    def action_space(self, params):
        return spaces.Box(-1, 1, ())

    def reset_env(self, key, params):
        return jnp.zeros(1), self.State()

    def step_env(self, key, state, action, params):
        state = self.State((action, *state.latest[:2]), state.time + 1)
        return jnp.zeros(1), state, state.latest[2], False, {}


def test_types_that_change_step_by_step_are_put_right():
    env = device(Remembers(), probes.Params(10))
    actions = np.linspace(-1, 1, 5 * BATCH, dtype=np.float32).reshape(5, BATCH, 1)
    _, _, steps = run(env, actions)
    np.testing.assert_allclose(steps.reward[2:], actions[:3, :, 0], atol=1e-6)
    np.testing.assert_array_equal(steps.reward[:2], 0)


def test_types_that_change_to_and_fro_are_refused():
    class Swaps(Remembers):
        def step_env(self, key, state, action, params):
            whole = jnp.issubdtype(jnp.result_type(state.time), jnp.integer)
            time = jnp.asarray(state.time, jnp.float32 if whole else jnp.int32)
            return jnp.zeros(1), state._replace(time=time), 0.0, False, {}

    with pytest.raises(ValueError, match="Swaps must keep the dtypes of its state"):
        device(Swaps())


# refusals


def without(part):
    parts = {part: property(lambda self: self.gone)}
    return type("Half", (probes.Probe,), parts)()


def with_space(kind, space):
    return type("Odd", (probes.Probe,), {kind: lambda self, params: space})()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["CartPole-v0"], "environment 'CartPole-v0'.*did you mean 'CartPole-v1'"),
        (["Brakeout-MinAtar"], "mean 'Breakout-MinAtar'"),
        (["MNISTBandit-bsuite"], "downloads"),
        ([42], "int must have.*reset_env.*lacks.*reset_env"),
        ([without("is_truncated")], "Half must have.*lacks is_truncated$"),
        ([without("action_space")], "lacks action_space$"),
        ([without("observation_space")], "lacks observation_space$"),
        ([probes.Probe(), NamedTuple("P", [])()], "max_steps_in_episode.*got None"),
        ([probes.Probe(), probes.Params(0)], "max_steps_in_episode >= 1.*got 0"),
        ([probes.Probe(), probes.Params(float("nan"))], "max_steps.*got nan"),
        (
            [with_space("observation_space", spaces.Dict({"a": spaces.Discrete(2)}))],
            r"the observation of Odd must have the part \['a'\]",
        ),
        (
            [with_space("action_space", spaces.Tuple([spaces.Discrete(2)]))],
            "actions of Odd must be Discrete, MultiDiscrete or a Box.*got Tuple",
        ),
    ],
)
def test_refusals(args, message):
    with pytest.raises(ValueError, match=message):
        device(*args)
