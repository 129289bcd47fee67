"""XLand-MiniGrid (arXiv:2312.12044): MiniGrid and tasks of rules and goals."""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.envs.families.world import World, flat, flat_space, limit_of, made

_LAST = 2  # xminigrid.types.StepType.LAST


def names() -> list[str]:
    """Return the names of all environments of the family."""
    import xminigrid

    return list(xminigrid.registered_environments())


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of XLand-MiniGrid's.
      params: its parameters, or fields of them as a dictionary; None takes the defaults.
    """
    import xminigrid
    from gymnasium.spaces import Box, Discrete
    from xminigrid.core.constants import NUM_COLORS, NUM_TILES

    if isinstance(env, str):
        name = f"xminigrid:{env}"
        env, default = xminigrid.make(env)
    else:
        name, default = f"xminigrid:{type(env).__name__}", env.default_params()
    params = _params(name, params, default)
    limit = limit_of(name, params.max_steps)
    shape = env.observation_shape(params)
    several = isinstance(shape, Mapping)
    encode = flat if several else lambda obs: obs

    def at(params):
        def reset(key):
            timestep = env.reset(params, key)
            return encode(timestep.observation), timestep

        def step(key, timestep, action):
            del key  # what is random is in the state
            timestep = env.step(params, timestep, action)
            last, ended = timestep.step_type == _LAST, timestep.discount == 0
            obs = encode(timestep.observation)
            return obs, timestep, timestep.reward, last & ended, last & ~ended

        return reset, step

    reset, step = at(params)
    if several:
        observations = flat_space(name, reset)
    else:
        most = max(NUM_TILES, NUM_COLORS) - 1
        observations = Box(0, 255 if shape[-1] == 3 else most, tuple(shape), np.uint8)
    actions = Discrete(int(env.num_actions(params)))
    picture = params.replace(render_mode="rgb_array")

    def render(timestep):
        return np.asarray(env.render(picture, timestep), np.uint8)

    parts = observations, actions, limit, reset, step, render
    return World(name, *parts, params=params, at=at)


def _params(name: str, params: Any, default: Any) -> Any:
    if params is None:
        return default
    if isinstance(params, Mapping):
        fields = type(default).__dataclass_fields__
        checks.known_names(f"parameter of {name}", params, fields)
        return made(name, lambda: default.replace(**params))
    if not isinstance(params, type(default)):
        raise checks.OptionError(
            f"env_params of {name} must be {type(default).__name__}, or fields of it as a "
            f"dictionary, got {params!r}"
        )
    return params
