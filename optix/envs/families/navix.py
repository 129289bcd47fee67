"""Navix (arXiv:2407.19396): MiniGrid in JAX."""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from typing import Any

import numpy as np

from optix.envs.families.world import (
    World,
    keywords,
    limit_of,
    made,
    none_beside,
)

_CUT, _ENDED = 1, 2  # navix.environments.environment.StepType


def names() -> list[str]:
    """Return the names of all environments of the family."""
    import navix

    return list(navix.registry())


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Navix's.
      params: keywords of `navix.make`, such as max_steps and observation_fn.
    """
    import navix

    if isinstance(env, str):
        name, given = f"navix:{env}", env
        options = keywords(name, params, "keywords of navix.make")
        env = made(name, lambda: navix.make(given, **options))
    else:
        name = f"navix:{type(env).__name__}"
        none_beside(name, params)

    def reset(key):
        timestep = env.reset(key)
        return timestep.observation, timestep

    def step(key, timestep, action):
        del key  # what is random is in the state
        # the public step begins a new episode after an end, one step too late
        timestep = env._step(timestep, action)
        kind = timestep.step_type
        return (
            timestep.observation,
            timestep,
            timestep.reward,
            kind == _ENDED,
            kind == _CUT,
        )

    return World(
        name,
        _space(env.observation_space),
        _space(env.action_space),
        limit_of(name, env.max_steps),
        reset,
        step,
        _picture,
    )


def _space(space: Any) -> Any:
    """Return a space of the family's own classes as one of Gymnasium's."""
    from gymnasium import spaces

    if hasattr(space, "n") and not space.shape:
        return spaces.Discrete(int(space.n))
    low, high = np.asarray(space.minimum), np.asarray(space.maximum)
    return spaces.Box(
        np.broadcast_to(low, space.shape),
        np.broadcast_to(high, space.shape),
        tuple(space.shape),
        np.dtype(space.dtype).type,
    )


def _picture(timestep: Any) -> np.ndarray:
    from navix import observations

    return np.asarray(observations.rgb(timestep.state)).astype(np.uint8)
