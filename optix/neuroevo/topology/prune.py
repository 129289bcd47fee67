"""Changes of topology under jit that take away; see `mutate`."""

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.cells import activate, is_gated
from optix.neuroevo.graph.graph import NeuronGraph, is_fed, working
from optix.neuroevo.topology.draft import (
    LINEAR,
    Mutation,
    close_draft,
    disconnect,
    edge_exists,
    edge_place,
    hidden_exists,
    neuron_place,
    open_draft,
    real,
    vacate,
)


def prune_edge(
    graph: NeuronGraph,
    source: int | jax.Array,
    destination: int | jax.Array,
    delay: int | jax.Array,
) -> Mutation:
    """Remove an edge.

    Args:
        graph: to change.
        source: [] int32 neuron.
        destination: [] int32 neuron.
        delay: [] int32 of the edge between them.
    """
    source, destination, delay = edge_place(graph, source, destination, delay)
    draft = disconnect(open_draft(graph), source, destination, delay)
    return close_draft(graph, draft, edge_exists(graph, source, destination, delay))


def prune_neuron(
    graph: NeuronGraph,
    neuron: int | jax.Array,
    mean: float | jax.Array = 0.0,
) -> Mutation:
    """Remove a hidden neuron and bypass it where that is exact.

    Every path through a linear neuron without a self loop becomes an edge, its weights
    multiplied and its delays added, and the bias goes to the destinations. That keeps the
    function, but for what `lost` counts: paths longer than the longest delay and weights
    that Dale's law forbids. (A bias behind a delay is felt from an episode's first step.)

    Of another neuron its destinations keep `mean` times the weight as a bias, and all
    its outgoing weights are `lost`. Neurons that only it fed, or that only led to it,
    stay: `prune_stranded` takes them.

    Args:
        graph: to change.
        neuron: [] int32, hidden.
        mean: [] float32 of its output, if known.
    """
    neuron, mean = neuron_place("neuron", graph, neuron), real("mean", mean)
    structure = graph.structure
    draft = open_draft(graph)
    others = jnp.arange(graph.capacity) != neuron
    fan_in = jnp.where(others, draft.weight[:, neuron, :], 0.0)  # [D + 1, N]
    fan_out = jnp.where(others, draft.weight[:, :, neuron], 0.0)  # [D + 1, N]
    bypassed = (structure.kind[neuron] == LINEAR) & ~jnp.any(
        structure.edge[:, neuron, neuron]
    )
    path, lost = _paths(fan_in, fan_out)
    total = draft.weight + jnp.where(bypassed, path, 0.0)
    new = (total != 0) & (total * structure.sign >= 0) & (path != 0) & bypassed
    bias = jnp.where(bypassed, draft.bias[neuron], mean)
    draft = draft._replace(
        weight=total,
        edge=draft.edge | new,
        bias=draft.bias + fan_out.sum(0) * bias,
    )
    return close_draft(
        graph,
        vacate(draft, ~others),
        hidden_exists(graph, neuron),
        lost=jnp.where(bypassed, lost, jnp.abs(fan_out).sum()),
    )


