"""What actions are drawn from."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from optix import checks
from optix.math.masks import NEVER

_LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


class Categorical:
    """Discrete actions from logits [N, n]."""

    dtype = tf.int64

    def __init__(self, logits: Any):
        """Normalise the logits."""
        self.log_probs = tf.nn.log_softmax(logits)

    def mode(self) -> Any:
        """Return the likeliest actions [N]."""
        return tf.argmax(self.log_probs, -1)

    def sample(self, generator: Any) -> Any:
        """Return actions [N]: the first of exponential clocks at these rates to ring."""
        uniform = generator.uniform(tf.shape(self.log_probs), 1e-20, 1.0)
        return tf.argmax(self.log_probs - tf.math.log(-tf.math.log(uniform)), -1)

    def log_prob(self, action: Any) -> Any:
        """Return [N]."""
        return tf.gather(self.log_probs, action, axis=-1, batch_dims=1)

    def entropy(self) -> Any:
        """Return [N]."""
        return -tf.reduce_sum(tf.exp(self.log_probs) * self.log_probs, -1)


def masked(out: Any, mask: Any, what: str = "logits") -> Any:
    """Return logits or values [N, n] that no policy prefers where a mask forbids it.

    Args:
      out: [N, n].
      mask: [N, n] bool, None where everything is allowed.
      what: they are, for messages.

    Raises:
      ValueError: they are not one for each action of the mask.
    """
    if mask is None:
        return out
    if out.shape.rank != 2 or out.shape[1] != mask.shape[1]:
        raise checks.OptionError(
            f"an action mask needs {what} of the actions, one for each of its "
            f"{mask.shape[1]}, but the network gives {list(out.shape)} beside a mask of "
            f"{list(mask.shape)}"
        )
    return tf.where(mask, out, tf.cast(NEVER, out.dtype))


class Gaussian:
    """Real actions [N, size] from a mean and a log scale beside it [N, 2 size]."""

    dtype = tf.float32

    def __init__(self, parameters: Any):
        """Take the two apart."""
        self.mean, self.log_scale = tf.split(parameters, 2, -1)

    def mode(self) -> Any:
        """Return the mean."""
        return self.mean

    def sample(self, generator: Any) -> Any:
        """Return actions."""
        return self.mean + tf.exp(self.log_scale) * generator.normal(
            tf.shape(self.mean)
        )

    def log_prob(self, action: Any) -> Any:
        """Return [N], summed over the action."""
        z = (action - self.mean) * tf.exp(-self.log_scale)
        return tf.reduce_sum(-0.5 * tf.square(z) - self.log_scale - _LOG_ROOT_TAU, -1)

    def entropy(self) -> Any:
        """Return [N], summed over the action."""
        return tf.reduce_sum(self.log_scale + (0.5 + _LOG_ROOT_TAU), -1)


def squashed(mean: Any, log_scale: Any, noise: Any) -> tuple[Any, Any]:
    """Return actions in (-1, 1) [N, size] and their log density [N].

    Args:
      mean: of the Gaussian before tanh, [N, size].
      log_scale: of the same.
      noise: standard normal, [N, size].
    """
    before = mean + tf.exp(log_scale) * noise
    log_normal = -0.5 * tf.square(noise) - log_scale - _LOG_ROOT_TAU
    # log(1 - tanh(x)**2) without cancellation
    log_slope = 2.0 * (math.log(2.0) - before - tf.nn.softplus(-2.0 * before))
    return tf.tanh(before), tf.reduce_sum(log_normal - log_slope, -1)
