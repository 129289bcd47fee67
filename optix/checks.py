"""Checks of arguments. Every message states the rule, the value and the remedy."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from jax.core import Tracer

from optix.types import MAX_INT32


class OptionError(ValueError):
    """An argument that is out of its range or unknown; the message says the rule."""


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise OptionError: text and numbers are no switch."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def positive_int(
    name: str, value: Any, minimum: int = 1, maximum: int = MAX_INT32
) -> int:
    """Return `value` as an int from `minimum` to `maximum`, or raise OptionError."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < minimum:
        raise OptionError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if int(value) > maximum:
        raise OptionError(f"{name} must be at most {maximum}, got {value}")
    return int(value)


def axis_name(value: Any) -> None:
    """Raise OptionError unless `value` is the name of a mapped axis, or None."""
    names = value if isinstance(value, tuple) and value else (value,)
    if value is not None and not all(isinstance(name, str) and name for name in names):
        raise OptionError(
            "axis_name must be the name of a mapped axis, as that of "
            f"jax.pmap(..., axis_name='device'), or None, got {value!r}"
        )


def function(name: str, value: Any, remedy: str) -> None:
    """Raise OptionError unless `value` can be called."""
    if not callable(value):
        raise OptionError(f"{name} must be a function, got {value!r}; {remedy}")


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return `value` as a tuple of sizes of at least 1, or raise OptionError."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise OptionError(f"{name} must be a tuple of sizes, like (4,), got {value!r}")
    return tuple(positive_int(f"a size of {name}", size) for size in value)


def within(
    name: str, value: Any, low: float, high: float, *, open_ends: bool = False
) -> float:
    """Return `value` as a float in [low, high], or (low, high) if `open_ends`.

    Numbers of NumPy and concrete scalar arrays of JAX will do.
    """
    brackets = "()" if open_ends else "[]"
    rule = f"{name} must be in {brackets[0]}{low:g}, {high:g}{brackets[1]}"
    number = _number(value)
    inside = low < number < high if open_ends else low <= number <= high
    if not inside:  # a NaN is nowhere
        raise OptionError(f"{rule}, got {value!r}")
    return number


def within_or_traced(
    name: str, value: Any, low: float, high: float, *, open_ends: bool = False
) -> Any:
    """Return a number as `within` does; one that is traced can not be looked at."""
    if isinstance(value, Tracer):
        return value
    return within(name, value, low, high, open_ends=open_ends)


def _number(value: Any) -> float:
    """Return a real number, a scalar array of one too, as a float; NaN if it is none."""
    if isinstance(value, bool | np.bool_ | Tracer):
        return math.nan
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    # V: bfloat16
    scalar = kind in ("f", "i", "u", "V") and np.ndim(value) == 0
    if not isinstance(value, Real) and not scalar:
        return math.nan
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def record(name: str, value: Any, kind: type, remedy: str) -> None:
    """Raise OptionError unless `value` is a `kind`."""
    if not isinstance(value, kind):
        raise OptionError(f"{name} must be a {kind.__name__}, got {value!r}; {remedy}")


def mapping(name: str, value: Any, form: str) -> dict:
    """Return a mapping, or None for an empty one, as a dict, or raise OptionError."""
    if value is not None and not isinstance(value, Mapping):
        raise OptionError(f"{name} must be a mapping {form} or None, got {value!r}")
    return dict(value or {})


def known_names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptionError for the first name that is not known, with the nearest one."""
    known = sorted(known)
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        choices = ", ".join(known) or "none"
        raise OptionError(f"unknown {what} {name!r}{hint} (known: {choices})")


def beside_a_loop(agent: str | None, options: Mapping[str, Any]) -> None:
    """Raise OptionError for what was given beside a `Loop`, which has it already."""
    if agent is not None:
        raise OptionError(
            f"agent is that of the loop, got {agent!r}; leave it out, or give an "
            "environment in place of the loop"
        )
    for name in options:
        raise OptionError(
            f"unknown option beside a loop {name!r}; give it to what makes the loop, "
            f"as in optix.make(..., {name}=...)"
        )


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
    """Return {name: (low, high)} with finite low < high, or raise OptionError."""
    if not isinstance(given, Mapping):
        raise OptionError(
            f"bounds must be a mapping {{name: (low, high)}}, got {given!r}"
        )
    checked = {}
    for name, pair in given.items():
        try:
            low, high = (float(end) for end in pair)
        except (TypeError, ValueError):
            raise OptionError(
                f"bounds of {name!r} must be a pair (low, high), got {pair!r}"
            ) from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise OptionError(
                f"bounds of {name!r} must be finite with low < high, got {pair!r}"
            )
        checked[name] = (low, high)
    return checked
