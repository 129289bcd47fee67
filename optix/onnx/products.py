"""Matrix products and convolutions as ONNX nodes."""

from __future__ import annotations

import math

import numpy as np

from optix.onnx.emitter import Tensor
from optix.onnx.steps import UnsupportedError


def _arranged(emitter, x, batch, first, second, shape):
    """`x` with its axes in the order batch, first, second, each of the latter as one."""
    order = [*batch, *first, *second]
    if isinstance(x, Tensor):
        return emitter.reshape(emitter.transpose(x, order), shape)
    return np.transpose(np.asarray(x), order).reshape(shape)


def _dot_general(emitter, params, values, forms):
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    summed, lead = (left_sum, right_sum), (left_batch, right_batch)
    shapes = [x.shape for x in values]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*summed[side], *lead[side])]
        for side, shape in enumerate(shapes)
    ]
    kept = [tuple(shapes[side][axis] for axis in free[side]) for side in (0, 1)]
    batch = tuple(shapes[0][axis] for axis in lead[0])
    depth = math.prod(shapes[0][axis] for axis in summed[0])
    # weights come last, as in x @ w: the rows of x are then rows of one product
    one, two = (0, 1) if isinstance(values[0], Tensor) else (1, 0)
    rows, columns = math.prod(kept[one]), math.prod(kept[two])
    axes = lead[one], free[one], summed[one]
    a = _arranged(emitter, values[one], *axes, (*batch, rows, depth))
    axes = lead[two], summed[two], free[two]
    b = _arranged(emitter, values[two], *axes, (*batch, depth, columns))
    if not batch and rows == 1 and not isinstance(b, Tensor):
        a = emitter.reshape(a, (depth,))
    dtype = forms[0].dtype
    a = emitter.cast(a, dtype)
    b = emitter.cast(b, dtype) if isinstance(b, Tensor) else b.astype(dtype)
    flat = (*a.shape[:-1], columns)
    out = emitter.emit("MatMul", a, b, shape=flat, dtype=dtype)
    out = emitter.reshape(out, (*batch, *kept[one], *kept[two]))
    if one == 0:
        return [out]
    first, second = len(batch), len(batch) + len(kept[one])
    end = second + len(kept[two])
    order = [*range(first), *range(second, end), *range(first, second)]
    return [emitter.transpose(out, order)]


def _convolution(emitter, params, values, forms):
    x, kernel = values
    if isinstance(kernel, Tensor):
        raise UnsupportedError("conv_general_dilated", " by what depends on the input")
    if params["batch_group_count"] != 1 or set(params["lhs_dilation"]) - {1}:
        raise UnsupportedError("conv_general_dilated", " that is transposed or grouped")
    if not isinstance(x, Tensor):
        raise UnsupportedError("conv_general_dilated", " of a constant")
    numbers, dtype = params["dimension_numbers"], forms[0].dtype
    x = emitter.transpose(x, numbers.lhs_spec)
    # the images of a row are rows of the convolution: the batch takes them in
    images = emitter.reshape(x, x.shape[1:])
    kernel = np.transpose(np.asarray(kernel), numbers.rhs_spec)
    low, high = zip(*params["padding"], strict=True)
    shape = tuple(forms[0].shape[axis] for axis in numbers.out_spec)
    out = emitter.emit(
        "Conv",
        images,
        kernel,
        shape=shape[1:],
        dtype=dtype,
        group=params["feature_group_count"],
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        pads=[*low, *high],
    )
    out = emitter.reshape(out, shape)
    return [emitter.transpose(out, np.argsort(numbers.out_spec).tolist())]


RULES = {"dot_general": _dot_general, "conv_general_dilated": _convolution}
