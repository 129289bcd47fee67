"""A function of one row as an ONNX model of any number of rows.

Why an emitter of our own, and why of jaxprs: what JAX traces of one row holds few kinds of
operations, and the axis of the batch can be put before every one of them, so the file
takes any batch. The same few rules serve MLPs, images, recurrent networks, graphs, and
flax modules of a user's own. Known weights are made ready while exporting, loops over a
graph's levels become plain products, and two functions that compute the same layers share
their nodes. To write a file from the records of our own networks would do for those alone;
jax2onnx 0.17.1 takes the argmax of a vmapped function over the wrong axis, fails where a
layer asks how large the batch is, and on graphs, and is a large package to depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from optix.onnx import arithmetic, movement, products
from optix.onnx.emitter import Emitter
from optix.onnx.steps import run

RULES = {**arithmetic.RULES, **movement.RULES, **products.RULES}


def row_model(
    function: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    meanings: Mapping[str, str],
    wide: Sequence[str] = (),
) -> Any:
    """Return the `onnx.ModelProto` of a function, its first axis named "batch".

    Args:
      function: `({name: array}) -> {name: array}` of one row.
      inputs: {name: shape and dtype of one row}.
      meanings: {name of an input or output: what it is}, written beside it.
      wide: outputs that are int64 where they are whole numbers, which JAX has as int32.

    Raises:
      UnsupportedError: the function has an operation without an ONNX form here.
      ImportError: onnx is not installed.
    """
    emitter = Emitter({name: (x.shape, x.dtype) for name, x in inputs.items()})
    names: list[str] = []

    def ordered(given):
        out = function(given)
        names.extend(out)  # of a dictionary JAX would keep the sorted names
        return list(out.values())

    closed = jax.make_jaxpr(ordered)(dict(inputs))
    given = [emitter.inputs[name] for name in sorted(inputs)]
    values = dict(zip(names, run(emitter, closed, given, RULES), strict=True))
    for name in wide:
        if name in values and np.issubdtype(values[name].dtype, np.integer):
            values[name] = emitter.cast(emitter.batched(values[name]), np.int64)
    return emitter.model(values, dict(meanings))
