"""Noisy networks (https://arxiv.org/abs/1706.10295): exploration by noise in weights.

The noise is put on the parameters, so any network becomes noisy: every matrix called
"kernel" and the "bias" beside it get factorised Gaussian noise of learned deviation.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix.math.stored import stored
from optix.types import PyTree


class Noisy(NamedTuple):
    """Parameters with noise."""

    mean: PyTree  # as the network takes them
    deviation: dict[str, dict[str, jax.Array]]  # {layer: {"kernel", "bias"}}


def add_noise(params: PyTree, scale: float = 0.5) -> Noisy:
    """Give every dense layer a deviation of `scale / sqrt(inputs)`.

    Raises:
      ValueError: there is no dense layer.

    >>> layer = {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}
    >>> noisy = add_noise({"head": layer})
    >>> float(noisy.deviation["['head']"]["kernel"][0, 0])
    0.25
    """
    deviation = {
        name: {
            part: jnp.full_like(layer[part], scale / jnp.sqrt(layer["kernel"].shape[0]))
            for part in ("kernel", "bias")
            if part in layer
        }
        for name, layer in _layers(params).items()
    }
    if not deviation:
        raise ValueError(
            "a noisy network must have a dense layer: a matrix named 'kernel', got "
            f"{jax.tree.map(jnp.shape, params)}"
        )
    return Noisy(params, deviation)


def perturb(params: Noisy, key: jax.Array) -> PyTree:
    """Return the network's parameters under one draw of the noise."""
    layers = _layers(params.mean)
    shapes = [layer["kernel"].shape for layer in layers.values()]
    sizes = [sum(shape) for shape in shapes]
    parts = jnp.split(_factors(key, sum(sizes)), np.cumsum(sizes)[:-1])
    perturbed = {
        name: _perturbed_layer(layer, params.deviation[name], part)
        for (name, layer), part in zip(layers.items(), parts, strict=True)
    }
    return jax.tree_util.tree_map_with_path(
        lambda path, node: perturbed.get(jax.tree_util.keystr(path), node),
        params.mean,
        is_leaf=_is_layer,
    )


@functools.partial(stored, static_argnames=("size",))
def _factors(key, size):
    """Draws [size] of sign(x) sqrt(|x|)."""
    draws = jax.random.normal(key, (size,))
    return jnp.sign(draws) * jnp.sqrt(jnp.abs(draws))


def _perturbed_layer(layer, deviation, noise):
    inputs = layer["kernel"].shape[0]
    noise = {
        "kernel": noise[:inputs, None] * noise[inputs:],
        "bias": noise[inputs:],
    }
    moved = {part: layer[part] + deviation[part] * noise[part] for part in deviation}
    return {**layer, **moved}


def _layers(params: PyTree) -> dict[str, dict]:
    """The dense layers by their path."""
    nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_layer)
    return {jax.tree_util.keystr(path): node for path, node in nodes if _is_layer(node)}


def _is_layer(node) -> bool:
    return isinstance(node, dict) and getattr(node.get("kernel"), "ndim", 0) == 2