def merge_neurons(
    graph: NeuronGraph,
    keep: int | jax.Array,
    gone: int | jax.Array,
    scale: float | jax.Array = 1.0,
    offset: float | jax.Array = 0.0,
) -> Mutation:
    """Let one hidden neuron do the work of two; keeps the function as far as their
    outputs agree: `gone = scale * keep + offset`.

    `keep` takes over all outgoing edges, `scale` folded into the weights and `offset` into
    the destinations' biases; the incoming edges of `gone` are dropped. Refused where the
    kinds differ, where `scale` is 0, or not 1 for gated cells, where Dale's law forbids a
    weight that results and where a same-step cycle would close.

    Args:
        graph: to change.
        keep: [] int32 hidden neuron.
        gone: [] int32 hidden neuron.
        scale: [] float32.
        offset: [] float32.
    """
    keep, gone = neuron_place("keep", graph, keep), neuron_place("gone", graph, gone)
    scale, offset = real("scale", scale), real("offset", offset)
    structure = graph.structure
    draft = open_draft(graph)
    fan_out = draft.weight[:, :, gone]  # [D + 1, N]
    edge = draft.edge[:, :, keep] | draft.edge[:, :, gone]
    weight = draft.weight[:, :, keep] + scale * fan_out
    draft = draft._replace(
        weight=draft.weight.at[:, :, keep].set(weight),
        edge=draft.edge.at[:, :, keep].set(edge),
        bias=draft.bias + offset * fan_out.sum(0),
    )
    draft = vacate(draft, jnp.arange(graph.capacity) == gone)
    side = draft.weight[:, :, keep] * structure.sign[keep]
    lawful = side > 0 if graph.dale == "softplus" else side >= 0
    kind = structure.kind[keep]
    ok = (
        hidden_exists(graph, keep)
        & hidden_exists(graph, gone)
        & (keep != gone)
        & (kind == structure.kind[gone])
        & jnp.where(is_gated(kind), scale == 1, scale != 0)
        & ((structure.sign[keep] == 0) | jnp.all(lawful | ~draft.edge[:, :, keep]))
    )
    return close_draft(graph, draft, ok)


def prune_stranded(graph: NeuronGraph, mean: jax.Array | None = None) -> Mutation:
    """Remove all hidden neurons that do not work, see `working`; keeps the function.

    What constant neurons say goes to their destinations' biases. (Behind a delay it is
    felt from an episode's first step.) Of gated cells that nothing feeds `mean` stays,
    and their outgoing weights are `lost`.

    Args:
        graph: to change; `ok` is False where there is nothing to remove.
        mean: [N] float32 of the neurons' outputs, if known.
    """
    structure = graph.structure
    draft = open_draft(graph)
    gone = structure.alive & ~working(graph)
    constant = structure.alive & ~is_fed(graph)
    gated = is_gated(structure.kind)
    known = jnp.zeros(graph.capacity) if mean is None else jnp.asarray(mean)
    weight = draft.weight.sum(0)  # [dst, src] a constant is the same at any delay

    def settle(state):
        count, _, value = state
        total = draft.bias + jnp.matmul(weight, value, precision="highest")
        new = jnp.where(gated, known, activate(structure.kind, total, graph.kinds))
        return count + 1, value, jnp.where(constant, new, 0.0)

    def unsettled(state):
        count, old, value = state
        return (count <= graph.capacity) & jnp.any(old != value)

    start = jnp.where(constant & gated, known, 0.0)
    first = settle((0, start, start))
    value = jnp.where(gone, jax.lax.while_loop(unsettled, settle, first)[2], 0.0)
    forgotten = jnp.abs(jnp.where(gone & constant & gated, draft.weight, 0.0))
    forgotten = jnp.where(gone[:, None], 0.0, forgotten)
    draft = draft._replace(
        bias=draft.bias + jnp.matmul(weight, value, precision="highest")
    )
    return close_draft(graph, vacate(draft, gone), gone.any(), lost=forgotten.sum())


def _paths(fan_in, fan_out):
    """The weights of all paths by their delay, destination and source, and what is lost
    of those that are longer than the longest delay.
    """
    delays = jnp.arange(fan_in.shape[0])
    first_part = delays[:, None] - delays  # by the whole delay and the second part
    fits = (first_part >= 0)[:, :, None]
    shifted = jnp.where(fits, fan_in[first_part], 0.0)  # [D + 1, D + 1, N]
    size_in, size_out = jnp.abs(fan_in).sum(1), jnp.abs(fan_out).sum(1)  # [D + 1]
    too_long = delays[:, None] + delays > delays[-1]
    lost = jnp.where(too_long, size_in[:, None] * size_out, 0.0).sum()
    path = jnp.einsum("kds,dz->kzs", shifted, fan_out, precision="highest")
    return path, lost
