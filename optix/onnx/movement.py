"""Operations that only move numbers: to other shapes, places and orders.

Where a number comes from is found by letting JAX move numbers of places instead. So one
rule serves slices, gathers and scatters at places that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix.onnx.emitter import Emitter, Tensor, Value
from optix.onnx.steps import UnsupportedError


def _shape_of(value):
    return value.shape if isinstance(value, Tensor) else np.shape(value)


def _reshape(emitter, params, values, forms):
    x = values[0]
    if params["dimensions"] is not None:
        x = emitter.transpose(x, params["dimensions"])
    return [emitter.reshape(x, forms[0].shape)]


def _squeeze(emitter, params, values, forms):
    del params
    return [emitter.reshape(values[0], forms[0].shape)]


def _broadcast(emitter, params, values, forms):
    x, shape = values[0], forms[0].shape
    lead = [1] * len(shape)
    for axis, place in enumerate(params["broadcast_dimensions"]):
        lead[place] = x.shape[axis]
    return [emitter.expand(emitter.reshape(x, lead), shape)]


def _transpose(emitter, params, values, forms):
    del forms
    return [emitter.transpose(values[0], params["permutation"])]


def _concatenate(emitter, params, values, forms):
    parts = [emitter.batched(x) for x in values if 0 not in _shape_of(x)]
    if len(parts) == 1:
        return parts
    form, axis = forms[0], params["dimension"] + 1
    return [
        emitter.emit("Concat", *parts, shape=form.shape, dtype=form.dtype, axis=axis)
    ]


def _stack(emitter, params, values, forms):
    axis = params["axis"]
    parts = [emitter.batched(x) for x in values]
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    parts = [emitter.reshape(x, shape) for x in parts]
    return _concatenate(emitter, {"dimension": axis}, parts, forms)


def _unstack(emitter, params, values, forms):
    x, axis = values[0], params["axis"]
    parts = []
    for place, form in enumerate(forms):
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        one = jax.ShapeDtypeStruct(shape, form.dtype)
        part = _between(emitter, x, axis, place, place + 1, one)
        parts.append(emitter.reshape(part, form.shape))
    return parts


def _tile(emitter, params, values, forms):
    repeats, form = np.array([1, *params["reps"]], np.int64), forms[0]
    return [
        emitter.emit("Tile", values[0], repeats, shape=form.shape, dtype=form.dtype)
    ]


def _split(emitter, params, values, forms):
    sizes = params["sizes"]
    ends = np.cumsum(sizes)
    return [
        _between(emitter, values[0], params["axis"], int(end - size), int(end), form)
        for size, end, form in zip(sizes, ends, forms, strict=True)
    ]


def _between(emitter, x, axis, start, end, form):
    bounds = [np.array([n], np.int64) for n in (start, end, axis + 1)]
    return emitter.emit("Slice", x, *bounds, shape=form.shape, dtype=form.dtype)


def _slice(emitter, params, values, forms):
    starts, ends = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or [1] * len(starts)
    bounds = [np.array(n, np.int64) for n in (starts, ends)]
    axes = np.arange(1, len(starts) + 1, dtype=np.int64)
    form = {"shape": forms[0].shape, "dtype": forms[0].dtype}
    given = *bounds, axes, np.array(steps, np.int64)
    return [emitter.emit("Slice", values[0], *given, **form)]


def _moved(name: str, *sources: int):
    """The rule of a primitive that moves some of its values; the others say where."""

    def rule(emitter, params, values, forms):
        del forms
        for place, value in enumerate(values):
            if isinstance(value, Tensor) and place not in sources:
                raise UnsupportedError(name, " at places that depend on the input")
        primitive = getattr(jax.lax, f"{name}_p")

        def move(moving: Sequence[Any], **changed: Any) -> np.ndarray:
            given = list(values)
            for place, value in zip(sources, moving, strict=True):
                given[place] = value
            given = [jnp.asarray(x) for x in given]
            return np.asarray(primitive.bind(*given, **{**params, **changed}))

        return [_take(emitter, [values[place] for place in sources], move, params)]

    return rule


def _take(emitter, sources: list[Value], move, params) -> Tensor:
    sizes = [int(np.prod(_shape_of(x))) for x in sources]
    firsts = np.cumsum([0, *sizes[:-1]])
    places = [
        np.arange(first, first + size, dtype=np.int32).reshape(_shape_of(x))
        for x, first, size in zip(sources, firsts, sizes, strict=True)
    ]
    filled = {"fill_value": -1} if "fill_value" in params else {}
    found = move(places, **filled)
    rows = [
        emitter.reshape(emitter.batched(x), (size,))
        for x, size in zip(sources, sizes, strict=True)
        if size
    ]
    dtype, shape = rows[0].dtype, found.shape
    row = rows[0]
    if len(rows) > 1:
        total = (sum(sizes),)
        row = emitter.emit("Concat", *rows, shape=total, dtype=dtype, axis=1)
    index = np.maximum(found, 0).reshape(-1).astype(np.int64)
    taken = emitter.emit("Gather", row, index, shape=index.shape, dtype=dtype, axis=1)
    taken = emitter.reshape(taken, shape)
    if (found >= 0).all():
        return taken
    zeros = [np.zeros(_shape_of(x), dtype) for x in sources]
    given = found >= 0, taken, move(zeros)
    return emitter.emit("Where", *given, shape=shape, dtype=dtype)


def _pad(emitter: Emitter, params, values, forms):
    x, filler = values
    if isinstance(filler, Tensor):
        raise UnsupportedError("pad", " with a number that depends on the input")
    config = params["padding_config"]
    places = np.arange(np.prod(x.shape), dtype=np.int32).reshape(x.shape)
    found = np.asarray(jax.lax.pad(places, np.int32(-1), config))

    def move(sources, **changed):
        del changed
        return found if sources[0].dtype == np.int32 else np.full(found.shape, filler)

    return [_take(emitter, [x], move, {})]


def _reverse(emitter, params, values, forms):
    del forms

    def move(sources, **changed):
        del changed
        return np.flip(sources[0], params["dimensions"])

    return [_take(emitter, [values[0]], move, {})]


RULES = {
    "reshape": _reshape,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": _unstack,
    "tile": _tile,
    "split": _split,
    "slice": _slice,
    "pad": _pad,
    "rev": _reverse,
    "gather": _moved("gather", 0),
    "dynamic_slice": _moved("dynamic_slice", 0),
    "dynamic_update_slice": _moved("dynamic_update_slice", 0, 1),
    "scatter": _moved("scatter", 0, 2),
}
