"""What an environment shows and takes, for any kind of environment."""

import math
import sys
from typing import Any

import numpy as np

from optix.envs.device import device
from optix.types import Box, Discrete, Environment


def spaces(
    env: Any, env_params: Any = None
) -> tuple[tuple[int, ...], Discrete | Box, str]:
    """Return (observation shape, action space, name) of an environment.

    Args:
      env: an `Environment`, a gymnax name or instance, or a Gymnasium environment, single
        or vectorised.
      env_params: of a gymnax environment.

    Raises:
      ValueError: spaces that no agent can use.

    >>> spaces("CartPole-v1")
    ((4,), Discrete(n=2), 'CartPole-v1')
    """
    if isinstance(env, Environment):
        return env.observation_shape, env.action_space, env.name
    if _is_gymnasium(env):
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        observations = getattr(env, "single_observation_space", env.observation_space)
        actions = getattr(env, "single_action_space", env.action_space)
        shape = _observation_shape(name, observations)
        return shape, _action_space(name, actions), name
    env = device(env, env_params)
    return env.observation_shape, env.action_space, env.name


def _is_gymnasium(env) -> bool:
    gymnasium = sys.modules.get("gymnasium")  # who has such an environment imported it
    return gymnasium is not None and isinstance(
        env, gymnasium.Env | gymnasium.vector.VectorEnv
    )


def _observation_shape(name, space) -> tuple[int, ...]:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return (int(space.n),)  # one-hot
    if isinstance(space, spaces.Box):
        return tuple(int(size) for size in space.shape) or (1,)
    raise ValueError(
        f"observations of {name} must be a Box or Discrete, got {space}; "
        "gymnasium.wrappers.FlattenObservation makes a Box of it"
    )


def _action_space(name, space) -> Discrete | Box:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        if space.start != 0:
            raise ValueError(
                f"Discrete actions of {name} must start at 0, got {space}; shift them "
                "with gymnasium.wrappers.TransformAction"
            )
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Box((math.prod(int(size) for size in space.shape),))
    raise ValueError(
        f"actions of {name} must be Discrete or a Box of floats, got {space}; number "
        "its combinations in an ActionWrapper to make it Discrete"
    )
