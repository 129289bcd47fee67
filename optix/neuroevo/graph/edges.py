"""A graph as plain lists of neurons and edges, and back; also those of networkx.

Attributes for networkx are plain numbers and texts, which GraphML, GML and GEXF can hold.
What is said of the whole graph stands with the graph and with its first neuron, since
GEXF keeps no attributes of graphs.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.neuroevo.graph.cells import (
    CELLS,
    KINDS,
    in_order,
    kind_name,
    kind_number,
)
from optix.neuroevo.graph.graph import (
    DALE_MODES,
    NeuronGraph,
    Structure,
    Weights,
    acyclic,
    effective_weights,
    levels,
    raw_weight,
)
from optix.neuroevo.graph.records import (
    CELL_TYPES,
    ROLES,
    Edge,
    Neuron,
    checked_edge,
    checked_neuron,
    records,
)

_WHOLE = ("capacity", "max_delay", "max_cells", "dale")  # options of `from_edges`
_ADDED = (
    "id",
    "label",
    "key",
    "networkx_key",
    "source",
    "target",
)  # by writers, readers


def from_edges(
    neurons: Sequence[Neuron],
    edges: Iterable[Edge],
    *,
    dale: str = "clamp",
    capacity: int | None = None,
    max_delay: int | None = None,
    max_cells: int | None = None,
) -> NeuronGraph:
    """Return the graph of a list of neurons and a list of edges.

    Args:
      neurons: in any order; `slots` says where each of them goes.
      edges: between neurons by their places in that list; no two alike.
      dale: "clamp" or "softplus", see `NeuronGraph`.
      capacity: slots for neurons; None makes just enough.
      max_delay: the longest delay to make room for; None takes the longest there is.
      max_cells: slots for gated cells; None makes just enough.

    Raises:
      ValueError: no inputs or no outputs, unknown names, an edge that is there twice,
        that leads into an input, whose neuron is unknown or that closes a same-step
        cycle, a weight against its neuron's cell type, more than there is room for.

    >>> neurons = [Neuron("input"), Neuron("hidden", "relu"), Neuron("output", "linear")]
    >>> graph = from_edges(neurons, [Edge(0, 1, 0.5), Edge(1, 2, 2.0, delay=3)])
    >>> graph.capacity, graph.max_delay, graph.recurrent
    (3, 3, True)
    """
    neurons = [checked_neuron(Neuron(*n)) for n in records("neurons", neurons, Neuron)]
    kinds = in_order([*KINDS, *(neuron.kind for neuron in neurons)])
    checks.known_names("dale mode", [dale], DALE_MODES)
    seen = set()
    edges = records("edges", edges, Edge)
    edges = [checked_edge(Edge(*edge), neurons, seen) for edge in edges]
    roles = [neuron.role for neuron in neurons]
    for role in ("input", "output"):
        if role not in roles:
            raise checks.OptionError(
                f"a graph must have at least one {role}, got {roles}"
            )
    gated = [place for place, neuron in enumerate(neurons) if neuron.kind in CELLS]
    longest = max((edge.delay for edge in edges), default=0)
    size = _room("capacity", capacity, len(neurons))
    deepest = _room("max_delay", max_delay, longest)
    cells = _room("max_cells", max_cells, len(gated))
    slot = slots(neurons)

    def column(values, dtype):
        array = np.zeros(size, dtype)
        array[slot] = list(values)
        return array

    value = np.zeros((deepest + 1, size, size), np.float32)
    mask = np.zeros(value.shape, bool)
    for edge in edges:
        at = edge.delay, slot[edge.dst], slot[edge.src]
        value[at], mask[at] = edge.weight, True
    gate = np.zeros((4, 3, cells), np.float32)
    cell = np.full(cells, size, np.int32)
    for place, number in enumerate(gated):
        cell[place], given = slot[number], neurons[number].gate
        gate[..., place] = CELLS[neurons[number].kind].gate if given is None else given
    sign = column((CELL_TYPES[neuron.cell_type] for neuron in neurons), np.int8)
    num_inputs, num_outputs = roles.count("input"), roles.count("output")
    edge, level = _prepare(value, mask, sign, dale, num_inputs)
    weights = Weights(
        edge=edge,
        bias=jnp.asarray(column((neuron.bias for neuron in neurons), np.float32)),
        gate=jnp.asarray(gate),
    )
    structure = Structure(
        edge=jnp.asarray(mask),
        alive=jnp.asarray(column((True for _ in neurons), bool)),
        kind=jnp.asarray(column((kind_number(n.kind) for n in neurons), np.int8)),
        sign=jnp.asarray(sign),
        region=jnp.asarray(column((neuron.region for neuron in neurons), np.int8)),
        level=level,
        cell=jnp.asarray(cell),
        output=jnp.arange(num_inputs, num_inputs + num_outputs, dtype=jnp.int32),
        version=jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.uint8), weights),
    )
    if not acyclic(level, num_inputs):
        raise checks.OptionError(
            "edges of delay 0 must form no cycle, but some do; give one edge of each "
            "cycle a delay of 1 or more"
        )
    return NeuronGraph(weights, structure, num_inputs, num_outputs, dale, kinds)


def slots(neurons: Sequence[Neuron]) -> list[int]:
    """Return the slot of each neuron of a list: inputs first, then outputs, then hidden.

    >>> slots([Neuron("hidden"), Neuron("output"), Neuron("input")])
    [2, 1, 0]
    """
    order = sorted(range(len(neurons)), key=lambda n: ROLES.index(neurons[n].role))
    slot = [0] * len(neurons)
    for place, number in enumerate(order):
        slot[number] = place
    return slot


@partial(jax.jit, static_argnums=(3, 4))
def _prepare(value, mask, sign, dale, num_inputs):
    """Stored weights and levels."""
    edge = jnp.where(mask, raw_weight(value, sign, dale), 0.0)
    return edge, levels(mask[0], num_inputs)


def _room(name, given, needed):
    if given is None:
        return needed
    if checks.positive_int(name, given, 0) < needed:
        raise checks.OptionError(f"{name} must be at least {needed}, got {given}")
    return given


def to_edges(graph: NeuronGraph) -> tuple[list[Neuron], list[Edge]]:
    """Return the living neurons in the order of their slots, and the edges.

    Weights are effective ones; edges name neurons by their places in the list.

    >>> neurons = [Neuron("input", "linear"), Neuron("output", "tanh")]
    >>> to_edges(from_edges(neurons, [Edge(0, 1, 0.5)], capacity=8))[1]
    [Edge(src=0, dst=1, weight=0.5, delay=0)]
    """
    structure, weights = jax.device_get((graph.structure, graph.weights))
    effective = np.asarray(
        effective_weights(graph.weights, graph.structure, graph.dale)
    )
    place_of_cell = {int(slot): place for place, slot in enumerate(structure.cell)}
    cell_types = {sign: name for name, sign in CELL_TYPES.items()}
    living = np.flatnonzero(structure.alive)
    place = {int(slot): number for number, slot in enumerate(living)}

    def neuron(slot):
        role = "input" if slot < graph.num_inputs else "output"
        gate = None
        if slot in place_of_cell:
            gate = weights.gate[..., place_of_cell[slot]].tolist()
        return Neuron(
            role=role if slot < graph.first_hidden else "hidden",
            kind=kind_name(int(structure.kind[slot])),
            cell_type=cell_types[int(structure.sign[slot])],
            bias=float(weights.bias[slot]),
            gate=gate,
            region=int(structure.region[slot]),
        )

    edges = [
        Edge(place[src], place[dst], float(effective[delay, dst, src]), delay)
        for delay, dst, src in np.argwhere(structure.edge).tolist()
    ]
    return [neuron(slot) for slot in living.tolist()], edges


def to_networkx(graph: NeuronGraph) -> Any:
    """Return a `networkx.MultiDiGraph`: neurons as nodes, delays as keys of the edges.

    `networkx.write_graphml`, `write_gml` and `write_gexf` write it, and `from_networkx`
    takes what their readers give. Neurons are in the order of their slots, without gaps.

    Raises:
      ValueError: something else than a graph.
      ImportError: networkx is not installed.
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    import networkx

    neurons, edges = to_edges(graph)
    whole = {name: getattr(graph, name) for name in _WHOLE}
    drawn = networkx.MultiDiGraph(**whole)
    for number, neuron in enumerate(neurons):
        fields = neuron._asdict()
        gate = fields.pop("gate")
        if gate is not None:
            fields["gate"] = json.dumps(gate)
        drawn.add_node(number, **fields, **({} if number else whole))
    for edge in edges:
        drawn.add_edge(
            edge.src, edge.dst, key=edge.delay, weight=edge.weight, delay=edge.delay
        )
    return drawn


