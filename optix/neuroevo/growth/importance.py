"""How much a neuron does, and which two do the same."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix.neuroevo.graph.graph import (
    NeuronGraph,
    effective_weights,
    is_hidden,
    working,
)

_SILENT = 1e-8  # a variance below this is of a constant


class Activity(NamedTuple):
    """Moments of the neurons' outputs over a window."""

    mean: jax.Array  # [N] float32
    size: jax.Array  # [N] float32 mean absolute output
    covariance: jax.Array  # [N, N] float32


class Twins(NamedTuple):
    """The two neurons whose outputs are most alike: gone = scale * keep + offset."""

    keep: jax.Array  # [] int32 the more important one
    gone: jax.Array  # [] int32
    correlation: jax.Array  # [] float32 absolute, 0 if there are no two
    scale: jax.Array  # [] float32 by least squares
    offset: jax.Array  # [] float32


def activity(outputs: jax.Array) -> Activity:
    """Return the moments of the outputs [..., N] of all neurons."""
    rows = outputs.reshape(-1, outputs.shape[-1])
    mean = rows.mean(0)
    centred = rows - mean
    return Activity(mean, jnp.abs(rows).mean(0), centred.T @ centred / len(rows))


def importance(graph: NeuronGraph, active: Activity) -> jax.Array:
    """Return the size of each neuron's incident weights times its output's, [N].

    Edges of neurons that do nothing count nothing.
    """
    chex.assert_rank([active.mean, active.covariance], [1, 2])
    size = jnp.abs(effective_weights(graph.weights, graph.structure, graph.dale))
    works = working(graph)
    size = jnp.where(works & works[:, None], size, 0.0)
    incident = size.sum((0, 1)) + size.sum((0, 2))
    return incident * active.size


def twins(
    graph: NeuronGraph, active: Activity, importance: jax.Array, among: jax.Array
) -> Twins:
    """Return the most alike of the hidden neurons `among` [N] bool.

    Both are of one kind and sign, and no gated cells, whose states would have to agree as
    well. Neurons that never change are left to pruning.
    """
    chex.assert_rank([importance, among], 1)
    variance = jnp.diagonal(active.covariance)
    varies = variance > _SILENT
    deviation = jnp.sqrt(jnp.where(varies, variance, 1.0))
    correlation = active.covariance / (deviation * deviation[:, None])
    structure = graph.structure
    ungated = ~jnp.isin(jnp.arange(graph.capacity), structure.cell)
    may = among & is_hidden(graph) & varies & ungated
    alike = (structure.kind == structure.kind[:, None]) & (
        structure.sign == structure.sign[:, None]
    )
    pairs = may & may[:, None] & alike & ~jnp.eye(graph.capacity, dtype=bool)
    likeness = jnp.where(pairs, jnp.abs(correlation), 0.0)
    one, two = jnp.unravel_index(jnp.argmax(likeness), likeness.shape)
    first = importance[one] >= importance[two]
    keep, gone = jnp.where(first, one, two), jnp.where(first, two, one)
    spread = jnp.where(varies[keep], variance[keep], 1.0)
    scale = active.covariance[keep, gone] / spread
    return Twins(
        keep.astype(jnp.int32),
        gone.astype(jnp.int32),
        likeness[one, two],
        scale,
        active.mean[gone] - scale * active.mean[keep],
    )
