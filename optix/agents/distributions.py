"""What a policy's outputs say of its actions, by the space of these.

They are distrax's: `sample_and_log_prob`, `log_prob`, `entropy` and `mode`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix.math.masks import NEVER, parts
from optix.types import ActionSpace, Discrete, MultiDiscrete


def usual(space: ActionSpace) -> tuple[Callable[[Any], Any], tuple[str, ...]]:
    """Return the distribution of the outputs of a network, and what these are called."""
    if isinstance(space, MultiDiscrete):
        return categoricals(space.sizes), ("logits",)
    if isinstance(space, Discrete):
        return categorical, ("logits",)
    return gaussian, ("mean", "log_scale")


def categorical(logits: jax.Array):
    """Return the distribution of discrete actions."""
    import distrax  # it imports tensorflow_probability

    return distrax.Categorical(logits=logits)


def categoricals(sizes: tuple[int, ...]) -> Callable[[jax.Array], Any]:
    """Return `(logits [..., sum(sizes)]) -> distribution of actions [..., len(sizes)]`.

    The parts of an action are independent of each other: its log probability and its
    entropy are their sums, its mode holds the mode of each.

    >>> actions = categoricals((2, 3))(jnp.array([0.0, 1.0, 5.0, 0.0, 0.0]))
    >>> actions.mode().tolist(), actions.log_prob(jnp.array([1, 0])).shape
    ([1, 0], ())
    """
    most = max(sizes)

    def distribution(logits: jax.Array):
        import distrax

        def padded(part):
            none = [(0, 0)] * (part.ndim - 1)
            missing = most - part.shape[-1]
            return jnp.pad(part, [*none, (0, missing)], constant_values=NEVER)

        # one distribution of all parts: as many as there are would be compiled one by one
        rows = jnp.stack([padded(part) for part in parts(logits, sizes)], -2)
        return distrax.Independent(
            distrax.Categorical(logits=rows), reinterpreted_batch_ndims=1
        )

    return distribution


def gaussian(parameters: tuple[jax.Array, jax.Array]):
    """Return the distribution of continuous actions from (mean, log scale)."""
    import distrax

    mean, log_scale = parameters
    return distrax.MultivariateNormalDiag(mean, jnp.exp(log_scale))
