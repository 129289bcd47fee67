"""A graph of ONNX nodes under construction, its batch always the first axis.

A value is an array, known while exporting, or a `Tensor`, known when the file runs. An
array has no axis for the batch. In arithmetic between the two, axes are matched from the
last one on, as in NumPy: so an array serves all rows of a tensor as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from optix.onnx.file import require_onnx

OPSET, IR_VERSION = 18, 8
BATCH = "batch"


class Tensor(NamedTuple):
    """What a node gives: `batch` rows of a shape."""

    name: str
    shape: tuple[int, ...]  # of one row
    dtype: np.dtype


Value = Any  # a Tensor, or an array


class Emitter:
    """Nodes, and the arrays they use; equal ones are there once.

    Args:
      inputs: {name: (shape of one row, dtype)}.
    """

    def __init__(self, inputs: dict[str, tuple[tuple[int, ...], Any]]):
        """See the class."""
        self._onnx = require_onnx()
        self.inputs = {
            name: Tensor(name, tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in inputs.items()
        }
        self._nodes: list[Any] = []
        self._given: dict[Any, str] = {}  # node or array -> its name
        self._arrays: list[Any] = []

    def emit(
        self, op: str, *values: Value, shape: Sequence[int], dtype: Any, **attributes
    ) -> Tensor:
        """Return what a node gives for some values."""
        name = self.node(op, [self.name_of(value) for value in values], **attributes)
        return Tensor(name, tuple(shape), np.dtype(dtype))

    def node(self, op: str, names: Sequence[str], **attributes: Any) -> str:
        """Return the name of what a node gives for what has these names."""
        key = (op, tuple(names), repr(sorted(attributes.items())))
        if key not in self._given:
            name = f"{op.lower()}_{len(self._nodes)}"
            self._nodes.append(
                self._onnx.helper.make_node(op, names, [name], name, **attributes)
            )
            self._given[key] = name
        return self._given[key]

    def name_of(self, value: Value) -> str:
        """Return the name of a tensor, or that of an array put into the file."""
        if isinstance(value, Tensor):
            return value.name
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._given:
            name = f"constant_{len(self._arrays)}"
            self._arrays.append(self._onnx.numpy_helper.from_array(array, name))
            self._given[key] = name
        return self._given[key]

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a tensor whose rows have another shape of the same size."""
        if x.shape == tuple(shape):
            return x
        target = np.array([-1, *shape], np.int64)
        return self.emit("Reshape", x, target, shape=shape, dtype=x.dtype)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Return a tensor with the axes of its rows in another order."""
        if list(order) == list(range(len(order))):
            return x
        shape = [x.shape[axis] for axis in order]
        perm = [0, *(axis + 1 for axis in order)]
        return self.emit("Transpose", x, shape=shape, dtype=x.dtype, perm=perm)

    def expand(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a tensor whose axes of size 1 are repeated to a shape."""
        if x.shape == tuple(shape):
            return x
        target = np.array([1, *shape], np.int64)  # 1 leaves the batch what it is
        return self.emit("Expand", x, target, shape=shape, dtype=x.dtype)

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """Return a tensor of another type."""
        if x.dtype == np.dtype(dtype):
            return x
        to = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.emit("Cast", x, shape=x.shape, dtype=dtype, to=to)

    def batched(self, value: Value) -> Tensor:
        """Return a value as a tensor: an array becomes that of all rows."""
        if isinstance(value, Tensor):
            return value
        array = np.asarray(value)
        first = next(iter(self.inputs))
        batch = self.node("Shape", [first], start=0, end=1)
        ones = self.name_of(np.ones(array.ndim, np.int64))
        target = self.node("Concat", [batch, ones], axis=0)
        name = self.node("Expand", [self.name_of(array[None]), target])
        return Tensor(name, array.shape, array.dtype)

    def model(self, outputs: dict[str, Value], meanings: dict[str, str]) -> Any:
        """Return the `onnx.ModelProto`.

        Args:
          outputs: by the names they shall have.
          meanings: {name of an input or output: what it is}.
        """
        helper = self._onnx.helper
        last = []
        for name, value in outputs.items():
            last.append(self.batched(value)._replace(name=name))
            source = self.batched(value).name
            self._nodes.append(helper.make_node("Identity", [source], [name], name))

        def described(tensor):
            kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
            meaning = meanings.get(tensor.name, "")
            shape = [BATCH, *tensor.shape]
            return helper.make_tensor_value_info(tensor.name, kind, shape, meaning)

        graph = helper.make_graph(
            self._nodes,
            "policy",
            [described(tensor) for tensor in self.inputs.values()],
            [described(tensor) for tensor in last],
            self._arrays,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="optix"
        )
