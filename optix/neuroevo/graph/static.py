"""A graph that is done growing: order and edges are known when it is traced.

Neurons stand in blocks by level, sorted by kind within. A level's input is one product of
what came before with a dense matrix, so that layers cost what an MLP's do. There are no
loops, gathers only where signals do not lie side by side, and nothing that only reverse
mode can differentiate. What reaches no output is left out.
"""

from itertools import groupby
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optix import checks
from optix.neuroevo.graph.cells import kind_name
from optix.neuroevo.graph.graph import NeuronGraph, Weights


class StaticWeights(NamedTuple):
    """What is trained."""

    kernel: tuple[jax.Array, ...]  # of each level, [sources, neurons] float32
    delayed: jax.Array  # [R, M] float32 from past outputs into all M neurons
    bias: tuple[jax.Array, ...]  # of each level, [neurons] float32
    gate: jax.Array  # [4, 3, G] float32, cells in the order of levels


class Block(NamedTuple):
    """One level: the neurons that act at once."""

    slots: tuple[int, ...]  # in the graph, sorted by kind
    sources: tuple[int, ...]  # the levels it hears within the step, 0 for inputs
    runs: tuple[tuple[str, int], ...]  # kinds and how many neurons in a row have them
    mask: np.ndarray  # [sources, neurons] bool edges
    sign: np.ndarray  # [sources, 1] of the sources, by Dale's law


class StaticGraph(NamedTuple):
    """A graph and the plan by which it runs; `freeze` makes it."""

    graph: NeuronGraph
    blocks: tuple[Block, ...]
    heard: tuple[int, ...]  # slots that delayed edges leave
    rows: tuple[tuple[int, int], ...]  # delay and slot of each row of `delayed`
    mask: np.ndarray  # [R, M] bool delayed edges
    sign: np.ndarray  # [R, 1] of the rows' neurons
    cells: tuple[int, ...]  # places among the graph's gates

    @property
    def num_inputs(self) -> int:
        """Numbers of an observation."""
        return self.graph.num_inputs

    @property
    def num_outputs(self) -> int:
        """Outputs."""
        return self.graph.num_outputs

    @property
    def recurrent(self) -> bool:
        """Whether anything is remembered."""
        return bool(self.rows or self.cells)

    @property
    def order(self) -> tuple[int, ...]:
        """The slots of all neurons but inputs, level by level."""
        return sum((block.slots for block in self.blocks), ())


