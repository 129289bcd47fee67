"""Jumanji (arXiv:2306.09884): games and problems of combinatorics.

Observations of several parts are one vector, see `optix.envs.families.world.flat`. One of
them, `action_mask`, is the mask of the actions too, where these are Discrete or each of
several has a row of it; a mask over combinations of several is an observation only.
Whether an end is one is what the environment's discount says: of most, a time limit is
a part of the problem, and terminates.
"""

# the package is an extra, and is called as this file
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.envs.families.world import (
    World,
    counted,
    flat,
    flat_space,
    keywords,
    limit_of,
    made,
    none_beside,
)

_LIMIT = 1000  # steps of an episode that has no limit of its own
_INCHES = (4, 4)  # of a picture
_LAST = 2  # jumanji.types.StepType.LAST


class Standing(NamedTuple):
    """Where an episode stands."""

    state: Any  # of the environment
    action_mask: Any  # [n] bool of its latest observation, () where it tells none;
    # of several actions one row after another


def names() -> list[str]:
    """Return the names of all environments of the family."""
    import jumanji

    return list(jumanji.registered_environments())


def world(env: Any, params: Any) -> World:
    """Return the world of a name or an instance.

    Args:
      env: a name, or an environment of Jumanji's.
      params: keywords of `jumanji.make`, and max_steps, after which an episode is cut,
        1000 where the environment has no time limit.
    """
    import jumanji
    from jumanji import wrappers

    if isinstance(env, str):
        name, given = f"jumanji:{env}", env
        options = keywords(name, params, "keywords of jumanji.make, or max_steps")
        most = options.pop("max_steps", None)
        env = made(name, lambda: jumanji.make(given, **options))
    else:
        name = f"jumanji:{type(env).__name__}"
        options = keywords(name, params, "max_steps")
        most = options.pop("max_steps", None)
        none_beside(name, options)
        batched = wrappers.AutoResetWrapper, wrappers.VmapWrapper
        if isinstance(env, (*batched, wrappers.VmapAutoResetWrapper)):
            raise checks.OptionError(
                f"env must be one environment of Jumanji, got the wrapper {name}; batches "
                "and resets are made here"
            )
    own = getattr(env.unwrapped, "time_limit", None)
    limit = limit_of(name, most if most is not None else own or _LIMIT)

    actions = _actions(name, env.action_spec)
    masked = _is_masked(env, actions)

    def standing(state, obs):
        return Standing(state, obs.action_mask.ravel() if masked else ())

    def reset(key):
        state, timestep = env.reset(key)
        obs = timestep.observation
        return flat(obs), standing(state, obs)

    def step(key, before, action):
        del key  # what is random is in the state
        state, timestep = env.step(before.state, action)
        last, ended = timestep.step_type == _LAST, timestep.discount == 0
        obs, after = timestep.observation, standing(state, timestep.observation)
        return flat(obs), after, timestep.reward, last & ended, last & ~ended

    made_of = World(
        name,
        flat_space(name, reset),
        actions,
        limit,
        reset,
        step,
        _drawer(getattr(env.unwrapped, "_viewer", None)),
        action_mask=(lambda state: state.action_mask) if masked else None,
    )
    return made_of if most is None and own else counted(made_of)


def _is_masked(env: Any, actions: Any) -> bool:
    """Whether observations say which numbers each action may be."""
    _, timestep = jax.eval_shape(env.reset, jax.random.key(0))
    mask = getattr(timestep.observation, "action_mask", None)
    if mask is None or not hasattr(actions, "n" if mask.ndim == 1 else "nvec"):
        return False
    if mask.ndim == 1:
        return mask.shape == (actions.n,)
    sizes = tuple(actions.nvec.tolist())
    return mask.shape == (len(sizes), sizes[0]) != sizes and len(set(sizes)) == 1


def _drawer(viewer: Any) -> Callable[[Standing], np.ndarray] | None:
    """Return what draws states with an environment's viewer, into no window."""
    pixels = getattr(viewer, "_display_rgb_array", None)
    if pixels is None:
        return None
    viewer = copy.copy(viewer)
    viewer._display = pixels

    def render(standing):
        from matplotlib import pyplot

        viewer._name = f"optix {id(viewer)}"
        if not pyplot.fignum_exists(viewer._name):
            # one that is there already is not shown
            pyplot.figure(viewer._name, figsize=_INCHES).add_subplot()
        return np.array(viewer.render(standing.state))[..., :3]

    return render


def _actions(name: str, spec: Any) -> Any:
    """Return a specification of actions as a space of Gymnasium."""
    from gymnasium import spaces
    from jumanji import specs

    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray):
        return spaces.MultiDiscrete(np.asarray(spec.num_values))
    if isinstance(spec, specs.BoundedArray):
        low, high = (
            np.broadcast_to(np.asarray(end), spec.shape)
            for end in (spec.minimum, spec.maximum)
        )
        return spaces.Box(low, high, spec.shape, np.dtype(spec.dtype).type)
    raise checks.OptionError(
        f"actions of {name} must be numbered or bounded, got {spec}; bring them to one "
        "array in a wrapper of Jumanji's"
    )
