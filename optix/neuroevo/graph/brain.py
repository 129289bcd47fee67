"""Brains: named regions and the pathways between them, as one graph.

A region is a graph of its own, a pathway a few edges from one region to another. Putting
them together gives an ordinary graph whose neurons know their region: the inputs of
regions that see the observation and the outputs of those that act are the graph's, all
others become hidden neurons. So pathways have gradients and delays, regions act in the
order of the same-step pathways, and everything that is done with a graph, learning,
mutations, drawings, is done with a brain.
"""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import jax
import numpy as np

from optix import checks
from optix.neuroevo.graph.build import checked_key
from optix.neuroevo.graph.edges import from_edges, to_edges
from optix.neuroevo.graph.graph import DALE_MODES, NeuronGraph
from optix.neuroevo.graph.pathways import (
    Pathway,
    Region,
    draw_pathway,
    in_brain,
)
from optix.neuroevo.graph.records import (
    CELL_TYPES,
    Edge,
    Neuron,
    checked_edge,
    checked_neuron,
    records,
)
from optix.neuroevo.graph.regions import Brain, RegionEdge

MAX_REGIONS = 127  # their numbers are int8


class BrainNetwork:
    """A brain region by region, pathway by pathway; `build` makes one graph of it.

    Args:
      dale: "clamp" or "softplus" as in `NeuronGraph`, the same of all regions.

    >>> from optix.neuroevo.graph.build import layered
    >>> network = BrainNetwork()
    >>> network.add_region("sensory", layered(4, (6,), 2))
    >>> network.add_region("executive", layered(2, (6,), 3))
    >>> network.add_pathway("sensory", "executive", n_connections=8, delay=0)
    >>> brain = network.build(capacity=32)
    >>> brain.graph.num_inputs, brain.graph.num_outputs, brain.order
    (4, 3, ('sensory', 'executive'))
    >>> brain.counts()["executive"]
    RegionCounts(neurons=11, hidden=8, edges=30, incoming=8, outgoing=0)
    """

    def __init__(self, dale: str = "clamp"):
        """Begin without regions."""
        checks.known_names("dale mode", [dale], DALE_MODES)
        self.dale = dale
        self.regions: dict[str, Region] = {}
        self.pathways: list[Pathway] = []
        self.edges: list[RegionEdge] = []

    def add_region(
        self, name: str, graph: NeuronGraph | tuple[Sequence[Neuron], Sequence[Edge]]
    ) -> None:
        """Add a region.

        Args:
          name: of the region.
          graph: the region, or a list of its neurons and one of its edges. A neuron's
            number is its place in that list, in a graph without gaps its slot.

        Raises:
          ValueError: a name that is taken, another Dale mode, lists that `from_edges`
            would refuse.
        """
        if not isinstance(name, str):
            raise checks.OptionError(f"name must be a text, got {name!r}")
        if name in self.regions:
            raise checks.OptionError(
                f"names of regions must differ, got {name!r} again"
            )
        if len(self.regions) == MAX_REGIONS:
            raise checks.OptionError(f"a brain must have at most {MAX_REGIONS} regions")
        if isinstance(graph, NeuronGraph):
            if graph.dale != self.dale:
                raise checks.OptionError(
                    f"all regions must have the brain's dale {self.dale!r}, got "
                    f"{graph.dale!r} of {name!r}; build both with the same one"
                )
            graph = to_edges(graph)
        if not isinstance(graph, tuple | list) or len(graph) != 2:
            raise checks.OptionError(
                f"graph must be a NeuronGraph or lists of neurons and edges, got {graph!r}"
            )
        neurons = [
            checked_neuron(Neuron(*n)) for n in records("graph", graph[0], Neuron)
        ]
        seen = set()
        edges = [
            checked_edge(Edge(*edge), neurons, seen)
            for edge in records("graph", graph[1], Edge)
        ]
        self.regions[name] = Region(neurons, edges)

    def add_pathway(
        self,
        src: str,
        dst: str,
        n_connections: int = 4,
        delay: int = 1,
        weight: float | None = None,
    ) -> None:
        """Add edges from outputs and hidden neurons of a region to another region.

        They lead to its hidden neurons, and to its inputs unless these see the
        observation. `build` draws them evenly: no neuron has two edges more than another.

        Args:
          src: the region they come from.
          dst: the region they lead to.
          n_connections: how many.
          delay: of each, 0 for the same step.
          weight: of each, on its side of 0 out of a neuron that has one. None draws them,
            with variance 1 / edges at their destination. At 0 the pathway changes
            nothing at first; it can learn, but for a while the region it leads to
            learns nothing about what it will bring.

        Raises:
          ValueError: unknown regions, a pathway from a region to itself, same-step
            pathways in a cycle.
        """
        for what, region in (("src", src), ("dst", dst)):
            checks.known_names(f"region as {what}", [region], self.regions)
        checks.positive_int("n_connections", n_connections)
        checks.positive_int("delay", delay, 0)
        if weight is not None:
            checks.within("weight", weight, -1e9, 1e9)
        pathway = Pathway(src, dst, n_connections, delay, weight)
        self._check_order(src, dst, delay, pathway)
        self.pathways.append(pathway)

    def add_edge(
        self,
        src: tuple[str, int],
        dst: tuple[str, int],
        weight: float = 0.0,
        delay: int = 1,
    ) -> None:
        """Add a single edge from one region to another.

        Args:
          src: the region it comes from, and the number of the neuron there.
          dst: the region it leads to, and the number of the neuron there.
          weight: of the edge.
          delay: of the edge, 0 for the same step.

        Raises:
          ValueError: unknown regions or neurons, two ends in one region, same-step edges
            in a cycle of regions.
        """
        for what, end in (("src", src), ("dst", dst)):
            if not isinstance(end, tuple | list) or len(end) != 2:
                raise checks.OptionError(
                    f"{what} must be (region, number), got {end!r}"
                )
        edge = RegionEdge(src[0], src[1], dst[0], dst[1], weight, delay)
        checks.positive_int("delay", delay, 0)
        checks.within("weight", weight, -1e9, 1e9)
        self._check_order(edge.src_region, edge.dst_region, delay, edge)
        for name, place in (src, dst):
            count = len(self.regions[name].neurons)
            if checks.positive_int("neuron", place, 0) >= count:
                raise checks.OptionError(
                    f"region {name!r} must have the neuron, got {place} of {count}"
                )
        self.edges.append(edge)

    @property
    def order(self) -> tuple[str, ...]:
        """The order in which regions act within a step."""
        return self._sorted(self._links())

    def build(
        self,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        key: jax.Array | None = None,
        capacity: int | None = None,
        max_delay: int | None = None,
        max_cells: int | None = None,
    ) -> Brain:
        """Return the brain.

        Args:
          inputs: regions that see the observation, one part of it each, in this order;
            None takes those that no pathway leads to.
          outputs: regions whose outputs are the brain's, in this order, so that the last
            one's last output is the value; None takes those that no pathway leaves.
          key: of the pathways; None is a fixed one.
          capacity: slots for neurons, more than needed where the brain may grow.
          max_delay: the longest delay to make room for.
          max_cells: slots for gated cells.

        Raises:
          ValueError: unknown regions, none that sees or none that acts, more connections
            than there are pairs of neurons, an edge into an input that sees the
            observation, and what `from_edges` refuses.
        """
        links = self._links()
        inputs = self._ends("inputs", inputs, {dst for _, dst, _ in links})
        outputs = self._ends("outputs", outputs, {src for src, _, _ in links})
        roles = self._roles(inputs, outputs)
        slot = {
            name: [0] * len(region.neurons) for name, region in self.regions.items()
        }
        for number, (name, place) in enumerate(roles):
            slot[name][place] = number
        names = tuple(self.regions)
        neurons = [
            in_brain(self.regions[name].neurons[place], role, names.index(name))
            for (name, place), role in roles.items()
        ]
        edges = self._edges(slot)
        signs = np.array([CELL_TYPES[neuron.cell_type] for neuron in neurons])
        key = jax.random.key(0) if key is None else checked_key(key)
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        for pathway in self.pathways:
            src, dst = self.regions[pathway.src], self.regions[pathway.dst]
            sources = [slot[pathway.src][n] for n in src.places("output", "hidden")]
            targets = [slot[pathway.dst][n] for n in dst.places("input", "hidden")]
            targets = [target for target in targets if neurons[target].role != "input"]
            edges += draw_pathway(pathway, random, sources, targets, edges, signs)
        room = {"capacity": capacity, "max_delay": max_delay, "max_cells": max_cells}
        graph = from_edges(neurons, edges, dale=self.dale, **room)
        return Brain(graph, names, self.order, slot)

    def _roles(self, inputs, outputs):
        """Region and place of each neuron, in the order of slots, and its role."""
        everything = [
            (name, place)
            for name, region in self.regions.items()
            for place in range(len(region.neurons))
        ]
        ends = {
            (name, place): role
            for role, names in (("input", inputs), ("output", outputs))
            for name in names
            for place in self.regions[name].places(role)
        }
        return ends | {end: "hidden" for end in everything if end not in ends}

    def _edges(self, slot):
        """The edges within regions and single ones between them, between slots."""
        inner = [
            edge._replace(src=slot[name][edge.src], dst=slot[name][edge.dst])
            for name, region in self.regions.items()
            for edge in region.edges
        ]
        between = [
            Edge(
                slot[e.src_region][e.src], slot[e.dst_region][e.dst], e.weight, e.delay
            )
            for e in self.edges
        ]
        return inner + between

    def _ends(self, what, given, linked):
        if given is None:
            given = [name for name in self.regions if name not in linked]
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise checks.OptionError(
                f"{what} must be a sequence of regions, got {given!r}"
            )
        checks.known_names(f"region in {what}", given, self.regions)
        if not given or len(set(given)) < len(given):
            raise checks.OptionError(
                f"{what} must name one region or more, each once, got {list(given)}; "
                f"where every region has pathways, pass {what}="
            )
        return given

    def _links(self):
        """Source, destination and delay of whatever joins two regions."""
        single = [(e.src_region, e.dst_region, e.delay) for e in self.edges]
        return single + [(p.src, p.dst, p.delay) for p in self.pathways]

    def _check_order(self, src, dst, delay, what):
        checks.known_names("region", (src, dst), self.regions)
        if src == dst:
            raise checks.OptionError(
                f"a pathway must lead to another region, got {what}; edges within a "
                "region belong to its graph"
            )
        try:
            self._sorted([*self._links(), (src, dst, delay)])
        except CycleError:
            raise checks.OptionError(
                f"pathways of delay 0 must form no cycle, but {what} closes one; give it "
                "a delay of 1 or more"
            ) from None

    def _sorted(self, links):
        earlier = {name: [] for name in self.regions}
        for src, dst, delay in links:
            if not delay:
                earlier[dst].append(src)
        return tuple(TopologicalSorter(earlier).static_order())
