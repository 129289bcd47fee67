"""Checks of arguments. Every message states the rule, the value and the remedy."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise ValueError: text and numbers are no switch."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def positive_int(
    name: str, value: Any, minimum: int = 1, maximum: int = 2**31 - 1
) -> int:
    """Return `value` as an int from `minimum` to `maximum`, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if value > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {value}")
    return int(value)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return `value` as a tuple of sizes of at least 1, or raise ValueError."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} must be a tuple of sizes, like (4,), got {value!r}")
    return tuple(positive_int(f"a size of {name}", size) for size in value)


def within(
    name: str, value: Any, low: float, high: float, *, open_ends: bool = False
) -> float:
    """Return `value` as a finite float in [low, high], or (low, high) if `open_ends`."""
    brackets = "()" if open_ends else "[]"
    rule = f"{name} must be in {brackets[0]}{low:g}, {high:g}{brackets[1]}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{rule}, got {value!r}")
    number = float(value)
    inside = low < number < high if open_ends else low <= number <= high
    if not inside or math.isnan(number):
        raise ValueError(f"{rule}, got {value!r}")
    return number


def record(name: str, value: Any, kind: type, remedy: str) -> None:
    """Raise ValueError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}; {remedy}")


def known_names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ValueError for the first name that is not known, with the nearest one."""
    known = sorted(known)
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        choices = ", ".join(known) or "none"
        raise ValueError(f"unknown {what} {name!r}{hint} (known: {choices})")


def floats(
    what: str,
    given: Mapping[str, Any],
    known: Mapping[str, tuple[float, float, float]],
) -> dict[str, float]:
    """Return {name: value} for all `known`: (default, low, high), or raise."""
    known_names(what, given, known)
    return {
        name: within(name, given.get(name, default), low, high)
        for name, (default, low, high) in known.items()
    }


def bounds(given: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return {name: (low, high)} with finite low < high, or raise ValueError."""
    checked = {}
    for name, pair in given.items():
        try:
            low, high = (float(end) for end in pair)
        except (TypeError, ValueError):
            raise ValueError(
                f"bounds of {name!r} must be a pair (low, high), got {pair!r}"
            ) from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"bounds of {name!r} must be finite with low < high, got {pair!r}"
            )
        checked[name] = (low, high)
    return checked
