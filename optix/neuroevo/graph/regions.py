"""A brain's regions as they are now: which neurons, how many, what joins them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.neuroevo.graph.edges import to_edges
from optix.neuroevo.graph.graph import NeuronGraph, working


class RegionEdge(NamedTuple):
    """An edge between two regions."""

    src_region: str
    src: int
    dst_region: str
    dst: int
    weight: float
    delay: int


class RegionCounts(NamedTuple):
    """What a region consists of, without neurons that do nothing."""

    neurons: int  # inputs and outputs included
    hidden: int
    edges: int  # within the region
    incoming: int  # edges from other regions
    outgoing: int  # edges to other regions


class Brain(NamedTuple):
    """A graph and the names of its regions.

    The methods read a graph that grew from this one, by default this one.
    """

    graph: NeuronGraph
    regions: tuple[str, ...]  # a region's number in the structure is its place here
    order: tuple[str, ...]  # in which regions act within a step
    slots: dict[str, list[int]]  # in `graph`, of the neurons that a region came with

    def members(self, name: str, graph: NeuronGraph | None = None) -> np.ndarray:
        """Return the slots of a region's living neurons, ascending.

        Raises:
          ValueError: an unknown region.
        """
        checks.known_names("region", [name], self.regions)
        return _members(graph or self.graph, self.regions.index(name))

    def pathways(self, graph: NeuronGraph | None = None) -> list[RegionEdge]:
        """Return the living edges between regions; neurons are slots."""
        graph = graph or self.graph
        neurons, edges = to_edges(graph)
        slot = np.flatnonzero(graph.structure.alive).tolist()
        ends = [(neurons[edge.src].region, neurons[edge.dst].region) for edge in edges]
        return [
            RegionEdge(
                self.regions[src],
                slot[edge.src],
                self.regions[dst],
                slot[edge.dst],
                edge.weight,
                edge.delay,
            )
            for edge, (src, dst) in zip(edges, ends, strict=True)
            if src != dst
        ]

    def counts(self, graph: NeuronGraph | None = None) -> dict[str, RegionCounts]:
        """Return what each region consists of."""
        graph = graph or self.graph
        numbers = range(len(self.regions))
        return {self.regions[number]: count_region(graph, number) for number in numbers}

    def caps(self, max_neurons: Mapping[str, int]) -> dict[int, int]:
        """Return the most neurons of regions by number: `max_neurons` of the controller.

        Args:
          max_neurons: by name; a region that is left out may fill the brain.

        Raises:
          ValueError: an unknown region, a cap below what is there already.
        """
        checks.known_names("region", max_neurons, self.regions)
        counts = self.counts()
        for name, cap in max_neurons.items():
            count = counts[name].neurons
            if checks.positive_int(f"the cap of region {name!r}", cap) < count:
                raise checks.OptionError(
                    f"the cap of region {name!r} must be at least its {count} neurons, "
                    f"got {cap}"
                )
        return {self.regions.index(name): cap for name, cap in max_neurons.items()}


def names(name: str, value: Any) -> Sequence[str]:
    """Return a sequence of names as it is, or raise ValueError for something else."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise checks.OptionError(f"{name} must be a sequence of names, got {value!r}")
    return value


def count_region(graph: NeuronGraph, region: int) -> RegionCounts:
    """Return what the region of a number consists of."""
    works = np.asarray(working(graph))
    own = np.flatnonzero(works & (np.asarray(graph.structure.region) == region))
    edge = np.asarray(graph.structure.edge) & works & works[:, None]
    links = edge.sum(0)  # [dst, src]
    inner = int(links[np.ix_(own, own)].sum())
    return RegionCounts(
        neurons=len(own),
        hidden=int((own >= graph.first_hidden).sum()),
        edges=inner,
        incoming=int(links[own].sum()) - inner,
        outgoing=int(links[:, own].sum()) - inner,
    )


def _members(graph, region):
    structure = graph.structure
    own = np.asarray(structure.region) == region
    return np.flatnonzero(own & np.asarray(structure.alive))
