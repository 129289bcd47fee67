"""Several tasks in one run: parameters drawn anew where an episode begins."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.envs.pictures import renderer
from optix.envs.wrappers import replaces
from optix.types import PyTree

_TRIED = 64  # draws that are looked at before a run


class InTask(NamedTuple):
    """An episode and what it is played with."""

    state: PyTree
    params: PyTree  # of the environment, an array where it has a number


class Tasks:
    """An environment of gymnax's protocol whose parameters are a part of its state."""

    def __init__(
        self, name: str, env: Any, params: Any, task: Callable[[jax.Array], Any]
    ):
        """Take `(key) -> parameters` like `params`, by which spaces and limit are told.

        Raises:
          ValueError: it is no such function, or the environment would never ask for it.
        """
        if replaces(env):
            raise checks.OptionError(
                f"task is drawn where an episode begins, but {name} replaces its ended "
                "episodes itself, with the parameters that it has; leave its step and "
                "reset to gymnax's, or task out"
            )
        self.env, self.default_params = env, params
        self._draw = _checked(name, params, task)
        if callable(mask := getattr(env, "action_mask", None)):
            self.action_mask = lambda state, params: mask(state.state, state.params)
        if (draw := renderer(env)) is not None:
            self.render = lambda state, params: draw(state.state, state.params)

    def observation_space(self, params: Any) -> Any:
        """Return the space with the parameters that the environment was given."""
        return self.env.observation_space(params)

    def action_space(self, params: Any) -> Any:
        """Return the space with the parameters that the environment was given."""
        return self.env.action_space(params)

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, InTask]:
        """Return (obs, state) of a fresh episode in a fresh task."""
        del params
        task_key, key = jax.random.split(key)
        drawn = self._draw(task_key)
        obs, state = self.env.reset_env(key, drawn)
        return obs, InTask(state, drawn)

    def step_env(self, key: jax.Array, state: InTask, action: Any, params: Any):
        """Return (obs, state, reward, terminated, info)."""
        del params
        result = self.env.step_env(key, state.state, action, state.params)
        obs, after, *rest = result
        return obs, state._replace(state=after), *rest

    def is_truncated(self, state: InTask, params: Any) -> Any:
        """Return whether the latest step was cut off."""
        del params
        return self.env.is_truncated(state.state, state.params)


def _checked(
    name: str, params: Any, task: Callable[[jax.Array], Any]
) -> Callable[[jax.Array], Any]:
    """Return `(key) -> parameters` as arrays, of types that no draw changes.

    Raises:
      ValueError: it fails, or gives something else than such parameters.
    """
    checks.function("task", task, "it takes a key and gives parameters")

    def draw(key):
        drawn = task(key)
        if jax.tree.structure(drawn) != jax.tree.structure(params):
            raise checks.OptionError(
                f"task must give parameters of {name} like {params!r}, got {drawn!r}"
            )
        # numbers of Python would change their type where they meet arrays
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), drawn)

    try:
        with jax.ensure_compile_time_eval():  # also where a program is being traced
            keys = jax.random.split(jax.random.key(0), _TRIED)
            first, second = (
                jax.jit(jax.vmap(lambda key: draw(key)))(keys) for _ in "12"
            )
            alike = jax.tree.map(
                lambda x, y: ((x == y) | (x != x)).all(), first, second
            )
    except checks.OptionError:
        raise
    except Exception as error:
        raise checks.OptionError(
            f"task failed with {type(error).__name__}: {error}; it takes a key and gives "
            f"parameters like {params!r}"
        ) from error
    if not all(jax.tree.leaves(alike)):
        raise checks.OptionError(
            f"task must draw by its key alone, got other parameters of {name} for the "
            "same key; what NumPy or Python draws is drawn once, when a program is made: "
            "draw with jax.random"
        )
    limits, limit = np.asarray(first.max_steps_in_episode), params.max_steps_in_episode
    wrong = limits[~((limits >= 1) & (limits <= limit))]
    if wrong.size:
        raise checks.OptionError(
            f"task must give a max_steps_in_episode from 1 to that of {name}, {limit}, "
            f"by which evaluation ends, got {wrong[0]}; give env_params with the longest"
        )
    return draw
