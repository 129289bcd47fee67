"""How an agent on the device sees what host agents see, and acts where they act."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.envs.actions import action_decoder, action_encoder
from optix.envs.names import gymnasium_name, is_gymnasium
from optix.envs.observations import (
    hosted_encoder,
    hosted_shape,
    kept_dtype,
    raw_shape,
)
from optix.envs.parts import Parts, has_parts
from optix.envs.source import source
from optix.types import Environment, PyTree


class View(NamedTuple):
    """Between the spaces of Gymnasium and those of an agent on the device.

    name: of the environment, for messages; None where nobody has told.
    shape: of a raw observation, None where nobody has told.
    dtype: of raw observations on the device; None keeps bytes and makes others float32.
    encode: `(raw [B, ...]) -> observations [B, *shape]` as the agent sees them; traced.
    decode: `(action) -> action` of one environment; traced.
    restore: `(actions [N, ...]) -> [N, ...]` those of the agent again, in NumPy.
    join: makes one array of observations of several parts, None of one part.
    """

    name: str | None
    shape: tuple[int, ...] | None
    dtype: np.dtype | None
    encode: Callable[[jax.Array], jax.Array]
    decode: Callable[[jax.Array], jax.Array]
    restore: Callable[[np.ndarray], np.ndarray]
    join: Callable[[Any], Any] | None = None

    def raw(self, observations: Any) -> np.ndarray:
        """Return observations in the type that the device takes.

        Raises:
          ValueError: a tree of arrays, or rows of another shape.
        """
        array = np.asarray(self.join(observations) if self.join else observations)
        if array.dtype.kind not in "biuf":
            raise checks.OptionError(
                "observations must be arrays of numbers, got a "
                f"{type(observations).__name__}; flatten them with a wrapper"
            )
        return np.asarray(array, self.dtype or plain_dtype(array))


def plain_dtype(array: np.ndarray) -> np.dtype:
    """Return in which type an agent sees numbers of which no space is known."""
    return np.dtype(np.uint8 if array.dtype == np.uint8 else np.float32)


def plain() -> View:
    """Return the view of who sees and does what the agent does."""
    return View(None, None, None, _same, _same, np.asarray)


def view(env: Any) -> View:
    """Return the `View` of an environment of Gymnasium.

    Args:
      env: single or vectorised, a registered name, or a function that makes one.

    Raises:
      ValueError: it is something else, or has spaces that no agent can use.

    >>> pendulum = view("Pendulum-v1")
    >>> pendulum.name, pendulum.shape, pendulum.restore(np.ones((1, 1))).tolist()
    ('Pendulum-v1', (3,), [[0.5]])
    """
    if is_gymnasium(env):
        name = gymnasium_name(env)
        observations = getattr(env, "single_observation_space", env.observation_space)
        actions = getattr(env, "single_action_space", env.action_space)
    elif isinstance(env, str) or (callable(env) and not hasattr(env, "step_env")):
        made = source(env, None)
        name, observations, actions = made.name, made.observations, made.actions
    else:
        kind = "an Environment" if isinstance(env, Environment) else f"a {type(env)}"
        raise checks.OptionError(
            "env must be Gymnasium's (an environment, a registered name or a function "
            f"that makes one), got {kind}; of other environments observations and "
            "actions are the agent's own: leave env out"
        )
    hosted_shape(name, observations)  # refuses what no agent sees
    return View(
        name,
        raw_shape(name, observations),
        kept_dtype(observations),
        hosted_encoder(name, observations),
        action_decoder(name, actions),
        action_encoder(name, actions),
        Parts(name, observations).join if has_parts(observations) else None,
    )


def _same(x: PyTree) -> PyTree:
    return x
