"""What a brain is put together from: regions, and pathways whose edges are drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from optix import checks
from optix.neuroevo.graph.records import Edge, Neuron


class Region(NamedTuple):
    """Neurons and the edges among them, by their places in the list."""

    neurons: list[Neuron]
    edges: list[Edge]

    def places(self, *roles: str) -> list[int]:
        """Return the places of the neurons of some roles."""
        return [n for n, neuron in enumerate(self.neurons) if neuron.role in roles]


class Pathway(NamedTuple):
    """Edges between two regions that are drawn when the brain is built."""

    src: str
    dst: str
    n_connections: int
    delay: int
    weight: float | None


def in_brain(neuron: Neuron, role: str, region: int) -> Neuron:
    """Return a region's neuron in a brain; an input hands on what it is given."""
    if neuron.role == "input":
        neuron = neuron._replace(kind="linear")
    return neuron._replace(role=role, region=region)


def draw_pathway(
    pathway: Pathway,
    random: np.random.Generator,
    sources: Sequence[int],
    targets: Sequence[int],
    edges: Sequence[Edge],
    signs: np.ndarray,
) -> list[Edge]:
    """Return a pathway's edges between slots, beside `edges`; `signs` of sources."""
    delay, count = pathway.delay, pathway.n_connections
    taken = {(edge.src, edge.dst) for edge in edges if edge.delay == delay}
    pairs = [pair for pair in _evenly(random, sources, targets) if pair not in taken]
    if len(pairs) < count:
        raise checks.OptionError(
            "a pathway must have at most as many connections as there are free pairs of "
            f"neurons, got {pathway} and {len(pairs)} pairs"
        )
    src, dst = np.array(pairs[:count]).T
    if pathway.weight is None:
        value = random.standard_normal(count) / np.sqrt(np.bincount(dst)[dst])
    else:
        value = np.full(count, pathway.weight)
    sign = signs[src]
    value = np.where(sign == 0, value, sign * np.abs(value))
    columns = src.tolist(), dst.tolist(), value.tolist()
    return [Edge(*row, delay) for row in zip(*columns, strict=True)]


def _evenly(random, sources, targets):
    """All pairs, shuffled such that any first few share them out evenly."""
    if not sources or not targets:
        return []
    sources, targets = random.permutation(sources), random.permutation(targets)
    s, t = len(sources), len(targets)
    period = np.lcm(s, t)  # after which the same pairs would come again
    count = np.arange(s * t)
    src, dst = sources[count % s], targets[(count + count // period) % t]
    return list(zip(src.tolist(), dst.tolist(), strict=True))
