"""MuJoCo Playground (arXiv:2502.08844): control and locomotion by MJX.

Of observations that are a dictionary, agents see the part "state"; what else is there is
told to critics that know more than the actor does.
"""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
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


def names() -> list[str]:
    """Return the names of all environments of the family."""
    from mujoco_playground import registry

    return list(registry.ALL_ENVS)


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Playground's.
      params: overrides of the environment's configuration, such as episode_length.
    """
    from gymnasium.spaces import Box
    from mujoco_playground import registry

    if isinstance(env, str):
        name, given = f"playground:{env}", env
        options = keywords(name, params, "overrides of its configuration")
        limit = registry.get_default_config(given).get("episode_length", _LIMIT)
        limit = options.get("episode_length", limit)
        env = made(name, lambda: registry.load(given, config_overrides=options))
    else:
        name = f"playground:{type(env).__name__}"
        none_beside(name, params)
        limit = getattr(env, "_config", {}).get("episode_length", _LIMIT)

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

    def render(state):
        return env.render([state])[0]

    parts = unbounded(obs.shape), actions, where, reset, step, render
    return counted(World(name, *parts))
