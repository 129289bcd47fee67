"""A running graph kept lean: weak edges and idle neurons go, equal neurons are merged."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.graph import (
    NeuronGraph,
    Weights,
    effective_weights,
    is_hidden,
    num_neurons,
    working,
)
from optix.neuroevo.growth.importance import Activity, twins
from optix.neuroevo.topology.draft import Mutation, close_draft, open_draft
from optix.neuroevo.topology.patch import apply_patch, no_patch
from optix.neuroevo.topology.prune import (
    merge_neurons,
    prune_neuron,
    prune_stranded,
)
from optix.trees import select
from optix.types import PyTree


class Running(NamedTuple):
    """A graph and what its episodes under way remember."""

    graph: NeuronGraph
    memory: PyTree  # Carry [B, ...], () without memory


Kept = Callable[[NeuronGraph, NeuronGraph], jax.Array]  # (before, after) -> may it be


def hidden_kept(
    least: int, num_regions: int, before: NeuronGraph, after: NeuronGraph
) -> jax.Array:
    """Return whether every region has the least number of hidden neurons left, [] bool.

    Only those that work count: what is removed may have been what others lived by.
    """

    def counts(graph):
        hidden = is_hidden(graph) & working(graph)
        regions = jnp.arange(num_regions)[:, None]
        return (hidden & (graph.structure.region == regions)).sum(1)

    return (counts(after) >= jnp.minimum(counts(before), least)).all()


def change_if(
    condition: jax.Array,
    operation: Callable[[NeuronGraph], Mutation],
    running: Running,
    kept: Kept = lambda before, after: jnp.bool_(True),
) -> tuple[Running, jax.Array]:
    """Return what runs after a mutation where `condition` [], and whether it was done."""

    def do(graph):
        mutation = operation(graph)
        ok = mutation.ok & kept(graph, mutation.graph)
        none = graph, no_patch(graph)
        # of 64 bit numbers, as a mean of outputs may be, it keeps its own types
        changed = jax.tree.map(
            lambda new, old: new.astype(old.dtype),
            (mutation.graph, mutation.patch),
            none,
        )
        return *select(ok, changed, none), ok

    def leave(graph):
        return graph, no_patch(graph), jnp.bool_(False)

    graph, patch, done = jax.lax.cond(condition, do, leave, running.graph)
    return Running(graph, apply_patch(running.memory, patch)), done


def weak_edges(graph: NeuronGraph, limit: jax.Array) -> jax.Array:
    """Return the edges whose effective weight is below a limit, [D + 1, N, N] bool."""
    size = jnp.abs(effective_weights(graph.weights, graph.structure, graph.dale))
    return graph.structure.edge & (size < limit)


def prune_edges(
    running: Running, gone: jax.Array, kept: Kept
) -> tuple[Running, jax.Array]:
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
    running, done = change_if(
        gone.any(),
        lambda graph: close_draft(graph, draft, jnp.bool_(True)),
        running,
        kept,
    )
    return running, jnp.where(done, gone.sum(dtype=jnp.int32), 0)


def prune_idle(
    running: Running, active: Activity, rank: jax.Array, idle: jax.Array, kept: Kept
) -> tuple[Running, jax.Array]:
    """Remove the least important neuron among the `idle` [N]; its mean stays as biases."""
    victim = jnp.argmin(jnp.where(idle, rank, jnp.inf)).astype(jnp.int32)
    return change_if(
        idle.any(),
        lambda g: prune_neuron(g, victim, active.mean[victim]),
        running,
        kept,
    )


def merge_alike(
    running: Running,
    active: Activity,
    rank: jax.Array,
    among: jax.Array,
    limit: jax.Array,
    kept: Kept,
) -> tuple[Running, jax.Array]:
    """Merge the two most alike neurons `among` [N], if they correlate above a limit."""
    pair = twins(running.graph, active, rank, among)
    return change_if(
        pair.correlation > limit,
        lambda g: merge_neurons(g, pair.keep, pair.gone, pair.scale, pair.offset),
        running,
        kept,
    )


def free_stranded(running: Running, active: Activity) -> tuple[Running, jax.Array]:
    """Remove neurons that do nothing; return how many there were, [] int32."""
    before = num_neurons(running.graph.structure)
    running, _ = change_if(
        jnp.bool_(True), lambda g: prune_stranded(g, active.mean), running
    )
    return running, before - num_neurons(running.graph.structure)


def followed(extras: PyTree, before: NeuronGraph, after: NeuronGraph) -> PyTree:
    """Return extras whose target network has taken over the entries that changed."""
    target = getattr(extras, "target", None)
    if not isinstance(target, Weights):
        return extras
    versions = before.structure.version, after.structure.version
    changed = jax.tree.map(lambda old, new: old != new, *versions)
    target = jax.tree.map(jnp.where, changed, after.weights, target)
    return extras._replace(target=target)


def memory_of(rollout: PyTree) -> PyTree:
    """Return the carry of a learner's rollout."""
    return getattr(rollout, "envs", rollout).carry


def with_memory(rollout: PyTree, carry: PyTree) -> PyTree:
    """Return the rollout with another carry."""
    if hasattr(rollout, "envs"):
        return rollout._replace(envs=rollout.envs._replace(carry=carry))
    return rollout._replace(carry=carry)
