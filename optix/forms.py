"""Forms: what an environment must give, by shapes and dtypes alone.

Functions are traced and nothing is computed, so a mistake is told by the environment's
name before a program is made of it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.types import (
    ActionSpace,
    Box,
    Discrete,
    Environment,
    EnvStep,
    Masked,
    MultiDiscrete,
    Numbered,
    PyTree,
)

# its environments have been checked when they were made, one by one
_DEVICE = "optix.envs.device"


def check_environment(env: Environment, function: str, batch: int) -> None:
    """Raise ValueError unless an `Environment` keeps to what its record says.

    Args:
      env: made by `device`, or by a user.
      function: "step" or "play", whichever is going to be called.
      batch: environments side by side; an environment may be made for one number only.
    """
    checks.record("env", env, Environment, "make it by optix.envs.device.device(...)")
    name = env.name
    observations = checks.shape(f"observation_shape of {name}", env.observation_shape)
    checks.positive_int(f"time_limit of {name}", env.time_limit)
    for field in ("observation_dtype", "kept_dtype"):
        _check_dtype(f"{field} of {name}", getattr(env, field))
    dtype = jnp.dtype(env.observation_dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    started = traced(name, "reset", lambda key: env.reset(key, batch), key)
    state, obs = _pair(name, "reset", started)
    observed = "obs of reset", name, (batch, *observations), dtype
    _check_observed(env, obs, *observed)
    action = _some_action(env, batch)
    if getattr(getattr(env, function), "__module__", None) == _DEVICE:
        return
    stepped = traced(name, function, getattr(env, function), key, state, action)
    after, result = _pair(name, function, stepped)
    if not isinstance(result, EnvStep):
        raise checks.OptionError(
            f"{function} of {name} must return (state, EnvStep), got a "
            f"{type(result).__name__}; make it by optix.types.EnvStep"
        )
    for field in ("obs", "next_obs"):
        observed = f"{field} of {function}", name, (batch, *observations), dtype
        _check_observed(env, getattr(result, field), *observed)
    forms = {"reward": jnp.float32, "terminated": jnp.bool_, "truncated": jnp.bool_}
    for field, kind in forms.items():
        value = getattr(result, field)
        check_array(f"{field} of {function}", name, value, (batch,), kind)
    if result.shared is not None:
        field = f"shared of {function}"
        check_array(field, name, result.shared, (batch,), jnp.bool_)
    check_state(name, state, after, dtypes=True)


def number_of_actions(name: str, space: Any) -> int:
    """Return how many entries an action mask of a space has.

    Raises:
      ValueError: a space of which no action can be forbidden.
    """
    if isinstance(space, Numbered):
        return sum(space.sizes)
    raise checks.OptionError(
        f"an action mask needs Discrete or MultiDiscrete actions, but those of {name} are "
        f"{space}; leave the mask out, or number the actions in the environment"
    )


def action_form(space: ActionSpace) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of one action.

    >>> action_form(MultiDiscrete((3, 2))).shape, action_form(Box((3,))).dtype.name
    ((2,), 'float32')
    """
    if isinstance(space, Discrete):
        return jax.ShapeDtypeStruct((), jnp.int32)
    if isinstance(space, MultiDiscrete):
        return jax.ShapeDtypeStruct((len(space.sizes),), jnp.int32)
    return jax.ShapeDtypeStruct(space.shape, jnp.float32)


def check_numbered(what: str, space: Numbered) -> None:
    """Raise ValueError unless each part of an action has a choice."""
    if isinstance(space, Discrete):
        checks.positive_int(f"n of {what}", space.n)
    elif not checks.shape(f"the sizes of {what}", space.sizes):
        raise checks.OptionError(f"the sizes of {what} must be one or more, got none")


def _check_observed(
    env: Environment,
    obs: Any,
    field: str,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
) -> None:
    """Raise ValueError unless an observation has its form, and a mask where it must."""
    if env.masked:
        number = number_of_actions(name, env.action_space)
        if not isinstance(obs, Masked):
            raise checks.OptionError(
                f"{field} of {name} must be an optix.types.Masked(obs, action_mask) "
                f"where Environment.masked is True, got a {type(obs).__name__}"
            )
        mask = f"the action mask in {field}"
        check_array(mask, name, obs.action_mask, (shape[0], number), jnp.bool_)
        obs = obs.obs
    elif isinstance(obs, Masked):
        raise checks.OptionError(
            f"{field} of {name} must be an array, got an optix.types.Masked; say "
            "masked=True in its Environment"
        )
    check_array(field, name, obs, shape, dtype)


def _some_action(env: Environment, batch: int) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of actions."""
    space, what = env.action_space, f"the actions of {env.name}"
    if isinstance(space, Numbered):
        check_numbered(what, space)
    else:
        remedy = "give a Discrete, a MultiDiscrete or a Box of optix.types"
        checks.record(what, space, Box, remedy)
        checks.shape(f"the shape of {what}", space.shape)
    one = action_form(space)
    return jax.ShapeDtypeStruct((batch, *one.shape), one.dtype)


def traced(name: str, what: str, function: Callable, *arguments: Any) -> Any:
    """Return the shapes of what a function of an environment gives."""
    try:
        return jax.eval_shape(function, *arguments)
    except checks.OptionError:
        raise  # it names the environment already
    except Exception as error:
        raise checks.OptionError(
            f"{what} of {name} failed with {type(error).__name__}: {error}; mend the "
            "environment, its wrapper or env_params"
        ) from error


def _check_dtype(what: str, value: Any) -> None:
    try:
        jnp.dtype(value)
    except TypeError:
        raise checks.OptionError(
            f"{what} must be a type of arrays, as jnp.uint8, got {value!r}"
        ) from None


def _pair(name: str, function: str, result: Any) -> tuple:
    if not isinstance(result, tuple) or len(result) != 2:
        raise checks.OptionError(
            f"{function} of {name} must return a pair of which the state is the first, "
            f"got a {type(result).__name__}; see optix.types.Environment"
        )
    return result


def check_array(
    field: str, name: str, value: Any, shape: tuple[int, ...], dtype: Any = None
) -> None:
    """Raise ValueError unless a value has this shape and dtype, any real one for None."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    if is_array and value.shape == shape and _is_dtype(value.dtype, dtype):
        return
    kind = "real numbers" if dtype is None else jnp.dtype(dtype).name
    got = f"{value.dtype}{list(value.shape)}" if is_array else f"{value!r}"
    raise checks.OptionError(
        f"{field} of {name} must be {kind} of shape {list(shape)}, got {got}; mend the "
        "environment or its wrapper"
    )


def _is_dtype(found: Any, wanted: Any) -> bool:
    if wanted is not None:
        return found == wanted
    return any(
        jnp.issubdtype(found, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)
    )


def check_state(name: str, before: PyTree, after: PyTree, dtypes: bool) -> None:
    """Raise ValueError unless a step keeps the form of the state."""

    def form(state):
        leaves, structure = jax.tree.flatten(state)
        return structure, [(x.shape, x.dtype if dtypes else None) for x in leaves]

    if form(before) != form(after):
        raise checks.OptionError(
            f"a step of {name} must keep the structure, the shapes and the dtypes of its "
            f"state, got {before} of reset and {after} of a step"
        )
