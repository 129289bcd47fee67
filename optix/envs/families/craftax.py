"""Craftax and Craftax-Classic (arXiv:2402.16801): the parts of their protocol."""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.envs.families.world import World, limit_of, made

_NAMES = (
    "Craftax-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Classic-Pixels-v1",
)
_NO_LIMIT = 2**31 - 1  # in place of the limit, to ask what else has ended an episode


def names() -> list[str]:
    """Return the names of all environments of the family."""
    return list(_NAMES)


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Craftax's; whether it replaces ended episodes
        does not matter.
      params: `EnvParams`, or fields of it as a dictionary; None takes the defaults.
    """
    if isinstance(env, str):
        from craftax.craftax_env import make_craftax_env_from_name

        name = f"craftax:{env}"
        env = make_craftax_env_from_name(env, auto_reset=False)
    else:
        name = f"craftax:{type(env).__name__}"
    missing = [part for part in ("step_env", "reset_env") if not hasattr(env, part)]
    if missing:
        raise checks.OptionError(
            f"env: {name} must have step_env and reset_env, but lacks "
            f"{', '.join(missing)}; pass the environment, not a wrapper of it"
        )
    default = env.default_params
    params = _params(name, params, default)
    limit = limit_of(name, params.max_timesteps)

    def at(params):
        endless = params.replace(max_timesteps=_NO_LIMIT)

        def step(key, state, action):
            obs, state, reward, done, _ = env.step_env(key, state, action, params)
            terminated = env.is_terminal(state, endless)
            cut = done & (state.timestep >= params.max_timesteps)
            return obs, state, reward, terminated, cut

        return lambda key: env.reset_env(key, params), step

    return World(
        name,
        _space(env.observation_space(params)),
        _space(env.action_space(params)),
        limit,
        *at(params),
        render=_pixels("classic" in type(env).__module__),
        params=params,
        at=at,
    )


def _params(name: str, params: Any, default: Any) -> Any:
    if params is None:
        return default
    if isinstance(params, Mapping):
        checks.known_names(
            f"parameter of {name}", params, type(default).__dataclass_fields__
        )
        return made(name, lambda: default.replace(**params))
    if not isinstance(params, type(default)):
        kind = f"{type(default).__module__}.{type(default).__name__}"
        raise checks.OptionError(
            f"env_params of {name} must be {kind}, or fields of it as a dictionary, got "
            f"{params!r}"
        )
    return params


def _space(space: Any) -> Any:
    """Return a space of the family's own classes as one of Gymnasium's."""
    from gymnasium import spaces

    if hasattr(space, "n"):
        return spaces.Discrete(int(space.n))
    low, high = float(space.low), float(space.high)
    return spaces.Box(low, high, tuple(space.shape), np.float32)


def _pixels(classic: bool) -> Any:
    """Return `(state) -> pixels`; the symbolic environments have pictures too."""
    made: list[Any] = []

    def render(state):
        if not made:
            if classic:
                from craftax.craftax_classic.constants import (
                    BLOCK_PIXEL_SIZE_IMG as SIZE,
                )
                from craftax.craftax_classic.renderer import make_craftax_pixel_renderer
            else:
                from craftax.craftax.constants import BLOCK_PIXEL_SIZE_IMG as SIZE
                from craftax.craftax.renderer import make_craftax_pixel_renderer
            made.append(jax.jit(make_craftax_pixel_renderer(SIZE)))
        pixels = np.asarray(made[0](state))
        return np.clip(pixels, 0, 255).astype(np.uint8)

    return render
