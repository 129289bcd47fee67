"""A Keras network as an ONNX file: layer by layer, by an emitter of our own.

Keras's own export needs the package tf2onnx; what agents have is a few kinds of layers.
Nothing of Keras or TensorFlow is imported: the layers say what they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optix.checks import OptionError, known_names
from optix.host.observing import CLIP
from optix.math.masks import NEVER
from optix.onnx.emitter import Emitter, Tensor
from optix.onnx.file import MEANINGS, checked_path, require_onnx, save


def export(
    network: Any,
    path: str | os.PathLike,
    head: str,
    *,
    masked: bool = False,
    normalizer: tuple[np.ndarray, np.ndarray] | None = None,
    bounds: Any = None,
    log_scale_range: tuple[float, float] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the policy of a Keras network as an ONNX file that takes any batch.

    The input is "observation" [batch, ...] float32. Outputs are by the head:
    "logits" and "q_values" [batch, n] with the best "action" [batch] int64; "gaussian" and
    "squashed_gaussian": "mean" and "log_scale", and the "action" of the mean, in the
    latter after tanh; "unit_action" in [-1, 1] and the environment's "action".

    Args:
      network: built, sequential or functional; observations [N, ...] -> [N, outputs].
      path: of the file; one that is there is replaced.
      head: what the network gives: logits, q_values, gaussian or squashed_gaussian (means
        and log scales beside them), or unit_action.
      masked: there is an input "action_mask" [batch, outputs] bool too; what it forbids
        has logits or values that no policy prefers.
      normalizer: (mean, scale), each of one observation: it sees `(x - mean) * scale`
        within 10 deviations. None leaves observations as they are.
      bounds: what has `low`, `high`, `centre` and `unit` [size] and `shape`: the
        environment's action is `action * unit + centre` within its ends. None leaves
        actions as they are.
      log_scale_range: (low, high) that log scales are kept in.
      about: metadata by name.

    Raises:
      ValueError: an unknown head, a network that is not built, a layer or activation
        without an ONNX form here, a path that can not be written to.
      ImportError: onnx is not installed.
    """
    require_onnx()
    checked_path(path)
    known_names("head", [head], HEADS)
    inputs: dict[str, Any] = {"observation": (_input_shape(network), np.float32)}
    if masked:
        inputs["action_mask"] = (network.output_shape[1:], np.bool_)
    emitter = Emitter(inputs)
    seen = emitter.inputs["observation"]
    if normalizer is not None:
        mean, scale = (np.asarray(x, np.float32) for x in normalizer)
        seen = _op(emitter, "Sub", seen, mean)
        seen = _clipped(emitter, _op(emitter, "Mul", seen, scale), -CLIP, CLIP)
    out = _run(emitter, network, seen)
    if masked:
        given = _allowed(emitter), out, np.float32(NEVER)
        out = emitter.emit("Where", *given, shape=out.shape, dtype=out.dtype)
    outputs = HEADS[head](emitter, out, log_scale_range)
    action = outputs["action"]
    if bounds is not None and action.dtype == np.float32:
        moved = _op(emitter, "Mul", action, np.asarray(bounds.unit, np.float32))
        moved = _op(emitter, "Add", moved, np.asarray(bounds.centre, np.float32))
        moved = _clipped(emitter, moved, bounds.low, bounds.high)
        outputs["action"] = emitter.reshape(moved, bounds.shape)
    save(emitter.model(outputs, MEANINGS), path, about)


def _allowed(emitter: Emitter) -> Tensor:
    """Return the mask with everything allowed where nothing is."""
    mask = emitter.inputs["action_mask"]
    number, axes = emitter.cast(mask, np.float32), np.array([-1], np.int64)
    some = emitter.emit("ReduceMax", number, axes, shape=(1,), dtype=np.float32)
    none = _op(emitter, "Not", emitter.cast(some, np.bool_))
    return _op(emitter, "Or", mask, none)


def _input_shape(network: Any) -> tuple[int, ...]:
    shape = getattr(network, "input_shape", None) if _is_built(network) else None
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise OptionError(
            "network must be a built Keras model, sequential or functional, of one input, "
            f"got {network!r}; give it an Input, or call it on an observation once"
        )
    return tuple(int(size) for size in shape[1:])


def _is_built(network: Any) -> bool:
    return hasattr(network, "layers") and bool(getattr(network, "built", False))


