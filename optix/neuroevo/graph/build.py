"""Graphs from scratch: neuron by neuron, in layers, at random."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.neuroevo.graph.cells import check_kinds, initial_gate
from optix.neuroevo.graph.edges import from_edges
from optix.neuroevo.graph.graph import DALE_MODES, NeuronGraph, raw_weight
from optix.neuroevo.graph.records import (
    Edge,
    Neuron,
    checked_edge,
    checked_neuron,
)

_GATE_SPREAD = 0.5  # of drawn gate weights, so that no two cells are alike


class GraphBuilder:
    """A graph neuron by neuron, edge by edge; `build` makes the pytree.

    Args:
      dale: "clamp" or "softplus", see `NeuronGraph`.

    >>> builder = GraphBuilder()
    >>> inputs = [builder.add_neuron("input") for _ in range(2)]
    >>> memory = builder.add_neuron("hidden", "trainable_gru")
    >>> value = builder.add_neuron("output", "linear")
    >>> for neuron in inputs:
    ...     builder.add_edge(neuron, memory, weight=0.5)
    >>> builder.add_edge(memory, value, weight=1.0, delay=1)
    >>> graph = builder.build(capacity=16)
    >>> graph.num_inputs, graph.capacity, graph.max_cells
    (2, 16, 1)
    """

    def __init__(self, dale: str = "clamp"):
        """Begin without neurons."""
        checks.known_names("dale mode", [dale], DALE_MODES)
        self.dale = dale
        self.neurons: list[Neuron] = []
        self.edges: list[Edge] = []
        self._seen: set = set()
        self._same_step: dict[int, list[int]] = {}

    def add_neuron(
        self,
        role: str = "hidden",
        kind: str | None = None,
        cell_type: str = "any",
        *,
        bias: float = 0.0,
        gate: Sequence | None = None,
        region: int = 0,
    ) -> int:
        """Add a neuron and return its number.

        Args:
          role: input, output or hidden; the last output is the value of an actor-critic.
          kind: an activation or a gated cell, one of `known_kinds()` of `cells`; None is
            tanh for hidden neurons and linear for others.
          cell_type: any, excitatory (outgoing weights >= 0) or inhibitory (<= 0).
          bias: added to the input.
          gate: [4, 3] parameters of a gated cell; None takes its kind's own.
          region: number of the region in a brain.

        Raises:
          ValueError: unknown names, an input with a bias or gates.
        """
        if kind is None:
            kind = "tanh" if role == "hidden" else "linear"
        neuron = Neuron(role, kind, cell_type, bias, gate, region)
        self.neurons.append(checked_neuron(neuron))
        return len(self.neurons) - 1

    def add_edge(self, src: int, dst: int, weight: float = 0.0, delay: int = 0) -> None:
        """Add an edge; its signal arrives `delay` steps later, 0 in the same step.

        Raises:
          ValueError: an unknown neuron, an edge into an input, one that is there already,
            a same-step cycle, a weight against the cell type of `src`.
        """
        edge = checked_edge(Edge(src, dst, weight, delay), self.neurons, self._seen)
        if not delay:
            if self._reaches(dst, src):
                self._seen.remove((src, dst, delay))
                raise checks.OptionError(
                    f"edges of delay 0 must form no cycle, but {edge} closes one; give "
                    "it a delay of 1 or more"
                )
            self._same_step.setdefault(src, []).append(dst)
        self.edges.append(edge)

    def build(
        self,
        *,
        capacity: int | None = None,
        max_delay: int | None = None,
        max_cells: int | None = None,
    ) -> NeuronGraph:
        """Return the graph; the options are those of `from_edges` of `edges`.

        A neuron's slot is `optix.neuroevo.graph.edges.slots(builder.neurons)[number]`: its
        number, where inputs were added first, then outputs, then hidden neurons.
        """
        return from_edges(
            self.neurons,
            self.edges,
            dale=self.dale,
            capacity=capacity,
            max_delay=max_delay,
            max_cells=max_cells,
        )

    def _reaches(self, start, goal):
        """Whether a same-step path leads from one neuron to another."""
        waiting, reached = [start], {start}
        while waiting:
            following = set(self._same_step.get(waiting.pop(), ())) - reached
            reached |= following
            waiting.extend(following)
        return goal in reached


def layered(
    num_inputs: int,
    hidden: Sequence[int],
    num_outputs: int,
    *,
    key: jax.Array | None = None,
    kind: str = "tanh",
    output_kind: str = "linear",
    recurrent_delay: int | None = None,
    dale: str = "clamp",
    capacity: int | None = None,
    max_delay: int | None = None,
    max_cells: int | None = None,
) -> NeuronGraph:
    """Return a graph of fully connected layers.

    Args:
      num_inputs: inputs.
      hidden: neurons of each hidden layer; () connects inputs with outputs.
      num_outputs: outputs.
      key: of the initial weights, see `draw`; None is a fixed one.
      kind: of the hidden neurons.
      output_kind: of the outputs.
      recurrent_delay: every hidden layer also leads to itself with this delay; None
        leaves it without memory, unless its kind has one.
      dale: "clamp" or "softplus", see `NeuronGraph`.
      capacity: slots for neurons, more than needed where the graph may grow.
      max_delay: the longest delay to make room for.
      max_cells: slots for gated cells.

    Raises:
      ValueError: sizes below one, an unknown kind, less room than neurons.

    >>> graph = layered(4, (8,), 3, capacity=32)
    >>> int(graph.structure.edge.sum()), graph.recurrent
    (56, False)
    """
    sizes = [checks.positive_int("num_inputs", num_inputs)]
    if not isinstance(hidden, Sequence) or isinstance(hidden, str):
        raise checks.OptionError(f"hidden must be a sequence of widths, got {hidden!r}")
    sizes += [checks.positive_int("a hidden layer", size) for size in hidden]
    sizes += [checks.positive_int("num_outputs", num_outputs)]
    for name, each in (("kind", kind), ("output_kind", output_kind)):
        check_kinds([each], name)
    if recurrent_delay is not None:
        checks.positive_int("recurrent_delay", recurrent_delay)
    inner, last = Neuron("hidden", kind), Neuron("output", output_kind)
    roles = [Neuron("input", "linear"), *[inner] * (len(sizes) - 2), last]
    ends = np.cumsum([0, *sizes]).tolist()
    layers = [range(*pair) for pair in zip(ends, ends[1:], strict=False)]
    neurons = [
        role for role, size in zip(roles, sizes, strict=True) for _ in range(size)
    ]
    edges = [
        Edge(src, dst)
        for below, above in zip(layers, layers[1:], strict=False)
        for src in below
        for dst in above
    ]
    if recurrent_delay is not None:
        edges += [
            Edge(src, dst, 0.0, recurrent_delay)
            for layer in layers[1:-1]
            for src in layer
            for dst in layer
        ]
    room = {"capacity": capacity, "max_delay": max_delay, "max_cells": max_cells}
    graph = from_edges(neurons, edges, dale=dale, **room)
    return draw(graph, jax.random.key(0) if key is None else checked_key(key))


def random_graph(
    key: jax.Array,
    num_inputs: int,
    num_hidden: int,
    num_outputs: int,
    *,
    density: float = 0.2,
    delayed_density: float = 0.0,
    kinds: Sequence[str] = ("tanh",),
    output_kind: str = "linear",
    dale: str = "clamp",
    capacity: int | None = None,
    max_delay: int = 0,
    max_cells: int | None = None,
) -> NeuronGraph:
    """Return a graph of random edges between neurons in a random order.

    Every hidden neuron has a same-step source and every one leads somewhere, so that all
    can learn.

    Args:
      key: of topology and weights.
      num_inputs: inputs.
      num_hidden: hidden neurons.
      num_outputs: outputs.
      density: share of same-step edges among those that the order allows.
      delayed_density: share of edges among all pairs, for each delay.
      kinds: of the hidden neurons, drawn evenly.
      output_kind: of the outputs.
      dale: "clamp" or "softplus", see `NeuronGraph`.
      capacity: slots for neurons.
      max_delay: the longest delay.
      max_cells: slots for gated cells.

    Raises:
      ValueError: sizes below one, densities outside [0, 1], unknown kinds.

    >>> graph = random_graph(jax.random.key(0), 4, 8, 2, kinds=("tanh", "relu"))
    >>> graph.capacity
    14
    """
    checks.positive_int("num_inputs", num_inputs)
    checks.positive_int("num_hidden", num_hidden, 0)
    checks.positive_int("num_outputs", num_outputs)
    checks.positive_int("max_delay", max_delay, 0)
    checks.within("density", density, 0.0, 1.0)
    checks.within("delayed_density", delayed_density, 0.0, 1.0)
    check_kinds(kinds, "kinds")
    check_kinds([output_kind], "output_kind")
    topology_key, weight_key = jax.random.split(checked_key(key))
    random = np.random.default_rng(np.asarray(jax.random.key_data(topology_key)))
    hidden = [Neuron("hidden", str(k)) for k in random.choice(list(kinds), num_hidden)]
    outputs = [Neuron("output", output_kind)] * num_outputs
    neurons = [Neuron("input", "linear")] * num_inputs + hidden + outputs
    count, first_output = len(neurons), num_inputs + num_hidden
    # in the order of this list every same-step edge leads forwards
    order = np.arange(count)
    allowed = order[:, None] < order  # [src, dst]
    allowed[:, :num_inputs] = False
    allowed[first_output:] = False
    same_step = allowed & (random.random((count, count)) < density)
    for dst in range(num_inputs, count):
        if not same_step[:, dst].any():
            same_step[random.choice(np.flatnonzero(allowed[:, dst])), dst] = True
    for src in range(first_output):
        if not same_step[src].any() and allowed[src].any():
            same_step[src, random.choice(np.flatnonzero(allowed[src]))] = True
    edges = [Edge(src, dst) for src, dst in np.argwhere(same_step).tolist()]
    for delay in range(1, max_delay + 1):
        chosen = random.random((count, count)) < delayed_density
        chosen[:, :num_inputs] = False
        edges += [
            Edge(src, dst, 0.0, delay) for src, dst in np.argwhere(chosen).tolist()
        ]
    room = {"capacity": capacity, "max_delay": max_delay, "max_cells": max_cells}
    return draw(from_edges(neurons, edges, dale=dale, **room), weight_key)


def checked_key(key: Any) -> jax.Array:
    """Return the key, or raise ValueError for something else."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (dtype == jnp.uint32 and shape == (2,)):
        raise checks.OptionError(
            f"key must be a key, like jax.random.key(0), got {key!r}"
        )
    return key


