"""Noisy networks (https://arxiv.org/abs/1706.10295): exploration by noise in weights.

The noise is put on the parameters, so any network becomes noisy: every matrix called
"kernel" and the "bias" beside it get factorised Gaussian noise of learned deviation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from optix import checks
from optix.networks.dense import Dense
from optix.types import PyTree
from optix.xla.kept import normal, product


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
        raise checks.OptionError(
            "a noisy network must have a dense layer: a matrix named 'kernel', got "
            f"{jax.tree.map(jnp.shape, params)}"
        )
    return Noisy(params, deviation)


def perturb(params: Noisy, key: jax.Array) -> PyTree:
    """Return the network's parameters under one draw of the noise."""
    return _moved(params, _draw(params, key))


def apply_with_noise(
    apply: Callable[[PyTree, jax.Array], jax.Array],
    params: Noisy,
    key: jax.Array,
    obs: jax.Array,
    *,
    dense_rows: bool = False,
) -> jax.Array:
    """Return `apply(parameters, obs)`, every row of obs [B, ...] under its own draw.

    The draws are those of `perturb` with `jax.random.split(key, B)`.

    Args:
      apply: `(params, obs [B, ...]) -> [B, ...]`.
      params: with noise.
      key: of all rows.
      obs: [B, ...].
      dense_rows: whether `apply` uses every matrix of its parameters as it is, once, in
        an `optix.networks.dense.Dense` layer on rows [B, inputs]. A row's perturbed
        matrix is then never built: x (W + D * outer(f, g)) = x W + ((x * f) D) * g, and
        its bias alike.

    Raises:
      ValueError: `dense_rows`, but a noisy layer that is no `Dense` layer.
    """
    noise = jax.vmap(_draw, in_axes=(None, 0))(params, jax.random.split(key, len(obs)))
    if not dense_rows:
        return jax.vmap(lambda noise, row: apply(_moved(params, noise), row[None])[0])(
            noise, obs
        )
    met = set()

    def with_noise(layer, args, kwargs, context):
        out = layer(*args, **kwargs)
        if type(context.module) is not Dense or context.method_name != "__call__":
            return out
        name = "".join(f"[{part!r}]" for part in context.module.path)
        met.add(name)
        (rows,) = (*args, *kwargs.values())
        inputs, outputs = noise[name]
        deviation = params.deviation[name]
        out += product(rows * inputs, deviation["kernel"]) * outputs
        return out + deviation["bias"] * outputs

    with linen.intercept_methods(with_noise):
        out = apply(params.mean, obs)
    if met != noise.keys():
        raise checks.OptionError(
            "dense_rows must be False where a noisy layer is no Dense layer, got True "
            f"with {sorted(noise.keys() - met)}"
        )
    return out


def _draw(params, key):
    """The noise of each layer, sign(x) sqrt(|x|): {layer: (f [inputs], g [outputs])}."""
    layers = _layers(params.mean)
    sizes = [size for layer in layers.values() for size in layer["kernel"].shape]
    draws = normal(key, (sum(sizes),))
    factors = jnp.sign(draws) * jnp.sqrt(jnp.abs(draws))
    factors = jnp.split(factors, np.cumsum(sizes)[:-1])
    return dict(zip(layers, zip(factors[::2], factors[1::2], strict=True), strict=True))


def _moved(params, noise):
    """The parameters under a draw of the noise."""

    def moved(path, node):
        name = jax.tree_util.keystr(path)
        if name not in noise:
            return node
        inputs, outputs = noise[name]
        factors = {"kernel": inputs[:, None] * outputs, "bias": outputs}
        deviation = params.deviation[name]
        return node | {
            part: node[part] + deviation[part] * factors[part] for part in deviation
        }

    return jax.tree_util.tree_map_with_path(moved, params.mean, is_leaf=_is_layer)


def _layers(params: PyTree) -> dict[str, dict]:
    """The dense layers by their path."""
    nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_layer)
    return {jax.tree_util.keystr(path): node for path, node in nodes if _is_layer(node)}


def _is_layer(node) -> bool:
    return isinstance(node, dict) and getattr(node.get("kernel"), "ndim", 0) == 2
