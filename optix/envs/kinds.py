"""What kind of space an environment has.

A space is recognised by its type, gymnax's or Gymnasium's, never by an attribute that it
happens to have.
"""

import sys
from typing import Any

import numpy as np

from optix import checks
from optix.types import MAX_INT32

# who has such a space imported its module; neither is imported for the question
_MODULES = ("gymnax.environments.spaces", "gymnasium.spaces")


def is_a(space: Any, kind: str) -> bool:
    """Return whether a space is of gymnax's or Gymnasium's class of that name."""
    modules = (sys.modules.get(module) for module in _MODULES)
    classes = (getattr(module, kind, None) for module in modules if module)
    return any(known and isinstance(space, known) for known in classes)


def first_of(space: Any) -> int:
    """Return the first number of a Discrete space."""
    return int(getattr(space, "start", 0))  # gymnax's Discrete has none


def count(what: str, space: Any) -> int:
    """Return how many values a Discrete space has, or raise ValueError for none."""
    if int(space.n) < 1:
        raise checks.OptionError(f"{what} must have at least one value, got {space}")
    _check_numbers(what, space, np.asarray(first_of(space)), np.asarray(int(space.n)))
    return int(space.n)


def sizes_of(what: str, space: Any) -> tuple[int, ...]:
    """Return how many values each entry of a MultiDiscrete has, the last axis fastest."""
    sizes = tuple(int(size) for size in np.ravel(space.nvec))
    if not sizes:
        raise checks.OptionError(f"{what} must have at least one entry, got {space}")
    _check_numbers(what, space, np.asarray(getattr(space, "start", 0)), space.nvec)
    return sizes


def _check_numbers(what: str, space: Any, first: Any, sizes: Any) -> None:
    """Refuse numbers that are too large for the device."""
    last = first.astype(float) + np.asarray(sizes, float) - 1
    if (first < -MAX_INT32 - 1).any() or (last > MAX_INT32).any():
        raise checks.OptionError(
            f"{what} must be numbers of int32, got {space}; number them from 0 with a "
            "wrapper"
        )


def holds(space: Any, values: Any) -> bool:
    """Return whether values of NumPy are such as rows of a space can be made of.

    Numbers that are one-hot must be among those of the space, and what is written as
    bytes must be bytes; a Box else holds what it is given.
    """
    if is_a(space, "Discrete") or is_a(space, "MultiDiscrete"):
        first = getattr(space, "start", 0)
        numbers = np.asarray(values) - first
        sizes = space.n if is_a(space, "Discrete") else space.nvec
        return bool(((numbers >= 0) & (numbers < sizes)).all())
    values = np.asarray(values)
    if space.dtype != np.uint8 or values.dtype == np.uint8:
        return True
    with np.errstate(invalid="ignore"):
        return bool((values.astype(np.uint8) == values).all())
