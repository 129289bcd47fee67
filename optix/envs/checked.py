"""Checks of what an environment gives, before anything is compiled.

Nothing is computed: the functions are traced for shapes and dtypes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.envs.wrappers import Protocol
from optix.types import Box, Discrete, Environment, EnvStep, PyTree

_BATCH = 2


def state_types(
    name: str, raw: Protocol, shape: tuple[int, ...], action: Any
) -> PyTree:
    """Check what one environment gives; return shapes and dtypes of its state.

    Args:
      name: of the environment, for messages.
      raw: its functions.
      shape: of the observations in its space.
      action: one, or its `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: it fails, or what it gives is not of the form that it must have.
    """

    def reset(key):
        obs, state = raw.reset(key)
        return _from_list(obs), state

    def step(key, state, action):
        obs, state, *flags, final_obs = raw.step(key, state, action)
        return _from_list(obs), state, *flags, _from_list(final_obs)

    key = jax.eval_shape(lambda: jax.random.key(0))
    first_obs, state = _traced(name, "reset", reset, key)
    obs, after, reward, terminated, truncated, final_obs = _traced(
        name, "step", step, key, state, action
    )
    _check_array("the observation of reset", name, first_obs, shape)
    _check_array("the observation", name, obs, shape)
    _check_array("the observation before a reset", name, final_obs, shape)
    _check_array("reward", name, reward, ())
    _check_array("terminated", name, terminated, ())
    _check_array("truncated", name, truncated, ())
    _check_state(name, state, after, dtypes=False)
    return after


def check_environment(env: Environment) -> None:
    """Raise ValueError unless an `Environment` keeps to what its record says."""
    checks.record("env", env, Environment, "make it by optix.envs.device.device(...)")
    name = env.name
    observations = checks.shape(f"observation_shape of {name}", env.observation_shape)
    checks.positive_int(f"time_limit of {name}", env.time_limit)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, obs = _pair(
        name, "reset", _traced(name, "reset", lambda key: env.reset(key, _BATCH), key)
    )
    _check_array("obs of reset", name, obs, (_BATCH, *observations), jnp.float32)
    for function in ("step", "play"):
        stepped = _traced(
            name, function, getattr(env, function), key, state, _some_action(env)
        )
        after, result = _pair(name, function, stepped)
        if not isinstance(result, EnvStep):
            raise ValueError(
                f"{function} of {name} must return (state, EnvStep), got a "
                f"{type(result).__name__}; make it by optix.types.EnvStep"
            )
        wanted = EnvStep(
            obs=((_BATCH, *observations), jnp.float32),
            reward=((_BATCH,), jnp.float32),
            terminated=((_BATCH,), jnp.bool_),
            truncated=((_BATCH,), jnp.bool_),
            next_obs=((_BATCH, *observations), jnp.float32),
        )
        for field, value in result._asdict().items():
            _check_array(f"{field} of {function}", name, value, *getattr(wanted, field))
        _check_state(name, state, after, dtypes=True)


def _some_action(env: Environment) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of actions."""
    space, what = env.action_space, f"the actions of {env.name}"
    if isinstance(space, Discrete):
        checks.positive_int(f"n of {what}", space.n)
        return jax.ShapeDtypeStruct((_BATCH,), jnp.int32)
    checks.record(what, space, Box, "give a Discrete or a Box of optix.types")
    shape = checks.shape(f"the shape of {what}", space.shape)
    return jax.ShapeDtypeStruct((_BATCH, *shape), jnp.float32)


def _traced(name: str, what: str, function: Callable, *arguments: Any) -> Any:
    """Return the shapes of what a function of an environment gives."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        raise ValueError(
            f"{what} of {name} failed with {type(error).__name__}: {error}; mend the "
            "environment, its wrapper or env_params"
        ) from error


def _from_list(obs: Any) -> Any:
    return jnp.asarray(obs) if isinstance(obs, list | tuple) else obs


def _pair(name: str, function: str, result: Any) -> tuple:
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            f"{function} of {name} must return a pair of which the state is the first, "
            f"got a {type(result).__name__}; see optix.types.Environment"
        )
    return result


def _check_array(
    field: str, name: str, value: Any, shape: tuple[int, ...], dtype: Any = None
) -> None:
    """Raise ValueError unless a value has this shape and dtype, any real one for None."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    if is_array and value.shape == shape and _is_dtype(value.dtype, dtype):
        return
    kind = "real numbers" if dtype is None else jnp.dtype(dtype).name
    got = f"{value.dtype}{list(value.shape)}" if is_array else f"{value!r}"
    raise ValueError(
        f"{field} of {name} must be {kind} of shape {list(shape)}, got {got}; mend the "
        "environment or its wrapper"
    )


def _is_dtype(found: Any, wanted: Any) -> bool:
    if wanted is not None:
        return found == wanted
    return any(
        jnp.issubdtype(found, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)
    )


def _check_state(name: str, before: PyTree, after: PyTree, dtypes: bool) -> None:
    """Raise ValueError unless a step keeps the form of the state."""

    def form(state):
        leaves, structure = jax.tree.flatten(state)
        return structure, [(x.shape, x.dtype if dtypes else None) for x in leaves]

    if form(before) != form(after):
        raise ValueError(
            f"a step of {name} must keep the structure, the shapes and the dtypes of its "
            f"state, got {before} of reset and {after} of a step"
        )