def _run(emitter: Emitter, network: Any, x: Tensor) -> Tensor:
    """Return what a sequential or functional network gives."""
    if type(network).__name__ == "Sequential":
        for layer in network.layers:
            x = _layer(emitter, layer, [x])
        return x
    if len(getattr(network, "outputs", None) or ()) != 1:
        raise OptionError(
            "network must be sequential or functional, with one output, got "
            f"{type(network).__name__}; make it of layers by keras.Sequential or "
            "keras.Model(inputs, outputs)"
        )
    values = {id(network.inputs[0]): x}
    for layer in network.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        given = getattr(layer, "input", None)
        given = given if isinstance(given, list | tuple) else [given]
        if any(id(tensor) not in values for tensor in given):
            raise _not_plain(layer.name)
        result = _layer(emitter, layer, [values[id(tensor)] for tensor in given])
        values[id(layer.output)] = result
    if id(network.outputs[0]) not in values:
        raise _not_plain(network.layers[-1].name)
    return values[id(network.outputs[0])]


def _not_plain(name: str) -> OptionError:
    return OptionError(
        "a functional network must be of layers that are called once each, without "
        f"networks among them, got {name}; give each place a layer of its own"
    )


def _layer(emitter: Emitter, layer: Any, given: Sequence[Tensor]) -> Tensor:
    kind = type(layer).__name__
    if hasattr(layer, "layers"):
        return _run(emitter, layer, given[0])
    if kind not in LAYERS:
        raise OptionError(
            f"a network to be exported must be of the layers {', '.join(LAYERS)}, got "
            f"{layer.name}, a {kind}"
        )
    return LAYERS[kind](emitter, layer, *given)


def _op(emitter: Emitter, op: str, x: Tensor, *others: Any) -> Tensor:
    return emitter.emit(op, x, *others, shape=x.shape, dtype=x.dtype)


def _clipped(emitter: Emitter, x: Tensor, low: Any, high: Any) -> Tensor:
    x = _op(emitter, "Max", x, np.asarray(low, np.float32))
    return _op(emitter, "Min", x, np.asarray(high, np.float32))


def _silu(emitter, x):
    return _op(emitter, "Mul", x, _op(emitter, "Sigmoid", x))


def _gelu(emitter, x):
    """Keras's default is the exact one."""
    inner = _op(emitter, "Erf", _op(emitter, "Mul", x, np.float32(math.sqrt(0.5))))
    half = _op(emitter, "Mul", x, np.float32(0.5))
    return _op(emitter, "Mul", half, _op(emitter, "Add", inner, np.float32(1)))


def _plain(op: str) -> Callable[[Emitter, Tensor], Tensor]:
    return lambda emitter, x: _op(emitter, op, x)


ACTIVATIONS: dict[str, Callable[[Emitter, Tensor], Tensor]] = {
    "linear": lambda emitter, x: x,
    "tanh": _plain("Tanh"),
    "relu": _plain("Relu"),
    "sigmoid": _plain("Sigmoid"),
    "softplus": _plain("Softplus"),
    "elu": _plain("Elu"),
    "selu": _plain("Selu"),
    "silu": _silu,
    "gelu": _gelu,
}


