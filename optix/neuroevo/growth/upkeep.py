"""A running graph kept lean: weak edges and idle neurons go, equal neurons are merged."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.graph import NeuronGraph, effective_weights
from optix.neuroevo.growth.importance import Activity, twins
from optix.neuroevo.topology.draft import Mutation, close_draft, open_draft
from optix.neuroevo.topology.patch import apply_patch, no_patch
from optix.neuroevo.topology.prune import merge_neurons, prune_neuron
from optix.types import PyTree


class Running(NamedTuple):
    """A graph and what its episodes under way remember."""

    graph: NeuronGraph
    memory: PyTree  # Carry [B, ...], () without memory


def change_if(
    condition: jax.Array, operation: Callable[[NeuronGraph], Mutation], running: Running
) -> tuple[Running, jax.Array]:
    """Return what runs after a mutation where `condition` [], and whether it was done."""

    def do(graph):
        mutation = operation(graph)
        # of 64 bit numbers, as a mean of outputs may be, it keeps its own types
        changed = jax.tree.map(
            lambda new, x: new.astype(x.dtype), mutation.graph, graph
        )
        patch = jax.tree.map(
            lambda new, x: new.astype(x.dtype), mutation.patch, no_patch(graph)
        )
        return changed, patch, mutation.ok

    def leave(graph):
        return graph, no_patch(graph), jnp.bool_(False)

    graph, patch, done = jax.lax.cond(condition, do, leave, running.graph)
    return Running(graph, apply_patch(running.memory, patch)), done


def weak_edges(graph: NeuronGraph, limit: jax.Array) -> jax.Array:
    """Return the edges whose effective weight is below a limit, [D + 1, N, N] bool."""
    size = jnp.abs(effective_weights(graph.weights, graph.structure, graph.dale))
    return graph.structure.edge & (size < limit)


def prune_edges(running: Running, gone: jax.Array) -> tuple[Running, jax.Array]:
    """Remove the edges `gone` [D + 1, N, N], and return how many there were, [] int32.

    The greatest weight into and out of each neuron stays: an edge goes because others do
    its work.
    """
    draft = open_draft(running.graph)
    size = jnp.where(draft.edge, jnp.abs(draft.weight), -1.0)
    greatest = (size == size.max((0, 2), keepdims=True)) | (
        size == size.max((0, 1), keepdims=True)
    )
    gone = draft.edge & gone & ~greatest
    draft = draft._replace(
        edge=draft.edge & ~gone, weight=jnp.where(gone, 0.0, draft.weight)
    )
    graph = close_draft(running.graph, draft, gone.any()).graph
    return running._replace(graph=graph), gone.sum(dtype=jnp.int32)


def prune_idle(
    running: Running, active: Activity, rank: jax.Array, idle: jax.Array
) -> tuple[Running, jax.Array]:
    """Remove the least important neuron among the `idle` [N]; its mean stays as biases."""
    victim = jnp.argmin(jnp.where(idle, rank, jnp.inf)).astype(jnp.int32)
    return change_if(
        idle.any(), lambda g: prune_neuron(g, victim, active.mean[victim]), running
    )


def merge_alike(
    running: Running,
    active: Activity,
    rank: jax.Array,
    among: jax.Array,
    limit: jax.Array,
) -> tuple[Running, jax.Array]:
    """Merge the two most alike neurons `among` [N], if they correlate above a limit."""
    pair = twins(running.graph, active, rank, among)
    return change_if(
        pair.correlation > limit,
        lambda g: merge_neurons(g, pair.keep, pair.gone, pair.scale, pair.offset),
        running,
    )
