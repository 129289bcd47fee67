"""A graph as plain lists of neurons and edges, and back: files, networkx, reading."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.neuroevo.graph.cells import CELLS, KINDS
from optix.neuroevo.graph.graph import (
    DALE_MODES,
    NeuronGraph,
    Structure,
    Weights,
    effective_weights,
    raw_weight,
)
from optix.neuroevo.graph.levels import acyclic, levels

ROLES = ("input", "output", "hidden")  # in the order of their slots
LAST_REGION = np.iinfo(np.int8).max
CELL_TYPES = {"any": 0, "excitatory": 1, "inhibitory": -1}


class Neuron(NamedTuple):
    """One neuron."""

    role: str  # input, output or hidden
    kind: str = "tanh"  # one of optix.neuroevo.graph.cells.KINDS
    cell_type: str = "any"  # any, excitatory or inhibitory
    bias: float = 0.0
    gate: Any = None  # [4, 3] of a gated cell; None where there is none
    region: int = 0


class Edge(NamedTuple):
    """One edge, between places in the list of neurons."""

    src: int
    dst: int
    weight: float = 0.0
    delay: int = 0


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
    neurons = [checked_neuron(Neuron(*neuron)) for neuron in neurons]
    checks.known_names("dale mode", [dale], DALE_MODES)
    seen = set()
    edges = [checked_edge(Edge(*edge), neurons, seen) for edge in edges]
    roles = [neuron.role for neuron in neurons]
    for role in ("input", "output"):
        if role not in roles:
            raise ValueError(f"a graph must have at least one {role}, got {roles}")
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
    num_inputs = roles.count("input")
    edge, level = _prepare(value, mask, sign, dale, num_inputs)
    weights = Weights(
        edge=edge,
        bias=jnp.asarray(column((neuron.bias for neuron in neurons), np.float32)),
        gate=jnp.asarray(gate),
    )
    structure = Structure(
        edge=jnp.asarray(mask),
        alive=jnp.asarray(column((True for _ in neurons), bool)),
        kind=jnp.asarray(column((KINDS.index(n.kind) for n in neurons), np.int8)),
        sign=jnp.asarray(sign),
        region=jnp.asarray(column((neuron.region for neuron in neurons), np.int8)),
        level=level,
        cell=jnp.asarray(cell),
        version=jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.uint8), weights),
    )
    if not acyclic(level, num_inputs):
        raise ValueError(
            "edges of delay 0 must form no cycle, but some do; give one edge of each "
            "cycle a delay of 1 or more"
        )
    return NeuronGraph(weights, structure, num_inputs, roles.count("output"), dale)


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


def checked_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron, or raise ValueError for what it can not be."""
    checks.known_names("role", [neuron.role], ROLES)
    checks.known_names("kind of neuron", [neuron.kind], KINDS)
    checks.known_names("cell type", [neuron.cell_type], CELL_TYPES)
    checks.within("bias", neuron.bias, -1e9, 1e9)
    if checks.positive_int("region", neuron.region, 0) > LAST_REGION:
        raise ValueError(
            f"region must be 0 to {LAST_REGION}, got {neuron.region}; number the regions "
            "from 0 on"
        )
    if neuron.role == "input" and (neuron.kind in CELLS or neuron.bias):
        raise ValueError(
            f"an input hands on what it is given, without bias or gates, got {neuron}; "
            "put a hidden neuron behind it"
        )
    if neuron.gate is not None and (
        neuron.kind not in CELLS or np.shape(neuron.gate) != (4, 3)
    ):
        raise ValueError(
            f"gate must be [4, 3] of a gated cell, got {np.shape(neuron.gate)} of a "
            f"{neuron.kind} neuron"
        )
    if neuron.gate is not None and not np.isfinite(neuron.gate).all():
        raise ValueError(f"gate must be finite, got {neuron.gate}")
    return neuron


def checked_edge(edge: Edge, neurons: Sequence[Neuron], seen: set) -> Edge:
    """Return the edge and note it in `seen`, or raise ValueError."""
    checks.positive_int("delay", edge.delay, 0)
    checks.within("weight", edge.weight, -1e9, 1e9)
    for end, place in (("src", edge.src), ("dst", edge.dst)):
        if checks.positive_int(end, place, 0) >= len(neurons):
            raise ValueError(
                f"{end} must be one of the {len(neurons)} neurons, got {place}; add it "
                "first"
            )
    if neurons[edge.dst].role == "input":
        raise ValueError(
            f"no edge may lead into an input, got {edge}; put a hidden neuron behind it"
        )
    if edge.src == edge.dst and not edge.delay:
        raise ValueError(
            f"an edge from a neuron to itself must have a delay of 1 or more, got {edge}"
        )
    if edge.weight * CELL_TYPES[neurons[edge.src].cell_type] < 0:
        raise ValueError(
            f"the weights out of an {neurons[edge.src].cell_type} neuron must be on its "
            f"side of 0, got {edge}"
        )
    name = edge.src, edge.dst, edge.delay
    if name in seen:
        raise ValueError(
            f"two edges of one delay between two neurons are one edge, got {edge} again; "
            "add the weights, or give one another delay"
        )
    seen.add(name)
    return edge


@partial(jax.jit, static_argnums=(3, 4))
def _prepare(value, mask, sign, dale, num_inputs):
    """Stored weights and levels."""
    edge = jnp.where(mask, raw_weight(value, sign, dale), 0.0)
    return edge, levels(mask[0], num_inputs)


def _room(name, given, needed):
    if given is None:
        return needed
    if checks.positive_int(name, given, 0) < needed:
        raise ValueError(f"{name} must be at least {needed}, got {given}")
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
            kind=KINDS[structure.kind[slot]],
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

    Raises:
      ImportError: networkx is not installed.
    """
    import networkx

    neurons, edges = to_edges(graph)
    drawn = networkx.MultiDiGraph()
    for number, neuron in enumerate(neurons):
        drawn.add_node(number, **neuron._asdict())
    for edge in edges:
        drawn.add_edge(
            edge.src, edge.dst, key=edge.delay, weight=edge.weight, delay=edge.delay
        )
    return drawn


def from_networkx(drawn: Any, **options: Any) -> NeuronGraph:
    """Return the graph of a networkx directed graph.

    Args:
      drawn: nodes with a `role` and, if not usual, the other fields of `Neuron`; edges
        with a `weight` and a `delay`, 0 unless given.
      **options: of `from_edges`.

    Raises:
      ValueError: as `from_edges`, a node without a role, an unknown attribute, an
        undirected graph.
    """
    if not drawn.is_directed():
        raise ValueError("the networkx graph must be directed, got an undirected one")
    names = list(drawn)
    neurons = []
    for name in names:
        fields = drawn.nodes[name]
        checks.known_names(f"attribute of node {name!r}", fields, Neuron._fields)
        if "role" not in fields:
            raise ValueError(f"node {name!r} must have a role, one of {ROLES}")
        neurons.append(Neuron(**fields))
    edges = []
    for src, dst, fields in drawn.edges(data=True):
        what = f"attribute of edge {src!r} to {dst!r}"
        checks.known_names(what, fields, ("weight", "delay"))
        edges.append(Edge(names.index(src), names.index(dst), **fields))
    return from_edges(neurons, edges, **options)