def freeze(graph: NeuronGraph) -> StaticGraph:
    """Return the static form of a graph, which computes the same.

    `graph_network`, `graph_actor_critic` and `optix.make(network=...)` take it like a
    graph. `jax.export` takes what these give; its `serialize` needs flatbuffers.

    Args:
      graph: with weights; of a policy by `graph_of`.

    Raises:
      ValueError: something else than a graph, or one that is being traced.

    >>> from optix.neuroevo.graph.build import layered
    >>> frozen = freeze(layered(4, (8, 8), 2))
    >>> [kernel.shape for kernel in static_weights(frozen, frozen.graph.weights).kernel]
    [(4, 8), (8, 8), (8, 2)]
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(graph)):
        raise checks.OptionError(
            "graph must be known to be frozen, got one that is being traced; freeze it "
            "outside of jit"
        )
    structure = jax.device_get(graph.structure)
    if structure.alive.ndim > 1:
        raise checks.OptionError(
            f"graph must be a single one, got {len(structure.alive)}; take one of them"
        )
    kept = _kept(graph, structure)
    edge = structure.edge & kept & kept[:, None]
    level = np.where(kept, structure.level, -1)
    slots_of = {0: tuple(range(graph.num_inputs))}
    for number in range(1, level.max(initial=0) + 1):
        slots = np.flatnonzero((level == number) & (np.arange(len(level)) > 0))
        slots = slots[slots >= graph.num_inputs]
        order = np.lexsort((slots, structure.kind[slots]))
        slots_of[number] = tuple(slots[order].tolist())
    blocks = tuple(
        _block(number, slots_of, edge[0], structure) for number in sorted(slots_of)[1:]
    )
    delays, heard = edge[1:].any(1).nonzero()
    rows = tuple((int(d) + 1, int(s)) for d, s in zip(delays, heard, strict=True))
    order = [slot for block in blocks for slot in block.slots]
    at = np.array(rows, int).reshape(-1, 2)
    gate_of = {int(slot): place for place, slot in enumerate(structure.cell)}
    return StaticGraph(
        graph,
        blocks,
        tuple(sorted({slot for _, slot in rows})),
        rows,
        edge[at[:, :1], order, at[:, 1:]],
        structure.sign[at[:, 1:]],
        tuple(gate_of[slot] for slot in order if slot in gate_of),
    )


def _kept(graph, structure):
    """The neurons that reach an output, inputs and outputs, [N] bool."""
    ends = structure.alive & (np.arange(graph.capacity) < graph.first_hidden)
    link, kept = structure.edge.any(0), ends
    for _ in range(graph.capacity):
        more = ends | (link & kept[:, None]).any(0)
        if (more == kept).all():
            break
        kept = more
    return kept & structure.alive


def _block(number, slots_of, edge, structure):
    slots = slots_of[number]
    sources = tuple(
        below for below in range(number) if edge[np.ix_(slots, slots_of[below])].any()
    )
    before = np.array([s for below in sources for s in slots_of[below]], int)
    kinds = (kind_name(int(structure.kind[slot])) for slot in slots)
    runs = tuple((kind, len(list(group))) for kind, group in groupby(kinds))
    mask = edge[np.ix_(slots, before)].T.copy()
    return Block(slots, sources, runs, mask, structure.sign[before][:, None])


def static_weights(frozen: StaticGraph, weights: Weights) -> StaticWeights:
    """Return a graph's weights as the static form has them; `weights` may be traced."""
    places = {0: tuple(range(frozen.num_inputs))}
    places |= {number: block.slots for number, block in enumerate(frozen.blocks, 1)}

    def kernel(block):
        before = np.array([s for below in block.sources for s in places[below]], int)
        raw = weights.edge[0][np.ix_(block.slots, before)].T
        return jnp.where(block.mask, raw, 0.0)

    at = np.array(frozen.rows, int).reshape(-1, 2)
    delayed = weights.edge[at[:, :1], list(frozen.order), at[:, 1:]]
    return StaticWeights(
        tuple(kernel(block) for block in frozen.blocks),
        jnp.where(frozen.mask, delayed, 0.0),
        tuple(weights.bias[np.array(block.slots, int)] for block in frozen.blocks),
        weights.gate[..., np.array(frozen.cells, int)],
    )


def thawed(frozen: StaticGraph, weights: StaticWeights) -> NeuronGraph:
    """Return the graph with the weights that its static form was trained to.

    What reaches no output, and so is not in the static form, is as it was frozen.
    """
    edge, bias, gate = frozen.graph.weights
    places = {0: tuple(range(frozen.num_inputs))}
    for number, block in enumerate(frozen.blocks, 1):
        places[number] = block.slots
        before = np.array([s for below in block.sources for s in places[below]], int)
        slots = np.array(block.slots, int)
        to, source = slots[:, None], before[None]
        kernel = jnp.where(
            block.mask.T, weights.kernel[number - 1].T, edge[0][to, source]
        )
        edge = edge.at[0, to, source].set(kernel)
        bias = bias.at[slots].set(weights.bias[number - 1])
    at, order = np.array(frozen.rows, int).reshape(-1, 2), np.array(frozen.order, int)
    to = at[:, :1], order, at[:, 1:]
    edge = edge.at[to].set(jnp.where(frozen.mask, weights.delayed, edge[to]))
    gate = gate.at[..., np.array(frozen.cells, int)].set(weights.gate)
    return frozen.graph.replace(weights=Weights(edge, bias, gate))
