"""Networks of Keras layers; `for_env` makes its own of them."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from optix import checks
from optix.host.fitting import image
from optix.networks.mlp import ACTIVATIONS, checked_hidden

_registered = keras.saving.register_keras_serializable(package="optix")


@_registered
class OneHot(keras.layers.Layer):
    """Observations that number a state, [N] or [N, 1], as vectors [N, n]."""

    def __init__(self, n: int, start: int = 0, **options: Any):
        """Take the number of states, and the first."""
        super().__init__(**options)
        self.n, self.start = n, start

    def call(self, obs: Any) -> Any:
        """Return [N, n]."""
        return tf.one_hot(tf.cast(tf.reshape(obs, [-1]), tf.int32) - self.start, self.n)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (N, n)."""
        return input_shape[0], self.n

    def get_config(self) -> dict[str, Any]:
        """Return what it was made with."""
        return {**super().get_config(), "n": self.n, "start": self.start}


@_registered
class Part(keras.layers.Layer):
    """Some entries of rows [N, *], in a shape of their own."""

    def __init__(self, first: int, shape: Sequence[int], **options: Any):
        """Take the place of the first entry, and the shape."""
        super().__init__(**options)
        self.first, self.shape = first, tuple(shape)

    def call(self, row: Any) -> Any:
        """Return [N, *shape]."""
        part = row[:, self.first : self.first + math.prod(self.shape)]
        return tf.reshape(part, [-1, *self.shape])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (N, *shape)."""
        return input_shape[0], *self.shape

    def get_config(self) -> dict[str, Any]:
        """Return what it was made with."""
        return {**super().get_config(), "first": self.first, "shape": self.shape}


@_registered
class LogScale(keras.layers.Layer):
    """A mean, and beside it a log scale that is the same everywhere: [N, 2 size]."""

    def build(self, input_shape: Any) -> None:
        """Begin at a scale of one."""
        self.log_scale = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", name="log_scale"
        )

    def call(self, mean: Any) -> Any:
        """Return the parameters of a `Gaussian`."""
        scale = tf.zeros_like(mean) + tf.convert_to_tensor(self.log_scale)
        return tf.concat([mean, scale], -1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (N, 2 size)."""
        return input_shape[0], 2 * input_shape[-1]


@_registered
class Duel(keras.layers.Layer):
    """Values of actions [N, n], of a state's value [N, 1] and each one's advantage [N, n].

    https://arxiv.org/abs/1511.06581.
    """

    def call(self, value: Any, advantage: Any) -> Any:
        """Return [N, n]."""
        return value + advantage - tf.reduce_mean(advantage, -1, keepdims=True)

    def compute_output_shape(self, value_shape: Any, advantage_shape: Any) -> Any:
        """Return (N, n)."""
        return advantage_shape


def dense(width: int, activation: str | None = None, scale: float = 1.0) -> Any:
    """Return an affine layer: LeCun normal weights times `scale`, zero bias."""
    normal = keras.initializers.VarianceScaling(
        scale**2, mode="fan_in", distribution="truncated_normal"
    )
    return keras.layers.Dense(width, activation, kernel_initializer=normal)


def hidden_layers(x: Any, hidden: Sequence[int], activation: str) -> Any:
    """Return what hidden layers make of a tensor of Keras.

    Raises:
      ValueError: widths below one, an unknown activation.
    """
    checks.known_names("activation", [activation], ACTIVATIONS)
    for width in checked_hidden(hidden):
        x = dense(width, activation)(x)
    return x


def encoded(x: Any, space: Any) -> Any:
    """Return vectors [N, features] of observations [N, *shape] of a space of Gymnasium."""
    if hasattr(space, "n"):
        return OneHot(int(space.n), int(getattr(space, "start", 0)))(x)
    shape = space.shape
    if len(shape) == 3:
        seen = image(shape)
        if seen.channels_first:
            x = keras.layers.Permute((2, 3, 1))(x)
        for filters, size, stride in seen.layers:
            x = keras.layers.Conv2D(filters, size, stride, activation="relu")(x)
        return keras.layers.Flatten()(x)
    return x if len(shape) == 1 else keras.layers.Reshape((math.prod(shape),))(x)


def network(
    space: Any, hidden: Sequence[int], head: Callable[[Any], Any], activation: str
) -> Any:
    """Return a model of encoder, hidden layers and a head.

    Args:
      space: of the observations, of Gymnasium.
      hidden: widths.
      head: `(features [N, width]) -> outputs`, tensors of Keras.
      activation: one of tanh, relu, silu, gelu, elu.

    >>> import gymnasium
    >>> space = gymnasium.spaces.Box(-1, 1, (4,))
    >>> network(space, (8,), dense(2), "tanh").output_shape
    (None, 2)
    """
    inputs = keras.Input(tuple(space.shape))
    x = hidden_layers(encoded(inputs, space), hidden, activation)
    return keras.Model(inputs, head(x))


def critic(space: Any, size: int, hidden: Sequence[int], activation: str) -> Any:
    """Return a critic of rows of observation and action [N, *] to values [N, 1].

    Args:
      space: of the observations, of Gymnasium.
      size: number of actions.
      hidden: widths.
      activation: one of tanh, relu, silu, gelu, elu.
    """
    entries = math.prod(space.shape)
    inputs = keras.Input((entries + size,))
    x = inputs
    if hasattr(space, "n") or len(space.shape) != 1:
        obs = encoded(Part(0, space.shape)(inputs), space)
        action = Part(entries, (size,))(inputs)
        x = keras.layers.Concatenate()([obs, action])
    return keras.Model(inputs, dense(1)(hidden_layers(x, hidden, activation)))
