"""What kind of space an environment has.

A space is recognised by its type, gymnax's or Gymnasium's, never by an attribute that it
happens to have.
"""

import sys
from typing import Any

import numpy as np

from optix import checks

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
    return int(space.n)


def sizes_of(what: str, space: Any) -> tuple[int, ...]:
    """Return how many values each entry of a MultiDiscrete has, the last axis fastest."""
    sizes = tuple(int(size) for size in np.ravel(space.nvec))
    if not sizes:
        raise checks.OptionError(f"{what} must have at least one entry, got {space}")
    return sizes
