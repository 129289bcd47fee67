"""What a function costs, counted by tracing it: nothing is computed or timed."""

import math
from collections.abc import Callable
from typing import Any

import jax

_DRAW = 100  # operations of a random word
_DRAWS = {"random_bits", "threefry2x32", "random_split", "random_fold_in"}


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """Return about how many operations on single numbers a function takes.

    A loop of unknown length counts as one turn, of two branches the dearer one counts.

    >>> import jax.numpy as jnp
    >>> operations(lambda x: x + 1, jnp.zeros(10))
    10
    >>> operations(lambda x: jax.lax.fori_loop(0, 5, lambda _, y: y * 2, x), jnp.zeros(4))
    25
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: Any) -> int:
    inner = [_count(part) for part in _parts(equation.params)]
    name = equation.primitive.name
    if name == "cond":
        return max(inner)
    if inner:
        times = equation.params["length"] if name == "scan" else 1
        return times * sum(inner)
    size = max((_size(variable) for variable in equation.outvars), default=0)
    if name == "dot_general":
        (axes, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return size * math.prod(shape[axis] for axis in axes)
    return size * (_DRAW if name in _DRAWS else 1)


def _parts(params: Any) -> list[Any]:
    """Return the programs within an operation."""
    found = []
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                found.append(part)
    return found


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))