def from_networkx(drawn: Any, **options: Any) -> NeuronGraph:
    """Return the graph of a networkx directed graph.

    Args:
      drawn: nodes with a `role` and, if not usual, the other fields of `Neuron`; edges
        with a `weight` and a `delay`, 0 unless given. Numbers may be texts, and `gate`
        the text of a list.
      **options: of `from_edges`; they go before those that the graph, or its first node,
        has as attributes.

    Raises:
      ValueError: as `from_edges`, a node without a role, an unknown attribute, a value
        that is no number where one belongs, an undirected graph.

    >>> from optix.neuroevo.graph.build import layered
    >>> graph = layered(2, (3,), 1, capacity=16)
    >>> from_networkx(to_networkx(graph)).capacity
    16
    """
    if not hasattr(drawn, "is_directed"):
        raise checks.OptionError(f"drawn must be a networkx graph, got {drawn!r}")
    if not drawn.is_directed():
        raise checks.OptionError(
            "the networkx graph must be directed, got an undirected one"
        )
    place = {name: number for number, name in enumerate(drawn)}
    whole, neurons = {}, []
    for name in place:
        fields = drawn.nodes[name]
        known = (*Neuron._fields, *_WHOLE, *_ADDED)
        checks.known_names(f"attribute of node {name!r}", fields, known)
        if "role" not in fields:
            raise checks.OptionError(
                f"node {name!r} must have a role: input, output or hidden"
            )
        neurons.append(_neuron(f"of node {name!r}", fields))
        whole |= _options(fields)
    edges = []
    for src, dst, fields in drawn.edges(data=True):
        what = f"of edge {src!r} to {dst!r}"
        checks.known_names(f"attribute {what}", fields, (*Edge._fields[2:], *_ADDED))
        weight = _number(f"weight {what}", fields.get("weight", 0.0))
        delay = _whole(f"delay {what}", fields.get("delay", 0))
        edges.append(Edge(place[src], place[dst], weight, delay))
    whole |= _options(drawn.graph)
    return from_edges(neurons, edges, **(whole | options))


