"""What all TensorFlow agents have: models and optimizers as a state, traced functions."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from optix import checks
from optix.host.network_agent import Hyperparams, NetworkAgent
from optix.host.observing import ObservationView
from optix.math.masks import observed
from optix.types import Box, Discrete
from optix_tensorflow import onnx
from optix_tensorflow.given import check_optimizer, input_shape
from optix_tensorflow.state import Variables, load, save

TAKES = {
    Discrete: "TFPPOAgent or TFDQNAgent",
    Box: "TFGaussianPPOAgent, TFSACAgent or TFTDDAgent",
}


class KerasAgent(NetworkAgent):
    """An agent of Keras models, of which a subclass says how they act and learn.

    It learns with `optimizers` from what is in `modules`; both, and the `records`, are
    its state. Acting draws from `generator`, of which `seed` decides. What TensorFlow
    computes is traced once: batches of any size and hyperparameters are its arguments.

    Args:
      modules: {name: a built model}.
      hyperparams: a `HyperparamSet` or {name: value}.
      observation_shape: of one observation; None takes what the first model says, or
        that of the first one seen.
    """

    TAKES: ClassVar = TAKES
    HEAD: ClassVar[str]  # what the policy's network gives, as `onnx.export` names it
    LOG_SCALES: ClassVar[tuple[float, float] | None] = None  # that they are kept in
    view: ObservationView
    bounds: Any = None  # `Bounds` of actions, where they have some

    def __init__(
        self,
        modules: Mapping[str, Any],
        hyperparams: Hyperparams,
        observation_shape: tuple[int, ...] | None,
    ):
        """See the class."""
        self.modules = dict(modules)
        self.parts: dict[str, Any] = dict(self.modules)
        self.optimizers: dict[str, Any] = {}
        self._shares: dict[str, float] = {}  # of learning_rate, of each optimizer
        self._traced: dict[str, Any] = {}
        if observation_shape is None:
            observation_shape = input_shape(next(iter(modules.values())))
        self.shape = observation_shape
        super().__init__(hyperparams)
        self.generator = tf.random.Generator.from_seed(0)

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw."""
        super().seed(seed)
        self.generator.reset_from_seed(int(seed) & 0x7FFFFFFF)

    def obs(self, observations: Any) -> tuple[Any, Any, Any]:
        """Return observations [B, *shape] as networks get them, for `call`.

        Raises:
          ValueError: they are of another shape than those before.
        """
        seen = self.view.plain(observed(observations))
        if self.shape is None:
            self.shape = self.view.told = seen.shape[1:]
        return self.view.normalize(seen), [None, *self.shape], tf.float32

    def shown(self, observations: Any) -> list[tuple[Any, Any, Any]]:
        """Return what `obs` does, and of `Masked` ones the masks, for `call`."""
        seen, mask = self.obs(observations), self.view.mask(observations)
        if mask is None:
            return [seen]
        return [seen, (mask, [None, mask.shape[-1]], tf.bool)]

    def call(self, name: str, function: Callable, *given: tuple[Any, Any, Any]) -> Any:
        """Call a function of TensorFlow that is traced the first time only.

        Args:
          name: what it is kept by.
          function: takes tensors.
          *given: (array, its shape with None where sizes differ, its dtype).
        """
        if any(dtype is tf.bool for _, _, dtype in given):
            name = f"{name}, masked"
        traced = self._traced.get(name)
        if traced is None:
            specs = [tf.TensorSpec(shape, dtype) for _, shape, dtype in given]
            made = tf.function(function, input_signature=specs)
            traced = self._traced[name] = _traced(made)
        return traced(*[tf.constant(array, dtype) for array, _, dtype in given])

    def settings(self) -> list[tuple[Any, Any, Any]]:
        """Return the hyperparameters as two vectors for `call`; see `unpacked`."""
        h = self.hyperparams
        return [
            (
                np.array([h[name] for name in names], dtype.as_numpy_dtype),
                [len(names)],
                dtype,
            )
            for names, dtype in ((self.FLOATS, tf.float32), (self.SIZES, tf.int32))
        ]

    def unpacked(self, floats: Any, sizes: Any) -> dict[str, Any]:
        """Return {name: tensor []} of `settings`, and give optimizers their rates."""
        h = dict(zip(self.FLOATS, tf.unstack(floats), strict=True))
        h |= dict(zip(self.SIZES, tf.unstack(sizes), strict=True))
        for name, share in self._shares.items():
            rate = self.optimizers[name].learning_rate
            rate.assign(tf.cast(h["learning_rate"] * share, rate.dtype))
        return h

    def add_optimizer(
        self,
        name: str,
        optimizer: Any,
        models: Sequence[Any],
        epsilon: float = 1e-8,
    ) -> None:
        """Let an optimizer learn models or variables; Adam, if None is given.

        The rate of the first one given is the default of `learning_rate`; the rates of
        all keep their ratio to it.

        Raises:
          ValueError: it is of other variables already, or has a schedule.
        """
        every = [
            v
            for model in models
            for v in getattr(model, "trainable_variables", [model])
        ]
        variables = list({id(variable): variable for variable in every}.values())
        if optimizer is None:
            rate = self.hyperparams["learning_rate"]
            optimizer = keras.optimizers.Adam(rate, epsilon=epsilon)
        check_optimizer(name, optimizer, variables)
        if not optimizer.built:
            optimizer.build(variables)
        rate = float(optimizer.learning_rate)
        self.take_rate(rate)
        self._shares[name] = rate / self._first_rate
        self.optimizers[name] = self.parts[name] = optimizer

    def learned(self, name: str | None = None) -> list[Any]:
        """Return the variables of one optimizer, or of all."""
        optimizers = (
            self.optimizers.values() if name is None else [self.optimizers[name]]
        )
        return [v for o in optimizers for v in o._trainable_variables]

    def slopes(self, name: str, tape: Any, loss: Any, limit: Any) -> tuple[Any, Any]:
        """Return the gradient of a loss for an optimizer, clipped, and its norm []."""
        variables = [variable.value for variable in self.learned(name)]
        given = tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        given = [tf.convert_to_tensor(slope) for slope in given]
        norm = tf.linalg.global_norm([tf.cast(slope, tf.float32) for slope in given])
        scale = tf.minimum(1.0, limit / (norm + 1e-6))
        return [slope * tf.cast(scale, slope.dtype) for slope in given], norm

    def descend(self, name: str, tape: Any, loss: Any, limit: Any) -> Any:
        """Take a step of an optimizer down the loss; return the norm of the gradient."""
        slopes, norm = self.slopes(name, tape, loss, limit)
        self.optimizers[name].apply(slopes)
        return norm

    def export_onnx(
        self, path: str | os.PathLike, *, action_mask: bool = False
    ) -> None:
        """Write the deterministic policy as an ONNX file that takes any batch.

        The input is "observation" [batch, ...] float32, as the environment gives it;
        the normaliser is part of the file. Outputs are those of `onnx.export`. With
        `action_mask` that is an input too, [batch, n] bool, and what it forbids is no
        "action".

        Raises:
          ValueError: a path that can not be written to, a layer without an ONNX form, a
            mask for agents that take none.
          ImportError: onnx is not installed.
        """
        onnx.export(
            next(iter(self.modules.values())),
            path,
            self.HEAD,
            masked=self.check_masked(action_mask),
            normalizer=self.view.scale() if self.view.normalised else None,
            bounds=self.bounds,
            log_scale_range=self.LOG_SCALES,
            about={"agent": type(self).__name__},
        )

    def made_for_env(self) -> None:
        """Say that the weights are nobody's yet: each run may begin with its own."""
        super().made_for_env()
        kept = tuple(f"{name}." for name in self.optimizers)
        self._unused = {k: x for k, x in self._arrays().items() if k.startswith(kept)}

    @functools.cached_property
    def _variables(self) -> Variables:
        return Variables(self.parts)

    def _arrays(self) -> dict[str, np.ndarray]:
        return self._variables.arrays()

    def _put(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._variables.put(arrays)

    def _write(self, path: str, state: Mapping[str, np.ndarray]) -> None:
        save(path, state)

    def _read(self, path: str) -> dict[str, np.ndarray]:
        return load(path)

    def _draw_anew(self, seed: int) -> None:
        before = random.getstate()
        random.seed(seed)  # of which Keras makes the seeds of initializers
        try:
            for model in self.modules.values():
                model.set_weights(keras.models.clone_model(model).get_weights())
        finally:
            random.setstate(before)
        self._put({**self._arrays(), **self._unused})

    def _perturb(self, noise: float) -> None:
        for variable in self.learned():
            draw = self.generator.normal(variable.shape)
            variable.assign(variable * tf.cast(1 + noise * draw, variable.dtype))


def _traced(function: Any) -> Any:
    """Trace a function; what it refuses is told without the trace around it."""
    try:
        return function.get_concrete_function()
    except Exception as error:
        told = str(error).rpartition(f"{checks.OptionError.__name__}: ")
        if not told[1]:
            raise
        raise checks.OptionError(told[2].strip()) from error


def one_value(name: str, out: Any) -> Any:
    """Return values [N] of a network's [N, 1] or [N], or raise ValueError."""
    if out.shape.rank == 2 and out.shape[1] == 1:
        return out[:, 0]
    if out.shape.rank != 1:
        raise checks.OptionError(
            f"{name} must give one value of each observation, [N, 1] or [N], got the "
            f"shape {list(out.shape)}"
        )
    return out
