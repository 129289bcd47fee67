"""Operations on each number by itself, and sums over axes, as ONNX nodes.

A rule is `(emitter, params, values, forms) -> values`: the parameters of the primitive of
JAX, what it is given and the shapes and types of what it gives, of one row.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from optix.onnx.emitter import Emitter, Tensor, Value
from optix.onnx.steps import UnsupportedError

DIRECT = {  # primitive: the node that is the same
    **{"add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"},
    **{"max": "Max", "min": "Min", "pow": "Pow", "neg": "Neg", "abs": "Abs"},
    **{"sign": "Sign", "floor": "Floor", "ceil": "Ceil", "sqrt": "Sqrt"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid"},
    **{"erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan", "sinh": "Sinh"},
    **{"cosh": "Cosh", "asin": "Asin", "acos": "Acos", "atan": "Atan"},
    **{"asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh"},
    **{"eq": "Equal", "lt": "Less", "le": "LessOrEqual"},
    **{"gt": "Greater", "ge": "GreaterOrEqual"},
}
LOGIC = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}
REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}
SAME = (  # what changes no value
    *("copy", "copy_p", "stop_gradient", "optimization_barrier"),
    *("xla_metadata_value", "reduce_precision", "name"),
)


def aligned(emitter: Emitter, values: list[Value]) -> list[Value]:
    """Return values whose axes match from the last one on: scalars of a row get axes."""
    rank = max(
        np.ndim(x) if not isinstance(x, Tensor) else len(x.shape) for x in values
    )

    def spread(x):
        if isinstance(x, Tensor) and len(x.shape) < rank:
            return emitter.reshape(x, (*(1,) * (rank - len(x.shape)), *x.shape))
        return x

    return [spread(x) for x in values]


def apply(emitter: Emitter, op: str, values: list[Value], form: Any) -> Tensor:
    """Return what an elementwise node gives."""
    values = aligned(emitter, values)
    return emitter.emit(op, *values, shape=form.shape, dtype=form.dtype)


def _direct(op):
    def rule(emitter, params, values, forms):
        del params
        return [apply(emitter, op, values, forms[0])]

    return rule


def _logic(name, op):
    def rule(emitter, params, values, forms):
        del params
        if forms[0].dtype != np.bool_:
            raise UnsupportedError(name, " of integers")
        return [apply(emitter, op, values, forms[0])]

    return rule


def _reduction(op):
    def rule(emitter, params, values, forms):
        return [_reduce(emitter, op, values[0], params["axes"], forms[0])]

    return rule


def _reduce(emitter, op, x, axes, form):
    if not axes:
        return x
    axes = np.array([axis + 1 for axis in axes], np.int64)
    return emitter.emit(op, x, axes, shape=form.shape, dtype=form.dtype, keepdims=0)


def _reduce_flags(op):
    def rule(emitter, params, values, forms):
        numbers = emitter.cast(values[0], np.int32)
        form = jax.ShapeDtypeStruct(forms[0].shape, np.dtype(np.int32))
        found = _reduce(emitter, op, numbers, params["axes"], form)
        return [emitter.cast(found, np.bool_)]

    return rule


def _arg(op):
    def rule(emitter, params, values, forms):
        (axis,) = params["axes"]
        x = values[0]
        x = emitter.cast(x, np.int32) if x.dtype == np.bool_ else x
        shape = forms[0].shape
        # the first of equal ones, as in JAX
        found = emitter.emit(
            op, x, shape=shape, dtype=np.int64, axis=axis + 1, keepdims=0
        )
        return [emitter.cast(found, forms[0].dtype)]

    return rule


def _cumulative_sum(emitter, params, values, forms):
    axis = np.array(params["axis"] + 1, np.int64)
    form = {"shape": forms[0].shape, "dtype": forms[0].dtype}
    reverse = int(params["reverse"])
    return [emitter.emit("CumSum", values[0], axis, **form, reverse=reverse)]


def _same(emitter, params, values, forms):
    del emitter, params, forms
    return list(values)


def _square(emitter, params, values, forms):
    del params
    return [apply(emitter, "Mul", [values[0], values[0]], forms[0])]


def _integer_pow(emitter, params, values, forms):
    if params["y"] == 2:
        return _square(emitter, params, values, forms)
    power = np.asarray(params["y"], forms[0].dtype)
    return [apply(emitter, "Pow", [values[0], power], forms[0])]


def _reciprocal_root(emitter, params, values, forms):
    del params
    root = apply(emitter, "Sqrt", values, forms[0])
    return [apply(emitter, "Reciprocal", [root], forms[0])]


def _shifted(before, op, after):
    """`op(x + before) + after`."""

    def rule(emitter, params, values, forms):
        del params
        dtype, x = forms[0].dtype, values[0]
        if before:
            x = apply(emitter, "Add", [x, np.asarray(before, dtype)], forms[0])
        x = apply(emitter, op, [x], forms[0])
        if after:
            x = apply(emitter, "Add", [x, np.asarray(after, dtype)], forms[0])
        return [x]

    return rule


def _power_of_two(emitter, params, values, forms):
    del params
    return [apply(emitter, "Pow", [np.asarray(2, forms[0].dtype), *values], forms[0])]


def _error_rest(emitter, params, values, forms):
    del params
    inner = apply(emitter, "Erf", values, forms[0])
    return [apply(emitter, "Sub", [np.asarray(1, forms[0].dtype), inner], forms[0])]


def _round(emitter, params, values, forms):
    if params["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise UnsupportedError("round", " away from zero; use jnp.round")
    return [apply(emitter, "Round", values, forms[0])]


def _remainder(emitter, params, values, forms):
    del params
    values = aligned(emitter, values)
    form = {"shape": forms[0].shape, "dtype": forms[0].dtype}
    return [emitter.emit("Mod", *values, **form, fmod=1)]


def _not_equal(emitter, params, values, forms):
    del params
    same = apply(emitter, "Equal", values, forms[0])
    return [apply(emitter, "Not", [same], forms[0])]


def _is_finite(emitter, params, values, forms):
    del params
    odd = [apply(emitter, op, values, forms[0]) for op in ("IsInf", "IsNaN")]
    return [apply(emitter, "Not", [apply(emitter, "Or", odd, forms[0])], forms[0])]


def _clamp(emitter, params, values, forms):
    del params
    low, x, high = values
    above = apply(emitter, "Max", [low, x], forms[0])
    return [apply(emitter, "Min", [above, high], forms[0])]


def _select(emitter, params, values, forms):
    """The case that a number, or a flag, tells; of flags the second if it is true."""
    del params
    which, *cases = values
    chosen = cases[0]
    dtype = which.dtype
    for number, case in enumerate(cases[1:], 1):
        here = which
        if dtype != np.bool_:
            flags = jax.ShapeDtypeStruct(
                which.shape if isinstance(which, Tensor) else np.shape(which), np.bool_
            )
            here = apply(emitter, "Equal", [which, np.asarray(number, dtype)], flags)
        chosen = apply(emitter, "Where", [here, case, chosen], forms[0])
    return [chosen]


def _convert(emitter, params, values, forms):
    del params
    return [emitter.cast(values[0], forms[0].dtype)]


RULES = {
    **{name: _direct(op) for name, op in DIRECT.items()},
    **{name: _logic(name, op) for name, op in LOGIC.items()},
    **{name: _reduction(op) for name, op in REDUCTIONS.items()},
    **{name: _same for name in SAME},
    "reduce_and": _reduce_flags("ReduceMin"),
    "reduce_or": _reduce_flags("ReduceMax"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "cumsum": _cumulative_sum,
    "square": _square,
    "integer_pow": _integer_pow,
    "rsqrt": _reciprocal_root,
    "log1p": _shifted(1, "Log", 0),
    "expm1": _shifted(0, "Exp", -1),
    "exp2": _power_of_two,
    "erfc": _error_rest,
    "round": _round,
    "rem": _remainder,
    "ne": _not_equal,
    "is_finite": _is_finite,
    "clamp": _clamp,
    "select_n": _select,
    "convert_element_type": _convert,
}
