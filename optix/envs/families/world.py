"""One environment of a family, as functions, and what families have in common."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks


class World(NamedTuple):
    """One environment, not a batch of them.

    reset: `(key) -> (obs, state)`.
    step: `(key, state, action) -> (obs, state, reward, terminated, truncated)`; an
        ended episode is not replaced.
    render: `(state) -> [H, W, 3] uint8`, on the host; None where the family has no
        picture of it.
    action_mask: `(state) -> [n] bool`, which of its Discrete actions are allowed; None
        where the family does not tell.
    html: `(states) -> str`, a page that plays an episode, or None.
    params: the parameters that are told to each step, None where all are of the object.
    at: `(params) -> (reset, step)` with other ones, None where there are none.
    """

    name: str
    observations: Any  # a space of gymnax or Gymnasium
    actions: Any
    time_limit: int
    reset: Callable[..., Any]
    step: Callable[..., Any]
    render: Callable[[Any], np.ndarray] | None = None
    action_mask: Callable[[Any], jax.Array] | None = None
    html: Callable[[list[Any]], str] | None = None
    params: Any = None
    at: Callable[[Any], tuple[Callable[..., Any], Callable[..., Any]]] | None = None


def counted(world: World) -> World:
    """Return a world whose own steps know no time limit, with the limit that it says."""

    def reset(key):
        obs, state = world.reset(key)
        return obs, (state, jnp.int32(0))

    def step(key, state, action):
        state, time = state
        obs, state, reward, terminated, truncated = world.step(key, state, action)
        time = time + 1
        truncated = truncated | (time >= world.time_limit)
        return obs, (state, time), reward, terminated, truncated

    def inside(function):
        return None if function is None else lambda state: function(state[0])

    html = world.html
    return world._replace(
        reset=reset,
        step=step,
        render=inside(world.render),
        html=html and (lambda states: html([state for state, _ in states])),
        action_mask=inside(world.action_mask),
    )


def unbounded(shape: tuple[int, ...]) -> Any:
    """Return a Box of real numbers without ends."""
    from gymnasium.spaces import Box

    return Box(-np.inf, np.inf, shape, np.float32)


def flat(tree: Any) -> jax.Array:
    """Return all numbers of an observation of several parts as one vector, float32.

    Parts follow in the order of their names where they have names that are sorted (of a
    dictionary), else in the order in which they are declared (fields of a record); of
    each the last axis varies fastest. What counts is a number, not one-hot.

    >>> flat({"b": jnp.arange(2), "a": jnp.ones((1, 1))}).tolist()
    [1.0, 0.0, 1.0]
    """
    parts = [jnp.ravel(part).astype(jnp.float32) for part in jax.tree.leaves(tree)]
    return jnp.concatenate(parts)


def flat_space(name: str, reset: Callable[..., Any]) -> Any:
    """Return the Box in which `flat` puts the observations that a reset gives first."""
    obs, _ = jax.eval_shape(reset, jax.random.key(0))
    size = sum(part.size for part in jax.tree.leaves(obs))
    if not size:
        raise checks.OptionError(
            f"observations of {name} must have at least one entry, got {obs}"
        )
    return unbounded((size,))


def keywords(name: str, params: Any, what: str) -> dict[str, Any]:
    """Return parameters that must be keywords, {} for None."""
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise checks.OptionError(
            f"env_params of {name} must be {what} as a dictionary, got {params!r}"
        )
    return dict(params)


def none_beside(name: str, params: Any) -> None:
    """Refuse parameters beside an instance, which was made with its own."""
    if params:
        raise checks.OptionError(
            f"env_params are for a name, got {params!r} beside the instance {name}; make "
            "it with them"
        )


def made(name: str, make: Callable[[], Any]) -> Any:
    """Return what a family makes of a name and parameters; a failure names both.

    Raises:
      ValueError: it fails, whatever the family raises.
    """
    try:
        return make()
    except Exception as error:
        raise checks.OptionError(
            f"{name} can not be made: {type(error).__name__}: {error}; mend env_params"
        ) from error


def limit_of(name: str, limit: Any) -> int:
    """Return a time limit as an int.

    Raises:
      ValueError: it is no whole number of at least 1.
    """
    if limit is None or not isinstance(limit, int | float | np.number):
        limit = None
    elif float(limit).is_integer() and 1 <= limit < 2**31:
        return int(limit)
    raise checks.OptionError(
        f"the time limit of {name}, by which evaluation ends, must be an integer >= 1, "
        f"got {limit!r}; give one in env_params"
    )