def _neuron(what: str, fields: Mapping[str, Any]) -> Neuron:
    """A neuron of a node's attributes, whatever a reader has made of them."""
    texts = {name: str(fields[name]) for name in ("role", "kind") if name in fields}
    gate = fields.get("gate")
    if isinstance(gate, str):
        try:
            gate = json.loads(gate)
        except json.JSONDecodeError:
            raise checks.OptionError(
                f"gate {what} must be the text of a list, got {gate!r}"
            ) from None
    return Neuron(
        **texts,
        cell_type=str(fields.get("cell_type", "any")),
        bias=_number(f"bias {what}", fields.get("bias", 0.0)),
        gate=gate,
        region=_whole(f"region {what}", fields.get("region", 0)),
    )


def _options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the whole graph among attributes."""
    found = {name: fields[name] for name in _WHOLE if name in fields}
    return {
        name: str(value) if name == "dale" else _whole(name, value)
        for name, value in found.items()
    }


def _number(what: str, value: Any) -> float:
    try:
        if isinstance(value, Real | str) and not isinstance(value, bool):
            return float(value)
    except ValueError:
        pass
    raise checks.OptionError(f"{what} must be a number, got {value!r}")


def _whole(what: str, value: Any) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    number = _number(what, value)
    if not number.is_integer():
        raise checks.OptionError(f"{what} must be an integer, got {value!r}")
    return int(number)
