"""Wrappers of any class: stepped through, or refused by a sentence."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole
from gymnax.environments.environment import Environment
from gymnax.wrappers.compat import LegacyStepAPIWrapper
from gymnax.wrappers.purerl import GymnaxWrapper
from jax import jit

from optix.envs.device import device


class Delegating:
    """The usual wrapper that derives from nothing."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)


class Slotted:
    """The same without a `__dict__`."""

    __slots__ = ("inside",)

    def __init__(self, env):
        self.inside = env

    def __getattr__(self, name):
        return getattr(self.inside, name)


def step(self, key, state, action, params=None):
    inside = self.inside if isinstance(self, Slotted) else self._env
    obs, state, reward, *rest = inside.step(key, state, action, params)
    return obs, state, 2.0 * reward, *rest


def step_env(self, key, state, action, params):
    inside = self.inside if isinstance(self, Slotted) else self._env
    obs, state, reward, *rest = inside.step_env(key, state, action, params)
    return obs, state, 2.0 * reward, *rest


def reset_env(self, key, params):
    obs, state = self._env.reset_env(key, params)
    return obs + 10.0, state.replace(x=state.x + 10.0)


def get_obs(self, state, params=None, key=None):
    return self._env.get_obs(state, params, key) * 0.0


def wrapper(base=Delegating, **functions):
    return type("Own", (base,), functions)


def cartpole():
    return gymnax.make("CartPole-v1")[0]


def rewards(env):
    @jit
    def play(key):
        state, obs = env.reset(key, 2)
        state, result = env.step(key, state, jnp.zeros(2, jnp.int32))
        return obs, result

    return play(jax.random.key(0))


@pytest.mark.parametrize("function", [step, step_env], ids=lambda f: f.__name__)
@pytest.mark.parametrize("base", [Delegating, Slotted, GymnaxWrapper])
def test_a_step_of_its_own_is_seen(base, function):
    doubled = wrapper(base, **{function.__name__: function})
    twice = doubled(doubled(cartpole()))
    np.testing.assert_array_equal(rewards(device(twice))[1].reward, [4.0, 4.0])


def test_a_step_under_a_wrapper_that_changes_nothing_is_seen():
    env = Delegating(wrapper(step=step)(GymnaxWrapper(cartpole())))
    np.testing.assert_array_equal(rewards(device(env))[1].reward, [2.0, 2.0])


def test_a_subclass_with_a_step_of_its_own_is_stepped_through():
    class Own(CartPole):
        def step(self, key, state, action, params=None):
            obs, state, reward, *rest = super().step(key, state, action, params)
            return obs, state, 3.0 * reward, *rest

    env = device(Own())
    np.testing.assert_array_equal(rewards(env)[1].reward, [3.0, 3.0])


def test_a_beginning_of_its_own_is_seen_after_an_end_too():
    env = device(wrapper(reset_env=reset_env)(cartpole()))

    def play(key):
        state, obs = env.reset(key, 1)
        state, result = env.step(key, state, jnp.zeros(1, jnp.int32))
        return obs, result

    obs, result = jit(play)(jax.random.key(0))
    assert obs[0, 0] > 9  # beyond the rails, so that the first step is the last
    assert result.terminated[0] and result.obs[0, 0] > 9


def test_observations_of_its_own_where_both_parts_call_them():
    def own_step(self, key, state, action, params):
        _, state, *rest = self._env.step_env(key, state, action, params)
        return self.get_obs(state), state, *rest

    def own_reset(self, key, params):
        _, state = self._env.reset_env(key, params)
        return self.get_obs(state), state

    kind = wrapper(get_obs=get_obs, step_env=own_step, reset_env=own_reset)
    obs, result = rewards(device(kind(cartpole())))
    assert not obs.any() and not result.obs.any() and not result.next_obs.any()


class Whole(Environment):
    """A whole environment around another one: its own parts are what is played."""

    def __init__(self, env):
        self._env = env

    step_env = step_env

    def reset_env(self, key, params):
        return self._env.reset_env(key, params)

    def observation_space(self, params):
        return self._env.observation_space(params)

    def action_space(self, params):
        return self._env.action_space(params)

    @property
    def default_params(self):
        return self._env.default_params


def test_a_whole_environment_around_another():
    assert rewards(device(Whole(cartpole())))[1].reward.tolist() == [2.0, 2.0]


def plain(self, key, params=None):
    return self._env.reset(key, params)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (lambda: wrapper(get_obs=get_obs)(cartpole()), "get_obs would not be called"),
        (
            lambda: wrapper(get_obs=get_obs, step_env=step_env)(cartpole()),
            "get_obs would not be called.* does not override reset_env",
        ),
        (
            lambda: Delegating(wrapper(observe=get_obs)(cartpole())),
            "Own.observe would not be called",
        ),
        (
            lambda: wrapper(is_terminated=get_obs)(cartpole()),
            "Own.is_terminated would not be called",
        ),
        (
            lambda: wrapper(step=step)(wrapper(step_env=step_env)(cartpole())),
            "Own.step_env would not be called.* does not override step",
        ),
        (
            lambda: wrapper(step_env=step_env)(wrapper(step=step)(cartpole())),
            "Own.step_env would not be called",
        ),
        (
            lambda: wrapper(step=step, reset_env=reset_env)(cartpole()),
            "Own.reset_env would not be called.* does not override reset;",
        ),
        (lambda: wrapper(reset=plain)(cartpole()), "Own.reset would not be called"),
        (
            lambda: wrapper(GymnaxWrapper, reset=plain)(cartpole()),
            "Own.reset would not be called.* does not override step",
        ),
        (
            lambda: wrapper(is_truncated=get_obs)(wrapper(step=step)(cartpole())),
            "Own.is_truncated would not be called",
        ),
        (
            lambda: LegacyStepAPIWrapper(cartpole()),
            r"step of LegacyStepAPIWrapper must return \(obs, state, reward, terminated, "
            r"truncated, info\), as in gymnax 1.0, got 5 values",
        ),
        (
            lambda: wrapper(step=lambda self, *args: (0.0, None, 0.0, False))(
                cartpole()
            ),
            "got 4 values",
        ),
        (
            lambda: wrapper(step_env=lambda self, *args: None)(cartpole()),
            "step_env of Own must return .* got None",
        ),
        (
            lambda: wrapper(step=lambda self, *args: (*self._env.step(*args)[:5], {}))(
                cartpole()
            ),
            "info of Own.step must hold 'final_observation'",
        ),
    ],
)
def test_what_would_not_be_seen_is_refused(env, message):
    with pytest.raises(ValueError, match=message):
        device(env())
