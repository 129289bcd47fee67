"""Changes of topology under jit: no shape ever changes, so nothing is compiled again.

Here a graph grows; `prune` takes away. Every operation is `(graph, ...) -> Mutation` and
may be vmapped, over graphs of different topologies too. What cannot be done leaves the
graph as it is, with `ok` False: no free slot, no such neuron or edge, a same-step cycle, a
sign against Dale's law. Arguments are traced; a Python integer that is wrong for every
graph of the shape is an error instead.

"Keeps the function" means the outputs from rest and, with the patch applied to the carry,
in the middle of an episode.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.cells import (
    initial_gate,
    is_one_of,
    kind_name,
    kind_number,
)
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.topology.draft import (
    LINEAR,
    Mutation,
    close_draft,
    connect,
    disconnect,
    edge_exists,
    edge_place,
    first,
    free_slot,
    hidden_exists,
    integer,
    neuron_exists,
    neuron_place,
    occupy,
    open_draft,
    real,
)


class Fan(NamedTuple):
    """Edges on one side of a neuron, by delay and the neuron at the other end."""

    edge: jax.Array  # [D + 1, N] bool
    weight: jax.Array  # [D + 1, N] float32 effective, read where there is an edge


def add_neuron(
    graph: NeuronGraph,
    kind: str | int | jax.Array,
    sign: int | jax.Array = 0,
    region: int | jax.Array = 0,
    *,
    bias: float | jax.Array = 0.0,
    gate: jax.Array | None = None,
    incoming: Fan | None = None,
    outgoing: Fan | None = None,
) -> Mutation:
    """Put a neuron into the first free slot, with edges if given.

    The function is kept if the outgoing weights are 0; under softplus there is no 0, and
    they are the faintest that still learn.

    Args:
        graph: to change.
        kind: name or number, one of `graph.kinds`; a gated cell needs a free slot of the
            gates.
        sign: 1 excitatory, -1 inhibitory, 0 any.
        region: of a brain.
        bias: [] float32.
        gate: [4, 3] float32 of a gated cell, None for its kind's own.
        incoming: edges from other neurons.
        outgoing: edges to other neurons, none of them inputs.
    """
    kind = _allowed_kind(graph, kind)
    sign = integer("sign", sign, -1, 1)
    if isinstance(gate, str):
        raise checks.OptionError(f"gate must be [4, 3] numbers, got {gate!r}")
    gate = initial_gate(kind) if gate is None else jnp.asarray(gate, jnp.float32)
    if gate.shape != (4, 3):
        raise checks.OptionError(f"gate must be [4, 3] numbers, got shape {gate.shape}")
    slot = free_slot(graph)
    draft, room = occupy(
        open_draft(graph),
        slot,
        kind=kind,
        sign=sign,
        region=integer("region", region, 0, 127),
        bias=real("bias", bias),
        gate=gate,
    )
    alive = graph.structure.alive
    is_input = jnp.arange(graph.capacity) < graph.num_inputs
    ok = room & is_one_of(kind, graph.kinds) & (jnp.abs(sign) <= 1)
    if incoming is not None:
        chex.assert_shape(incoming, (graph.max_delay + 1, graph.capacity))
        ok &= jnp.all(alive | ~incoming.edge)
        weight = jnp.where(incoming.edge, incoming.weight, 0.0)
        draft = draft._replace(
            edge=draft.edge.at[:, slot, :].set(incoming.edge),
            weight=draft.weight.at[:, slot, :].set(weight),
        )
    if outgoing is not None:
        chex.assert_shape(outgoing, (graph.max_delay + 1, graph.capacity))
        ok &= jnp.all((alive & ~is_input) | ~outgoing.edge)
        weight = jnp.where(outgoing.edge, outgoing.weight, 0.0)
        draft = draft._replace(
            edge=draft.edge.at[:, :, slot].set(outgoing.edge),
            weight=draft.weight.at[:, :, slot].set(weight),
        )
    return close_draft(graph, draft, ok, neuron=slot)


def add_edge(
    graph: NeuronGraph,
    source: int | jax.Array,
    destination: int | jax.Array,
    delay: int | jax.Array,
    weight: float | jax.Array = 0.0,
) -> Mutation:
    """Add an edge.

    The function is kept if the weight is 0; under softplus there is no 0, and it is the
    faintest that still learns. Under Dale's law a weight on the wrong side counts as 0.

    Args:
        graph: to change.
        source: [] int32 neuron.
        destination: [] int32 neuron, not an input.
        delay: [] int32 steps, 0 for the same one.
        weight: [] float32 effective.
    """
    source, destination, delay = edge_place(graph, source, destination, delay)
    weight = real("weight", weight)
    ok = (
        neuron_exists(graph, source)
        & neuron_exists(graph, destination)
        & (destination >= graph.num_inputs)
        & (delay >= 0)
        & (delay <= graph.max_delay)
        & ~edge_exists(graph, source, destination, delay)
    )
    draft = connect(open_draft(graph), source, destination, delay, weight)
    return close_draft(graph, draft, ok)


def split_edge(
    graph: NeuronGraph,
    source: int | jax.Array,
    destination: int | jax.Array,
    delay: int | jax.Array,
) -> Mutation:
    """Put a linear neuron on an edge; keeps the function.

    The signal reaches it after half of the delay, rounded down, with a weight of 1. It
    belongs to the destination's region. Behind an inhibitory neuron both new weights
    turn their sign, so that Dale's law holds.

    Args:
        graph: to change.
        source: [] int32 neuron.
        destination: [] int32 neuron.
        delay: [] int32 of the edge between them.
    """
    source, destination, delay = edge_place(graph, source, destination, delay)
    slot = free_slot(graph)
    draft = open_draft(graph)
    sign = graph.structure.sign[source]
    side = jnp.where(sign == 0, 1, sign)
    weight = side * draft.weight[delay, destination, source]
    draft, room = occupy(
        disconnect(draft, source, destination, delay),
        slot,
        kind=jnp.int32(LINEAR),
        sign=jnp.abs(sign),
        region=graph.structure.region[destination],
        bias=jnp.float32(0),
        gate=jnp.zeros((4, 3)),
    )
    before = delay // 2
    draft = connect(draft, source, slot, before, side)
    draft = connect(draft, slot, destination, delay - before, weight)
    patch = draft.patch._replace(
        source=draft.patch.source.at[slot].set(source),
        shift=draft.patch.shift.at[slot].set(before),
        scale=draft.patch.scale.at[slot].set(side.astype(jnp.float32)),
    )
    ok = room & edge_exists(graph, source, destination, delay)
    return close_draft(graph, draft._replace(patch=patch), ok, neuron=slot)


def duplicate_neuron(graph: NeuronGraph, neuron: int | jax.Array) -> Mutation:
    """Make a copy of a hidden neuron; keeps the function.

    Both have all the incoming edges and the bias, and half of every outgoing weight, those
    from one to the other included. A gated cell's gates and state are copied. Equal
    neurons learn alike: whoever duplicates adds a little noise.

    Args:
        graph: to change.
        neuron: [] int32, hidden.
    """
    neuron = neuron_place("neuron", graph, neuron)
    structure = graph.structure
    slot = free_slot(graph)
    its_cell = structure.cell == neuron
    draft, room = occupy(
        open_draft(graph),
        slot,
        kind=structure.kind[neuron],
        sign=structure.sign[neuron],
        region=structure.region[neuron],
        bias=graph.weights.bias[neuron],
        gate=jnp.where(its_cell, graph.weights.gate, 0.0).sum(-1),
    )

    def copied(x):
        x = x.at[:, :, slot].set(x[:, :, neuron])
        return x.at[:, slot, :].set(x[:, neuron, :])

    new_cell = draft.cell == slot
    patch = draft.patch._replace(
        source=draft.patch.source.at[slot].set(neuron),
        cell=jnp.where(new_cell, first(its_cell), draft.patch.cell),
    )
    draft = draft._replace(
        weight=copied(draft.weight.at[:, :, neuron].multiply(0.5)),
        edge=copied(draft.edge),
        patch=patch,
    )
    ok = room & hidden_exists(graph, neuron)
    return close_draft(graph, draft, ok, neuron=slot)


def _allowed_kind(graph, kind):
    """The number of a kind that the graph's neurons may be of, [] int32."""
    if isinstance(kind, str):
        kind = kind_number(kind)
    number = integer("kind", kind, 0, 127)
    if isinstance(kind, int) and kind_name(kind) not in graph.kinds:
        raise checks.OptionError(
            f"kind must be one that the graph may have, {', '.join(graph.kinds)}, got "
            f"{kind_name(kind)!r}; graph.with_kinds({kind_name(kind)!r}) may have it"
        )
    return number
