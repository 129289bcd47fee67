"""Action masks of environments on the device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.forms import check_array, number_of_actions, traced
from optix.math.masks import leaves_a_choice
from optix.types import PyTree


def action_mask(
    name: str,
    env: Any,
    params: Any,
    space: Any,
    reset: Callable[[jax.Array], tuple[Any, PyTree]],
    state: PyTree,
) -> Callable[[PyTree], jax.Array] | None:
    """Return `(state) -> [n] bool` of one environment, None where it tells no mask.

    Args:
      name: of the environment, for messages.
      env: which has a method `action_mask(state, params)`, or none.
      params: its parameters.
      space: of the actions.
      reset: `(key) -> (obs, state)`.
      state: its shapes and dtypes.

    Raises:
      ValueError: actions that no mask can be of, a mask of another form, or one that
        allows nothing at a first state.
    """
    own = getattr(env, "action_mask", None)
    if own is None:
        return None
    checks.function(
        f"action_mask of {name}", own, "it takes (state, params) and gives [n] bool"
    )
    number = number_of_actions(name, space)

    def mask(state):
        return own(state, params)

    found = traced(name, "action_mask", mask, state)
    check_array("the action mask", name, found, (number,), jnp.bool_)
    with jax.ensure_compile_time_eval():  # also where a program is being traced
        first = jax.jit(lambda key: mask(reset(key)[1]))(jax.random.key(0))
        if not leaves_a_choice(first, space.sizes):
            raise checks.OptionError(
                f"the action mask of {name} must allow one action or more at a first "
                "state, of each of several choices, got one that allows none; True means "
                "allowed"
            )
    return mask
