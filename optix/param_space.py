"""What a search may choose: {name: (kind, low, high)}, checked, and drawn from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optix import checks

KINDS = ("float", "log_float", "int", "log_int", "categorical")


def checked_space(space: Any, called: str = "param_space") -> dict[str, tuple]:
    """Return {name: (kind, ...)} of what trials choose from.

    Args:
        space: a mapping; kind is one of `KINDS`, and what follows are two bounds, or the
            values of "categorical".
        called: what the argument is called, for messages.

    Raises:
        ValueError: no mapping, an unknown kind, bounds that are none, no choices.

    >>> checked_space({"rate": ("log_float", 1e-4, 1e-2)})
    {'rate': ('log_float', 0.0001, 0.01)}
    """
    if not isinstance(space, Mapping) or not space:
        raise checks.OptionError(
            f"{called} must be {{name: (kind, low, high)}}, like "
            f"{{'learning_rate': ('log_float', 1e-4, 1e-2)}}, got {space!r}"
        )
    return {name: _checked(name, entry, called) for name, entry in space.items()}


def sample(
    space: Mapping[str, tuple], count: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return `count` settings, spread evenly in each parameter (a Latin hypercube).

    >>> rng = np.random.default_rng(0)
    >>> drawn = sample({"epochs": ("int", 1, 4)}, 4, rng)
    >>> sorted(setting["epochs"] for setting in drawn)
    [1, 2, 3, 4]
    """
    columns = {}
    for name, entry in space.items():
        shares = (rng.permutation(count) + rng.random(count)) / count
        columns[name] = [_value(entry, share) for share in shares.tolist()]
    return [{name: columns[name][row] for name in space} for row in range(count)]


def _checked(name: str, entry: Any, called: str) -> tuple:
    remedy = "write ('float', low, high), or ('categorical', *values)"
    if isinstance(entry, str) or not isinstance(entry, Sequence) or not entry:
        raise checks.OptionError(f"{name} in {called} is {entry!r}; {remedy}")
    kind, *values = entry
    checks.known_names(f"kind of {name!r} in {called}:", [kind], KINDS)
    if kind == "categorical":
        if not values:
            raise checks.OptionError(f"{name} in {called} has no values; {remedy}")
        if len(values) == 1 and isinstance(values[0], list):
            each = ", ".join(map(repr, ("categorical", *values[0])))
            raise checks.OptionError(
                f"{name} in {called} has one value, the list {values[0]!r}; write ({each})"
            )
        return kind, *map(_plain, values)
    if len(values) != 2:
        raise checks.OptionError(f"{name} in {called} is {entry!r}; {remedy}")
    ((low, high),) = checks.bounds({name: tuple(values)}).values()
    if kind.startswith("log_") and low <= 0:
        raise checks.OptionError(
            f"{name} in {called} must begin above 0 for {kind}, got {values[0]!r}"
        )
    if kind.endswith("int"):
        if not (low.is_integer() and high.is_integer()):
            raise checks.OptionError(
                f"{name} in {called} must have whole bounds for {kind}, got {entry!r}"
            )
        return kind, int(low), int(high)
    return kind, low, high


def _plain(value: Any) -> Any:
    """Return a value of a list as one of a tuple, and a number of NumPy as Python's."""
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _value(entry: tuple, share: float) -> Any:
    """Return the value at a share in [0, 1) of the range."""
    kind, *values = entry
    if kind == "categorical":
        return values[int(share * len(values))]
    low, high = values
    if kind.endswith("int"):
        # as much room for both ends as for what is between them
        low, high = low - 0.5, high + 0.5
    if kind.startswith("log_"):
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    if kind.endswith("int"):
        return int(min(max(round(value), values[0]), values[1]))
    return min(max(value, values[0]), values[1])
