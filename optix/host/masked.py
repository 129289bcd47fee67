"""Action masks as people and agents outside JAX hand them over, in NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from optix import checks
from optix.math.masks import (
    allowed,
    leaves_a_choice,
    observed,
    on_observed,
    told_mask,
)
from optix.types import Masked, PyTree


def one_row(observation: PyTree, action_mask: Any = None) -> PyTree:
    """Return a batch of one observation, `Masked` where a mask is given or was.

    >>> one_row(np.zeros(3), [1, 0]).action_mask.tolist()
    [[True, False]]
    """
    observation = with_mask(observation, action_mask)
    if isinstance(observation, Masked):
        mask = np.asarray(observation.action_mask)[None]
        observation = observation._replace(action_mask=mask)
    return on_observed(lambda x: np.asarray(x)[None], observation)


def with_mask(observation: PyTree, action_mask: Any) -> PyTree:
    """Return one observation, `Masked` by what a person gave, as it is for None."""
    if action_mask is None:
        return observation
    return Masked(observed(observation), given_mask(action_mask, ()))


def given_mask(
    mask: Any, lead: Sequence[int], sizes: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return a mask that a person gave, [*lead, n] bool.

    Args:
      mask: as of `told_mask`.
      lead: the axes before those of actions.
      sizes: of the choices of an action, None for one choice of as many as there are.

    Raises:
      ValueError: another form, or a mask that allows nothing.
    """
    try:
        array = np.asarray(mask)
        got = f"{array.dtype} of shape {array.shape}"
        number = array.shape[-1] if array.ndim else 1
    except ValueError:  # of several choices
        got, number = f"{mask!r}", 1
    sizes = sizes or (number,)
    found = told_mask(mask, lead, sizes)
    if found is None:
        raise checks.OptionError(
            f"action_mask must be bool of shape {(*lead, sum(sizes))}, or 0 and 1, got "
            f"{got}"
        )
    if not leaves_a_choice(found, sizes).all():
        raise checks.OptionError(
            "action_mask must allow one action or more, got one that allows none"
        )
    return found


def allowed_odds(probs: np.ndarray, mask: Any) -> np.ndarray:
    """Return probabilities [B, n] without those of what a mask [B, n] forbids.

    They need not add up to one. Where nothing allowed has any, all of it is alike.

    Raises:
      ValueError: the mask is not of these actions.

    >>> allowed_odds(np.array([[0.75, 0.25], [1.0, 0.0]]), np.eye(2, dtype=bool)[::-1])
    array([[0.  , 0.25],
           [1.  , 0.  ]])
    """
    if np.shape(mask) != probs.shape:
        raise checks.OptionError(
            f"an action mask must be of shape {probs.shape}, as the probabilities are, "
            f"got {np.shape(mask)}"
        )
    free = allowed(np.asarray(mask).astype(bool))
    odds = np.where(free, probs, 0.0)
    return np.where(odds.any(-1, keepdims=True), odds, free)


def random_action(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Return an allowed action of each row of a mask [B, n], all alike.

    >>> mask = np.array([[False, True], [True, False]])
    >>> random_action(np.random.default_rng(0), mask).tolist()
    [1, 0]
    """
    return np.where(mask, rng.random(mask.shape), -1.0).argmax(-1)
