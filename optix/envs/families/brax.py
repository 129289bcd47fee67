"""Brax (arXiv:2106.13281): rigid bodies. Actions are in [-1, 1] there too."""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from typing import Any

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

_PAGE = "or play it to a path that ends in .html, a page that draws by itself"
_LIMIT = 1000  # steps of an episode, Brax's own default when it trains


def names() -> list[str]:
    """Return the names of all environments of the family."""
    from brax import envs

    return list(envs._envs)


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Brax's without wrappers that train.
      params: keywords of `brax.envs.get_environment`, such as backend, and
        episode_length, after which an episode is cut, 1000 for None.
    """
    from brax import envs
    from brax.envs.base import Wrapper
    from gymnasium.spaces import Box

    if isinstance(env, str):
        name, given = f"brax:{env}", env
        options = keywords(name, params, "keywords of brax.envs.get_environment")
        limit = options.pop("episode_length", _LIMIT)
        env = made(name, lambda: envs.get_environment(given, **options))
    else:
        name = f"brax:{type(env).__name__}"
        options = keywords(name, params, "episode_length")
        limit = options.pop("episode_length", _LIMIT)
        none_beside(name, options)
        if isinstance(env, Wrapper):
            raise checks.OptionError(
                f"env must be an environment of Brax itself, got the wrapper {name}; "
                "batches, time limits and resets are made here"
            )

    def reset(key):
        state = env.reset(key)
        return state.obs, state

    def step(key, state, action):
        del key  # what is random is in the state
        state = env.step(state, action)
        return state.obs, state, state.reward, state.done > 0, False

    draw = drawer(name, env.sys.mj_model, f"; {_PAGE}")

    def render(state):
        return draw(qpos=state.pipeline_state.q, qvel=state.pipeline_state.qd)

    def html(states):
        from brax.io import html

        # how fast it plays is read from the system
        system = env.sys.tree_replace({"opt.timestep": env.dt})
        return html.render(system, [s.pipeline_state for s in states], colab=False)

    return counted(
        World(
            name,
            unbounded((int(env.observation_size),)),
            Box(-1.0, 1.0, (int(env.action_size),), np.float32),
            limit_of(name, limit),
            reset,
            step,
            render=render,
            html=html,
        )
    )
