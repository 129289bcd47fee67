"""MuJoCo Playground (arXiv:2502.08844): control and locomotion by MJX.

Of observations that are a dictionary, agents see the part "state"; what else is there is
told to critics that know more than the actor does.

Steps are MJX's own ("jax"), of which every entry has a row of each environment. Those of
MuJoCo Warp ("warp", Playground's default) keep contacts that a whole batch shares: no
environment could begin again by itself.
"""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.envs.families.drawing import drawer
from optix.envs.families.world import (
    World,
    counted,
    keywords,
    limit_of,
    made,
    none_beside,
    unbounded,
)

_LIMIT = 1000
_STEPS = "jax"  # whose they are


def names() -> list[str]:
    """Return the names of all environments of the family."""
    from mujoco_playground import registry

    return list(registry.ALL_ENVS)


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Playground's.
      params: overrides of the environment's configuration, such as episode_length.

    Raises:
      ValueError: observations that are no vector, or steps that are not MJX's own.
    """
    from gymnasium.spaces import Box
    from mujoco_playground import registry

    if isinstance(env, str):
        name, given = f"playground:{env}", env
        options = keywords(name, params, "overrides of its configuration")
        config = registry.get_default_config(given)
        limit = options.get("episode_length", config.get("episode_length", _LIMIT))
        if "impl" in config:
            options = {"impl": _STEPS, **options}
        env = made(name, lambda: registry.load(given, config_overrides=options))
    else:
        name = f"playground:{type(env).__name__}"
        none_beside(name, params)
        limit = getattr(env, "_config", {}).get("episode_length", _LIMIT)
    _check_steps(name, env)

    def seen(obs):
        return obs["state"] if isinstance(obs, Mapping) else obs

    def reset(key):
        state = env.reset(key)
        return seen(state.obs), state

    def step(key, state, action):
        del key  # what is random is in the state
        state = env.step(state, action)
        return seen(state.obs), state, state.reward, state.done > 0, False

    obs, _ = jax.eval_shape(reset, jax.random.key(0))
    if len(obs.shape) != 1:
        raise checks.OptionError(
            f"observations of {name} must be a vector, got the shape {obs.shape}; the "
            "environments that see pixels need a renderer on a GPU"
        )
    actions = Box(-1.0, 1.0, (int(env.action_size),), np.float32)
    where = limit_of(name, limit)

    draw = drawer(name, env.mj_model)

    def render(state):
        data = state.data
        fields = "qpos", "qvel", "mocap_pos", "mocap_quat"
        return draw(**{field: getattr(data, field) for field in fields})

    parts = unbounded(obs.shape), actions, where, reset, step, render
    return counted(World(name, *parts))


def _check_steps(name: str, env: Any) -> None:
    impl = getattr(getattr(env, "mjx_model", None), "impl", None)
    impl = getattr(impl, "value", _STEPS)  # older versions know no other
    if impl != _STEPS:
        raise checks.OptionError(
            f"impl of {name} must be {_STEPS!r}, got {impl!r}, whose states a whole batch "
            f"shares; override it: {{'impl': {_STEPS!r}}}"
        )
