"""What an agent is given: Keras models and optimizers."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from optix import checks

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "Keras must run on TensorFlow for these agents, got the backend "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow in the environment "
        "before it is imported"
    )


def built(name: str, model: Any, shape: Sequence[int] | None) -> Any:
    """Return a model whose weights are there, made for inputs [N, *shape] if need be.

    Raises:
      ValueError: no model, one that does not know what it will be given, or one that is
        made for something else.
    """
    checks.record(name, model, keras.Model, "give the network itself")
    if model.built:
        taken = input_shape(model)
        if shape is not None and taken is not None and tuple(shape) != taken:
            raise checks.OptionError(
                f"{name} must take what it will be given, {_rows(shape)}, got a model of "
                f"inputs {_rows(taken)}; make it of that size"
            )
        return model
    if shape is None:
        raise checks.OptionError(
            f"{name} must be built, got a model that has no weights yet; begin it with "
            "keras.Input(shape), or give observation_shape="
        )
    model.build((None, *shape))
    return model


def _rows(shape: Sequence[int]) -> str:
    return f"[{', '.join(['N', *map(str, shape)])}]"


def input_shape(model: Any) -> tuple[int, ...] | None:
    """Return the shape of what a model takes one of, None where it does not say."""
    try:
        shape = model.input_shape
    except AttributeError:  # built by its own code
        return None
    known = isinstance(shape, tuple) and all(isinstance(n, int) for n in shape[1:])
    return shape[1:] if known else None


def copied(name: str, model: Any, shape: Sequence[int] | None) -> Any:
    """Return a model of its own with the same weights.

    Raises:
      ValueError: Keras can not make it again.
    """
    try:
        copy = built(name, keras.models.clone_model(model), shape or input_shape(model))
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise checks.OptionError(
            f"{name} must be a model that Keras can make again for a target, got "
            f"{type(model).__name__} ({error}); give it get_config, or build it of layers"
        ) from error
    copy.trainable = False
    return copy


def check_optimizer(name: str, optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ValueError unless an optimizer is new, or one of just these variables."""
    checks.record(
        name, optimizer, keras.optimizers.Optimizer, "make one by keras.optimizers"
    )
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, int | float):
        raise checks.OptionError(
            f"{name} must have a number for its learning rate, got a schedule; the loop "
            "may tune the hyperparameter learning_rate"
        )
    if not optimizer.built:
        return
    held = {id(variable) for variable in optimizer._trainable_variables}
    wanted = {id(variable) for variable in variables}
    if held != wanted:
        raise checks.OptionError(
            f"{name} must be new or of the variables of the networks it is for, got one "
            f"that lacks {len(wanted - held)} of {len(wanted)} and has "
            f"{len(held - wanted)} of others; make another"
        )
