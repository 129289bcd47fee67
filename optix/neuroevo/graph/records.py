"""Neurons and edges as plain records, and what they can not be."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.neuroevo.graph.cells import CELLS, check_kinds

ROLES = ("input", "output", "hidden")  # in the order of their slots
LAST_REGION = np.iinfo(np.int8).max
CELL_TYPES = {"any": 0, "excitatory": 1, "inhibitory": -1}


class Neuron(NamedTuple):
    """One neuron."""

    role: str  # input, output or hidden
    kind: str = "tanh"  # one of optix.neuroevo.graph.cells.known_kinds()
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


def records(name: str, given: Any, kind: Any) -> list:
    """Return the given rows as a list, or raise ValueError if they are none."""
    rows = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(row, tuple | list) for row in rows):
        raise checks.OptionError(
            f"{name} must be a list of {kind.__name__} records, got {given!r}"
        )
    return rows


def checked_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron, or raise ValueError for what it can not be."""
    checks.known_names("role", [neuron.role], ROLES)
    check_kinds([neuron.kind])
    checks.known_names("cell type", [neuron.cell_type], CELL_TYPES)
    checks.within("bias", neuron.bias, -1e9, 1e9)
    if checks.positive_int("region", neuron.region, 0) > LAST_REGION:
        raise checks.OptionError(
            f"region must be 0 to {LAST_REGION}, got {neuron.region}; number the regions "
            "from 0 on"
        )
    if neuron.role == "input" and (neuron.kind in CELLS or neuron.bias):
        raise checks.OptionError(
            f"an input hands on what it is given, without bias or gates, got {neuron}; "
            "put a hidden neuron behind it"
        )
    if neuron.gate is not None:
        _check_gate(neuron)
    return neuron


def _check_gate(neuron):
    try:
        gate = np.asarray(neuron.gate, np.float64)
    except (TypeError, ValueError):
        gate = np.array(np.nan)
    if neuron.kind not in CELLS or gate.shape != (4, 3):
        raise checks.OptionError(
            f"gate must be [4, 3] numbers of a gated cell, got {neuron.gate!r} of a "
            f"{neuron.kind} neuron"
        )
    if not np.isfinite(gate.astype(np.float32)).all():
        raise checks.OptionError(f"gate must be finite, got {neuron.gate}")


def checked_edge(edge: Edge, neurons: Sequence[Neuron], seen: set) -> Edge:
    """Return the edge and note it in `seen`, or raise ValueError."""
    checks.positive_int("delay", edge.delay, 0)
    checks.within("weight", edge.weight, -1e9, 1e9)
    for end, place in (("src", edge.src), ("dst", edge.dst)):
        if checks.positive_int(end, place, 0) >= len(neurons):
            raise checks.OptionError(
                f"{end} must be one of the {len(neurons)} neurons, got {place}; add it "
                "first"
            )
    if neurons[edge.dst].role == "input":
        raise checks.OptionError(
            f"no edge may lead into an input, got {edge}; put a hidden neuron behind it"
        )
    if edge.src == edge.dst and not edge.delay:
        raise checks.OptionError(
            f"an edge from a neuron to itself must have a delay of 1 or more, got {edge}"
        )
    if edge.weight * CELL_TYPES[neurons[edge.src].cell_type] < 0:
        raise checks.OptionError(
            f"the weights out of an {neurons[edge.src].cell_type} neuron must be on its "
            f"side of 0, got {edge}"
        )
    name = edge.src, edge.dst, edge.delay
    if name in seen:
        raise checks.OptionError(
            f"two edges of one delay between two neurons are one edge, got {edge} again; "
            "add the weights, or give one another delay"
        )
    seen.add(name)
    return edge