@jax.jit
def draw(graph: NeuronGraph, key: jax.Array) -> NeuronGraph:
    """Return the graph with new initial weights.

    Weights are normal with variance 1 / incoming edges, on its side of 0 out of a neuron
    that has one; biases are 0; gates are their kind's own, a little scattered. Gradients
    of weights that are all 0 would be 0 for ever.
    """
    weights, structure = graph.weights, graph.structure
    edge_key, gate_key = jax.random.split(key)
    incoming = structure.edge.sum((0, 2))[:, None]
    value = jax.random.normal(edge_key, weights.edge.shape)
    value *= jax.lax.rsqrt(jnp.maximum(incoming, 1).astype(value.dtype))
    sign = structure.sign
    value = jnp.where(sign == 0, value, sign * jnp.abs(value))
    edge = jnp.where(structure.edge, raw_weight(value, sign, graph.dale), 0.0)

    kind = structure.kind.at[structure.cell].get(mode="fill", fill_value=0)
    own = jnp.moveaxis(initial_gate(kind), 0, -1)
    scatter = _GATE_SPREAD * jax.random.normal(gate_key, weights.gate.shape)
    scatter = scatter.at[:, 2].set(0.0)
    gate = jnp.where(structure.cell < graph.capacity, own + scatter, 0.0)
    new = weights._replace(edge=edge, bias=jnp.zeros_like(weights.bias), gate=gate)
    return graph.replace(weights=new)
