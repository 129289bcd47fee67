"""Models and optimizers as plain arrays, {name: array}, and HDF5 files of them.

A name is that of the part, the place of the variable in it, and the variable's own. All
are read by one call of TensorFlow, and written by one. bfloat16, which NumPy has not, is
held as float32, which holds it.
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from optix import checks
from optix.host.weights import check_shape, weights_file

SUFFIX = ".h5"


class Variables:
    """All that models, optimizers and single variables hold.

    Learning rates are left out: they are hyperparameters.

    Args:
      parts: {name: keras.Model, optimizer or keras.Variable}, built.

    >>> scale = keras.Variable(2.0)
    >>> variables = Variables({"scale": scale})
    >>> variables.put({"scale": np.float32(3)})
    >>> variables.arrays()
    {'scale': array(3., dtype=float32)}
    """

    def __init__(self, parts: Mapping[str, Any]):
        """Trace what reads and what writes them."""
        self._named = dict(_named(parts))
        held = [variable.value for variable in self._named.values()]
        kept = [tf.float32 if x.dtype == tf.bfloat16 else x.dtype for x in held]
        specs = [
            tf.TensorSpec(x.shape, dtype) for x, dtype in zip(held, kept, strict=True)
        ]

        def read():
            return [tf.cast(x, dtype) for x, dtype in zip(held, kept, strict=True)]

        def write(arrays):
            for x, array in zip(held, arrays, strict=True):
                x.assign(tf.cast(array, x.dtype))

        self._specs = dict(zip(self._named, specs, strict=True))
        self._read = tf.function(read, input_signature=[]).get_concrete_function()
        self._write = tf.function(write, input_signature=[specs])
        self._write = self._write.get_concrete_function()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return copies of all."""
        tensors = zip(self._named, self._read(), strict=True)
        return {name: np.asarray(tensor.numpy()) for name, tensor in tensors}

    def put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back what `arrays` returned.

        Raises:
          ValueError: it is of other parts; nothing is changed then.
        """
        # in order, so that the message names the first layer that differs
        for name in dict.fromkeys((*self._specs, *arrays)):
            check_shape(name, self._specs.get(name), arrays.get(name))
        self._write(
            [
                tf.convert_to_tensor(arrays[name], spec.dtype)
                for name, spec in self._specs.items()
            ]
        )


def save(path: str, state: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an HDF5 file: `path`, with the ending .h5 added if it lacks."""
    with h5py.File(weights_file(path, SUFFIX), "w") as file:
        for name, array in state.items():
            file.create_dataset(name, data=array)


def load(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file that `save` wrote; nothing in it is executed.

    Raises:
      ValueError: it is no such file: it can not be read, points to other files, or says
        that it holds more than it does.
      FileNotFoundError: there is none.
    """
    file = weights_file(path, SUFFIX, written=True)
    try:
        with h5py.File(file, "r") as arrays:
            return dict(_datasets(arrays, "", depth=1))
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise checks.OptionError(
            f"{file} must be an HDF5 file that save_weights wrote, got one that can not "
            f"be read as such ({error}); only numbers are loaded, no pickles and no code"
        ) from error


def _datasets(group: Any, before: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    for key in group:
        name = f"{before}{key}"
        # a link may lead to another file, or round in a circle
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link")
        item = group[key]
        if isinstance(item, h5py.Group):
            if not depth:
                raise ValueError(f"{name} is a group too deep")
            yield from _datasets(item, f"{name}/", depth - 1)
            continue
        plain = item.dtype.kind in "biuf" and item.external is None
        # a size that is only said to be there would be filled up, without an end
        whole = item.id.get_storage_size() == item.nbytes and not item.is_virtual
        if not plain or not whole:
            raise ValueError(f"{name} is no plain array of numbers")
        yield name, np.asarray(item[()])


def _named(parts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, part in parts.items():
        if isinstance(part, keras.Variable):
            yield name, part
            continue
        rate = getattr(part, "learning_rate", None)
        for place, variable in enumerate(part.variables):
            if variable is rate:
                continue
            own = variable.name
            if isinstance(part, keras.optimizers.Optimizer):
                # the rest is the name of a layer, of which Keras counts all it ever made
                own = own.rpartition("_")[-1]
            yield f"{name}.{place}.{own}", variable
