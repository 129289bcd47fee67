"""Where a graph grows: operators that put new neurons and edges into a region.

All keep the function, so that a policy goes on as it was and only then learns to use what
is new. Those but "split" add capacity: a linear neuron on an edge adds none.
"""

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.graph import effective_weights, is_hidden, working
from optix.neuroevo.topology.draft import Mutation, close_draft, open_draft
from optix.neuroevo.topology.mutate import (
    Fan,
    add_edge,
    add_neuron,
    duplicate_neuron,
    split_edge,
)
from optix.neuroevo.topology.patch import no_patch
from optix.trees import select

_SHARES = (0.3, 0.7)  # of an outgoing weight that a duplicate takes


def grow_neuron(graph, region, key, importance, kind="tanh") -> Mutation:
    """Add a neuron between the levels below and those above a random cut.

    It listens to half of the region's neurons below the cut, with weights of variance
    1 / number, and leads to half of those above and to all outputs, with weights of 0:
    the gradients of these are not 0. Its bias is drawn as well: without one, a neuron
    with an odd activation can do nothing for a function that is even, such as XOR.
    """
    del importance
    cut_key, in_key, out_key, weight_key, bias_key = jax.random.split(key, 5)
    structure = graph.structure
    inside = working(graph) & (structure.region == region)
    level = structure.level
    # a region behind a same-step pathway begins above level 0
    lowest = jnp.min(jnp.where(inside, level, graph.capacity))
    deepest = jnp.max(jnp.where(inside, level, 0))
    cut = jax.random.randint(
        cut_key, (), lowest + 1, jnp.maximum(deepest, lowest + 1) + 1
    )
    below = inside & (level < cut)
    above = inside & (level >= cut) & (jnp.arange(graph.capacity) >= graph.num_inputs)
    hidden = is_hidden(graph)
    sources = _half_of(below, in_key)
    targets = (above & ~hidden) | _half_of(above & hidden, out_key)
    weight = jax.random.normal(weight_key, below.shape)
    weight *= jax.lax.rsqrt(jnp.maximum(sources.sum(), 1).astype(weight.dtype))
    sign = structure.sign
    weight = jnp.where(sign == 0, weight, sign * jnp.abs(weight))

    def fan(edge, weight):
        shape = (graph.max_delay + 1, graph.capacity)
        return Fan(
            jnp.zeros(shape, bool).at[0].set(edge), jnp.zeros(shape).at[0].set(weight)
        )

    mutation = add_neuron(
        graph,
        kind,
        region=region,
        bias=jax.random.normal(bias_key),
        incoming=fan(sources, weight),
        outgoing=fan(targets, jnp.zeros_like(weight)),
    )
    return _only_if(sources.any() & targets.any(), graph, mutation)


def grow_duplicate(graph, region, key, importance) -> Mutation:
    """Duplicate the most important hidden neuron of the region.

    The two share each outgoing weight unevenly, so that they learn to differ.
    """
    hidden = is_hidden(graph) & working(graph) & (graph.structure.region == region)
    neuron = jnp.argmax(jnp.where(hidden, importance, -jnp.inf)).astype(jnp.int32)
    mutation = _only_if(hidden.any(), graph, duplicate_neuron(graph, neuron))
    return _shared_unevenly(mutation, neuron, key)


def grow_edge(graph, region, key, importance) -> Mutation:
    """Add an edge of weight 0 at a random free place of the region."""
    del importance
    structure = graph.structure
    inside = structure.alive & (structure.region == region)
    forwards = structure.level[:, None] > structure.level  # [dst, src]
    free = ~structure.edge & inside & inside[:, None]
    free &= (jnp.arange(graph.capacity) >= graph.num_inputs)[:, None]
    free = free.at[0].set(free[0] & forwards)
    draw = jnp.where(free, jax.random.uniform(key, free.shape), -1.0)
    delay, dst, src = jnp.unravel_index(jnp.argmax(draw), draw.shape)
    return _only_if(free.any(), graph, add_edge(graph, src, dst, delay))


def grow_split(graph, region, key, importance) -> Mutation:
    """Put a linear neuron on the region's greatest weight."""
    del key, importance
    inside = graph.structure.region == region
    size = jnp.abs(effective_weights(graph.weights, graph.structure, graph.dale))
    size = jnp.where(graph.structure.edge & inside[:, None], size, -1.0)
    delay, dst, src = jnp.unravel_index(jnp.argmax(size), size.shape)
    return split_edge(graph, src, dst, delay)


OPERATORS = {
    "neuron": grow_neuron,
    "duplicate": grow_duplicate,
    "edge": grow_edge,
    "split": grow_split,
}


def _half_of(candidates, key):
    """A random half of the candidates, at least one if there is any."""
    draw = jnp.where(candidates, jax.random.uniform(key, candidates.shape), -1.0)
    return candidates & ((draw > 0.5) | (draw == draw.max()))


def _only_if(condition, graph, mutation):
    """The mutation, refused where the condition does not hold."""
    return Mutation(
        graph=select(condition, mutation.graph, graph),
        ok=mutation.ok & condition,
        patch=select(condition, mutation.patch, no_patch(graph)),
        neuron=jnp.where(condition, mutation.neuron, graph.capacity),
        lost=jnp.where(condition, mutation.lost, 0.0),
    )


def _shared_unevenly(mutation, neuron, key):
    """Outgoing weights that two equal neurons have half of each, divided otherwise."""
    graph, twin = mutation.graph, mutation.neuron
    draft = open_draft(graph)
    total = draft.weight[:, :, neuron] + draft.weight[:, :, twin]
    share = jax.random.uniform(key, total.shape, total.dtype, *_SHARES)
    weight = draft.weight.at[:, :, neuron].set(share * total)
    weight = weight.at[:, :, twin].set((1 - share) * total, mode="drop")
    divided = close_draft(graph, draft._replace(weight=weight), mutation.ok)
    return mutation._replace(graph=divided.graph)
