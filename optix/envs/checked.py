"""Checks of what one environment gives, before anything is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.envs.wrappers import Protocol
from optix.forms import check_array, check_state, traced
from optix.types import PyTree


def state_types(
    name: str,
    raw: Protocol,
    shape: tuple[int, ...],
    action: Any,
    join: Callable[[Any], Any] | None = None,
) -> tuple[PyTree, Any]:
    """Check what one environment gives.

    Args:
      name: of the environment, for messages.
      raw: its functions.
      shape: of the observations in its space.
      action: one, or its `jax.ShapeDtypeStruct`.
      join: makes one array of observations of several parts, None of one part.

    Returns:
      Shapes and dtypes of its state, which no step changes, and the type that holds all
      its observations.

    Raises:
      ValueError: it fails, or what it gives is not of the form that it must have.
    """
    array = join or _from_list

    def reset(key):
        obs, state = raw.reset(key)
        return array(obs), state

    def step(key, state, action):
        obs, state, *flags, final_obs = raw.step(key, state, action)
        return array(obs), state, *flags, array(final_obs)

    key = jax.eval_shape(lambda: jax.random.key(0))
    first_obs, fresh = traced(name, "reset", reset, key)
    state, passed = _arrays(fresh), []
    while True:
        obs, after, reward, terminated, truncated, final_obs = traced(
            name, "step", step, key, state, action
        )
        check_state(name, fresh, after, dtypes=False)
        if _dtypes(after) == _dtypes(state):
            break
        # numbers of a fresh state may have other types, of a history one step by step
        passed.append(_dtypes(state))
        if _dtypes(after) in passed:
            raise checks.OptionError(
                f"a step of {name} must keep the dtypes of its state, got one that goes "
                f"from {state} to {after} and back; give each of its numbers one dtype"
            )
        state = _arrays(after)
    check_array("the observation of reset", name, first_obs, shape)
    check_array("the observation", name, obs, shape)
    check_array("the observation before a reset", name, final_obs, shape)
    check_array("reward", name, reward, ())
    check_array("terminated", name, terminated, ())
    check_array("truncated", name, truncated, ())
    return state, jnp.result_type(first_obs, obs, final_obs)


def _arrays(tree: PyTree) -> PyTree:
    """Return the forms of arrays, whose types other types meet as no number's do."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _dtypes(tree: PyTree) -> list[Any]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _from_list(obs: Any) -> Any:
    return jnp.asarray(obs) if isinstance(obs, list | tuple) else obs