def _activated(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    name = getattr(layer.activation, "__name__", repr(layer.activation))
    known_names(f"activation of {layer.name}", [name], ACTIVATIONS)
    return ACTIVATIONS[name](emitter, x)


def _dense(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    weights = [np.asarray(w, np.float32) for w in layer.get_weights()]
    if not weights:
        raise OptionError(f"network must be built, got {layer.name} without weights")
    shape = (*x.shape[:-1], weights[0].shape[1])
    x = emitter.emit("MatMul", x, weights[0], shape=shape, dtype=np.float32)
    if layer.use_bias:
        x = _op(emitter, "Add", x, weights[1])
    return _activated(emitter, layer, x)


def _convolution(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    if layer.data_format != "channels_last":
        raise OptionError(
            f"{layer.name} must have channels last, got {layer.data_format}"
        )
    kernel, *bias = (np.asarray(w, np.float32) for w in layer.get_weights())
    height, width = layer.compute_output_shape((1, *x.shape))[1:3]
    padding = "SAME_UPPER" if layer.padding == "same" else "VALID"
    out = emitter.emit(
        "Conv",
        emitter.transpose(x, (2, 0, 1)),
        kernel.transpose(3, 2, 0, 1),
        *bias,
        shape=(kernel.shape[3], height, width),
        dtype=np.float32,
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        group=layer.groups,
        auto_pad=padding,
    )
    return _activated(emitter, layer, emitter.transpose(out, (1, 2, 0)))


def _rescaled(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    x = _op(emitter, "Mul", x, np.asarray(layer.scale, np.float32))
    return _op(emitter, "Add", x, np.asarray(layer.offset, np.float32))


def _joined(emitter: Emitter, layer: Any, *given: Tensor) -> Tensor:
    axis = layer.axis if layer.axis < 0 else layer.axis - len(given[0].shape) - 1
    shape = list(given[0].shape)
    shape[axis] = sum(x.shape[axis] for x in given)
    return emitter.emit("Concat", *given, shape=shape, dtype=np.float32, axis=axis)


def _permuted(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    return emitter.transpose(x, [axis - 1 for axis in layer.dims])


def _reshaped(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    return emitter.reshape(x, layer.compute_output_shape((1, *x.shape))[1:])


def _one_hot(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    number = emitter.cast(emitter.reshape(x, (1,)), np.int32)
    states = np.arange(layer.start, layer.start + layer.n, dtype=np.int32)
    here = emitter.emit("Equal", number, states, shape=(layer.n,), dtype=np.bool_)
    return emitter.cast(here, np.float32)


def _with_log_scale(emitter: Emitter, layer: Any, x: Tensor) -> Tensor:
    scale = emitter.batched(np.asarray(layer.get_weights()[0], np.float32))
    shape = (2 * x.shape[0],)
    return emitter.emit("Concat", x, scale, shape=shape, dtype=np.float32, axis=1)


def _duel(emitter: Emitter, layer: Any, value: Tensor, advantage: Tensor) -> Tensor:
    axes = np.array([-1], np.int64)
    mean = emitter.emit("ReduceMean", advantage, axes, shape=(1,), dtype=np.float32)
    return _op(emitter, "Sub", _op(emitter, "Add", advantage, value), mean)


LAYERS: dict[str, Callable[..., Tensor]] = {
    "InputLayer": lambda emitter, layer, x: x,
    "Dense": _dense,
    "Conv2D": _convolution,
    "Activation": _activated,
    "Flatten": lambda emitter, layer, x: emitter.reshape(x, (math.prod(x.shape),)),
    "Rescaling": _rescaled,
    "Concatenate": _joined,
    "Permute": _permuted,
    "Reshape": _reshaped,
    "Dropout": lambda emitter, layer, x: x,  # the policy drops nothing
    # of optix_tensorflow.networks
    "OneHot": _one_hot,
    "LogScale": _with_log_scale,
    "Duel": _duel,
}


def _best(emitter: Emitter, x: Tensor) -> Tensor:
    return emitter.emit("ArgMax", x, shape=(), dtype=np.int64, axis=-1, keepdims=0)


def _of_logits(emitter, out, log_scale_range):
    del log_scale_range
    return {"logits": out, "action": _best(emitter, out)}


def _of_values(emitter, out, log_scale_range):
    del log_scale_range
    return {"q_values": out, "action": _best(emitter, out)}


def _of_action(emitter, out, log_scale_range):
    del emitter, log_scale_range
    return {"unit_action": out, "action": out}


def _of_gaussian(emitter, out, log_scale_range):
    size = out.shape[-1] // 2
    if out.shape != (2 * size,):
        raise OptionError(
            f"network must give means and log scales beside them, got {out.shape[-1]} "
            "outputs"
        )
    mean, log_scale = (
        emitter.emit(
            "Slice",
            out,
            *(np.array([n], np.int64) for n in (start, start + size, 1)),
            shape=(size,),
            dtype=np.float32,
        )
        for start in (0, size)
    )
    if log_scale_range is not None:
        log_scale = _clipped(emitter, log_scale, *log_scale_range)
    return {"mean": mean, "log_scale": log_scale, "action": mean}


def _of_squashed(emitter, out, log_scale_range):
    found = _of_gaussian(emitter, out, log_scale_range)
    return {**found, "action": _op(emitter, "Tanh", found["mean"])}


HEADS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "logits": _of_logits,
    "q_values": _of_values,
    "gaussian": _of_gaussian,
    "squashed_gaussian": _of_squashed,
    "unit_action": _of_action,
}
