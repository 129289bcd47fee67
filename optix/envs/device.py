"""Environments on the device: gymnax's own, and any that speak its protocol."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.trees import select_rows
from optix.types import Box, Discrete, Environment, EnvStep

_NEEDS_DOWNLOAD = {"MNISTBandit-bsuite"}


def device(env: Any, env_params: Any = None, *, name: str | None = None) -> Environment:
    """Return the `Environment` of a gymnax name or of an instance of its protocol.

    The protocol is gymnax 1.0's: `reset_env`, `step_env`, `is_truncated`,
    `observation_space`, `action_space` and `default_params`. Wrappers, which change only
    the public `reset` and `step`, are stepped through those, so that even `play` goes on
    with a fresh state after an end; its `next_obs` is right all the same.

    Args:
      env: a registered gymnax name, or an environment or wrapper.
      env_params: its parameters; None takes `default_params`.
      name: how messages call it; None takes the name or the class.

    Raises:
      ValueError: an unknown name, a part of the protocol or a time limit missing, or
        spaces that no agent can use.

    >>> env = device("CartPole-v1")
    >>> env.observation_shape, env.action_space, env.time_limit
    ((4,), Discrete(n=2), 500)
    """
    if isinstance(env, str):
        name = name or env
        env, default_params = _registered(env)
    else:
        name = name or type(env).__name__
        default_params = getattr(env, "default_params", None)
    params = default_params if env_params is None else env_params

    _check_protocol(name, env)
    encode, observation_shape = _observations(name, env.observation_space(params))
    action_space, decode = _actions(name, env.action_space(params))
    raw_reset, raw_step, replaces = _protocol(env, params)

    def reset(key, batch):
        keys = jax.random.split(key, batch)
        obs, state = jax.vmap(raw_reset)(keys)
        action = jax.eval_shape(lambda: jax.vmap(decode)(_zeros(action_space, batch)))
        # a Python number in a fresh state must not change its type at the first step
        after = jax.eval_shape(jax.vmap(raw_step), keys, state, action)[1]
        state = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), state, after)
        return state, jax.vmap(encode)(obs)

    def play(key, state, action):
        keys = jax.random.split(key, action.shape[0])
        raw = jax.vmap(raw_step)(keys, state, jax.vmap(decode)(action))
        obs, state, reward, terminated, truncated, final_obs = raw
        step = EnvStep(
            obs=jax.vmap(encode)(obs),
            reward=reward.astype(jnp.float32),
            terminated=terminated.astype(bool),
            truncated=truncated.astype(bool),
            next_obs=jax.vmap(encode)(final_obs),
        )
        return state, step

    def step(key, state, action):
        if replaces:
            return play(key, state, action)
        key, reset_key = jax.random.split(key)
        state, result = play(key, state, action)
        done = result.terminated | result.truncated
        fresh_state, fresh_obs = reset(reset_key, done.shape[0])

        state, obs = select_rows(done, (fresh_state, fresh_obs), (state, result.obs))
        return state, result._replace(obs=obs)

    return Environment(
        name,
        observation_shape,
        action_space,
        _time_limit(name, params),
        reset,
        step,
        play,
    )


def _registered(name: str) -> tuple[Any, Any]:
    import gymnax  # it imports matplotlib and pandas

    checks.known_names("environment", [name], gymnax.registered_envs)
    if name in _NEEDS_DOWNLOAD:
        raise ValueError(
            f"{name} downloads its data when it is made; make it yourself and pass the "
            "instance"
        )
    return gymnax.make(name)


def _check_protocol(name, env):
    if isinstance(env, type):
        raise ValueError(f"env must be an instance, got the class {env.__name__}")
    wanted = [
        "observation_space",
        "action_space",
        "reset_env",
        "step_env",
        "is_truncated",
    ]
    missing = [function for function in wanted if not hasattr(env, function)]
    if missing:
        raise ValueError(
            f"{name} must have {', '.join(wanted)} (the protocol of gymnax 1.0), but "
            f"lacks {', '.join(missing)}"
        )


def _protocol(env, params):
    """Return (reset, step, whether step replaces an ended episode by itself)."""
    from gymnax.wrappers.purerl import GymnaxWrapper

    if isinstance(env, GymnaxWrapper):

        def public_step(key, state, action):
            obs, state, reward, terminated, truncated, info = env.step(
                key, state, action, params
            )
            return obs, state, reward, terminated, truncated, info["final_observation"]

        return lambda key: env.reset(key, params), public_step, True

    def step(key, state, action):
        # gymnax jits its own step with a reset in it; the parts are cheaper
        obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
        reward, terminated = jnp.asarray(reward), jnp.asarray(terminated)
        truncated = jnp.asarray(env.is_truncated(state, params))
        return obs, state, reward, terminated, truncated, obs

    return lambda key: env.reset_env(key, params), step, False


def _time_limit(name, params) -> int:
    limit = getattr(params, "max_steps_in_episode", None)
    if limit is None or not 1 <= float(limit) < 2**31:
        raise ValueError(
            f"the parameters of {name} must have max_steps_in_episode >= 1, the time "
            f"limit by which evaluation ends, got {limit!r}"
        )
    return int(limit)


def _observations(name, space):
    """Return (encode one observation to float32, its shape)."""
    if hasattr(space, "n"):
        size = int(space.n)
        return lambda obs: jax.nn.one_hot(obs, size), (size,)
    if getattr(space, "shape", None) is None or not hasattr(space, "low"):
        raise ValueError(
            f"observations of {name} must be a Box or Discrete, got "
            f"{type(space).__name__}; flatten them with a wrapper"
        )
    shape = tuple(int(size) for size in space.shape) or (1,)
    return lambda obs: jnp.asarray(obs, jnp.float32).reshape(shape), shape


def _actions(name, space):
    """Return (the space that agents see, its decoder to the environment's actions)."""
    if hasattr(space, "n"):
        return Discrete(int(space.n)), lambda action: action
    if not hasattr(space, "low"):
        raise ValueError(
            f"actions of {name} must be a Box or Discrete, got {type(space).__name__}; "
            "number its combinations in a wrapper to make it Discrete"
        )
    shape = tuple(int(size) for size in space.shape)
    low, high = (jnp.broadcast_to(end, shape) for end in (space.low, space.high))
    bounded = bool(jnp.isfinite(low).all() and jnp.isfinite(high).all())

    def decode(action):
        if bounded:
            action = low + (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
        return action.reshape(shape)

    return Box((math.prod(shape),)), decode


def _zeros(space: Discrete | Box, batch: int) -> jax.Array:
    if isinstance(space, Discrete):
        return jnp.zeros((batch,), jnp.int32)
    return jnp.zeros((batch, *space.shape))
