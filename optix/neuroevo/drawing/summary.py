"""A graph in a few lines of text."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from optix import checks
from optix.neuroevo.graph.edges import to_edges
from optix.neuroevo.graph.graph import NeuronGraph, working
from optix.neuroevo.graph.records import CELL_TYPES
from optix.neuroevo.graph.regions import count_region, names

_GATES = 12  # parameters of a gated cell


def summary(graph: NeuronGraph, regions: Sequence[str] = ()) -> str:
    """Return what a graph consists of, as a table for people.

    Args:
      graph: the graph.
      regions: names of a brain's regions, `Brain.regions`.

    Neurons that do nothing, see `working` of `graph`, are told apart from the rest.

    Raises:
      ValueError: something else than a graph, regions that are no names.

    >>> from optix.neuroevo.graph.build import layered
    >>> print(summary(layered(4, (8,), 3, recurrent_delay=1, capacity=32)))
    neurons     4 inputs, 8 hidden, 3 outputs
    room        15 of 32 neurons, 0 of 0 gated cells, delays up to 1
    depth       2
    edges       120: 56 of delay 0, 64 of delay 1
    kinds       linear 3, tanh 8
    weights     mean size 0.23, largest 0.76
    parameters  131: 120 weights, 11 biases
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    names("regions", regions)
    alive = np.asarray(graph.structure.alive)
    works = np.asarray(working(graph))
    neurons, edges = _working_part(graph, works[alive])
    thinking = [neuron for neuron in neurons if neuron.role != "input"]
    cells = sum(neuron.gate is not None for neuron in neurons)
    roles = Counter(neuron.role for neuron in neurons)
    delays = Counter(edge.delay for edge in edges)
    sizes = [abs(edge.weight) for edge in edges] or [0.0]
    parts = {"weights": len(edges), "biases": len(thinking), "gates": _GATES * cells}
    level = np.asarray(graph.structure.level)[works]
    rows = {
        "neurons": f"{roles['input']} inputs, {roles['hidden']} hidden, "
        f"{roles['output']} outputs",
        "room": f"{len(neurons)} of {graph.capacity} neurons, {cells} of "
        f"{graph.max_cells} gated cells, delays up to {graph.max_delay}",
        "depth": str(level.max()),
        "edges": f"{len(edges)}"
        + _listed(": ", [f"{delays[d]} of delay {d}" for d in sorted(delays)]),
        "kinds": _counted(neuron.kind for neuron in thinking),
    }
    if any(neuron.cell_type != "any" for neuron in neurons):
        types = Counter(neuron.cell_type for neuron in neurons)
        listed = [f"{name} {types[name]}" for name in CELL_TYPES if types[name]]
        rows["cell types"] = f"{', '.join(listed)}; dale {graph.dale}"
    rows["weights"] = f"mean size {np.mean(sizes):.2f}, largest {max(sizes):.2f}"
    rows["parameters"] = f"{sum(parts.values())}" + _listed(
        ": ", [f"{count} {name}" for name, count in parts.items() if count]
    )
    idle = int((alive & ~works).sum())
    if idle:
        rows["not counted"] = (
            f"{idle} neurons that reach no output or are fed by nothing; prune_stranded "
            "removes them"
        )
    lines = [f"{name:<12}{text}" for name, text in rows.items()]
    return "\n".join(lines + _region_table(graph, regions))


def _working_part(graph, works):
    """The neurons that work, and the edges between them, as lists."""
    neurons, edges = to_edges(graph)
    kept = [neuron for neuron, at_work in zip(neurons, works, strict=True) if at_work]
    return kept, [edge for edge in edges if works[edge.src] and works[edge.dst]]


def _region_table(graph, given):
    """A line for each region, none where there is but one."""
    count = int(np.asarray(graph.structure.region).max()) + 1
    if count == 1 and not given:
        return []
    titles = [*given, *(f"region {number}" for number in range(len(given), count))]
    width = max(map(len, [*titles, "region"])) + 2
    counts = [count_region(graph, number) for number in range(len(titles))]
    lines = [f"{'region':<{width}}" + "".join(f"{f:>10}" for f in counts[0]._fields)]
    for name, row in zip(titles, counts, strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{number:>10}" for number in row))
    return lines


def _counted(words):
    counts = sorted(Counter(words).items())
    return ", ".join(f"{word.replace('_', ' ')} {count}" for word, count in counts)


def _listed(start, texts):
    return start + ", ".join(texts) if texts else ""
