"""The definition of a neuron graph, neuron by neuron, in float64 NumPy.

Nothing of optix is called: order comes from recursion, weights from the edges one by one.
"""

import math
from typing import NamedTuple

import numpy as np

from optix.neuroevo.graph.cells import KINDS, kind_name
from optix.neuroevo.graph.graph import NeuronGraph, Structure, Weights


class State(NamedTuple):
    """The parts of a Carry of one sample."""

    history: np.ndarray  # [D, N] newest first
    h: np.ndarray  # [G]
    c: np.ndarray  # [G]


def as_numpy(graph):
    """The graph with float64 weights and NumPy arrays."""
    weights = Weights(*(np.asarray(x, np.float64) for x in graph.weights))
    *arrays, version = graph.structure
    version = Weights(*map(np.asarray, version))
    return graph.replace(
        weights=weights, structure=Structure(*map(np.asarray, arrays), version)
    )


def rest(graph):
    """The state at the start of an episode."""
    cells = np.zeros(graph.max_cells)
    return State(np.zeros((graph.max_delay, graph.capacity)), cells, cells.copy())


def effective(graph, delay, destination, source):
    """The weight a signal is multiplied by, Dale's law included."""
    if not graph.structure.edge[delay, destination, source]:
        return 0.0
    raw = float(graph.weights.edge[delay, destination, source])
    sign = int(graph.structure.sign[source])
    if sign == 0:
        return raw
    if graph.dale == "softplus":
        return sign * (max(raw, 0.0) + math.log1p(math.exp(-abs(raw))))
    return raw if raw * sign > 0 else 0.0


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


POINTS = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "elu": lambda x: x if x > 0 else math.expm1(x),
}
MORE = {
    "sin": math.sin,
    "cos": math.cos,
    "gaussian": lambda x: math.exp(-x * x),
    "abs": abs,
    "square": lambda x: x * x,
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "hard_tanh": lambda x: min(1.0, max(-1.0, x)),
}


def cell(kind, gate, x, h, c):
    """A gated cell: rows of gate are three gates and the candidate."""
    first, second, third = (sigmoid(a * h + b * x + bias) for a, b, bias in gate[:3])
    a, b, bias = gate[3]
    if kind.endswith("gru"):
        h = (1 - first) * h + first * math.tanh(a * second * h + b * x + bias)
        return h, h
    c = third * c + first * math.tanh(a * h + b * x + bias)
    return second * math.tanh(c), c


def step(graph, state, obs):
    """Return the state and the outputs [N] of all neurons after one step.

    The graph must be of NumPy arrays, see `as_numpy`. A same-step cycle raises.
    """
    structure, weights = graph.structure, graph.weights
    outputs, running = {}, set()
    h, c = state.h.copy(), state.c.copy()

    def output(neuron):
        if neuron in outputs:
            return outputs[neuron]
        if neuron in running:
            raise ValueError(f"neuron {neuron} is on a same-step cycle")
        running.add(neuron)
        outputs[neuron] = fire(neuron)
        return outputs[neuron]

    def fire(neuron):
        if neuron < graph.num_inputs:
            return float(obs[neuron])
        x = float(weights.bias[neuron])
        for delay, source in np.argwhere(structure.edge[:, neuron]):
            past = output(source) if delay == 0 else state.history[delay - 1, source]
            x += effective(graph, delay, neuron, source) * past
        kind = kind_name(int(structure.kind[neuron]))
        if kind in POINTS | MORE:
            return (POINTS | MORE)[kind](x)
        (slot,) = np.flatnonzero(structure.cell == neuron)
        gate = weights.gate[:, :, slot]
        h[slot], c[slot] = cell(kind, gate, x, state.h[slot], state.c[slot])
        return h[slot]

    now = np.zeros(graph.capacity)
    for neuron in np.flatnonzero(structure.alive):
        now[neuron] = output(neuron)
    history = np.concatenate([now[None], state.history])[: graph.max_delay]
    return State(history, h, c), now


def run(graph, obs, state=None):
    """Return the outputs [T, N] of all neurons and the last state for obs [T, I]."""
    graph = as_numpy(graph)
    state = rest(graph) if state is None else state
    outputs = []
    for row in obs:
        state, now = step(graph, state, row)
        outputs.append(now)
    return np.stack(outputs), state


def readout(graph, outputs):
    """The output neurons' part of [..., N]."""
    return outputs[..., graph.num_inputs : graph.num_inputs + graph.num_outputs]


def levels(edge, num_inputs):
    """Levels [N] from same-step edges [N, N] by Kahn's algorithm; None on a cycle."""
    size = len(edge)
    level = [0 if neuron < num_inputs else 1 for neuron in range(size)]
    waiting = [int(edge[neuron].sum()) for neuron in range(size)]
    ready = [neuron for neuron in range(size) if waiting[neuron] == 0]
    for source in ready:
        for destination in np.flatnonzero(edge[:, source]):
            level[destination] = max(level[destination], level[source] + 1)
            waiting[destination] -= 1
            if waiting[destination] == 0:
                ready.append(int(destination))
    return np.array(level) if len(ready) == size else None


def sample(
    rng,
    *,
    num_inputs=3,
    num_outputs=2,
    hidden=6,
    capacity=16,
    max_delay=3,
    max_cells=3,
    dale="clamp",
    signed=False,
    kinds=KINDS,
    density=0.3,
    scale=0.7,
):
    """A random graph of mixed kinds, hidden neurons in random slots, of NumPy arrays.

    Gated kinds are drawn while there is a slot for them; `signed` gives about two thirds
    of the neurons a sign of Dale's law.
    """
    first_hidden = num_inputs + num_outputs
    hidden_slots = first_hidden + rng.permutation(capacity - first_hidden)[:hidden]
    alive = np.zeros(capacity, bool)
    alive[:first_hidden] = alive[hidden_slots] = True
    kind = np.zeros(capacity, np.int8)
    cells = np.full(max_cells, capacity, np.int32)
    places = list(rng.permutation(max_cells))
    for neuron in np.flatnonzero(alive)[num_inputs:]:
        name = kinds[rng.integers(len(kinds))]
        if name not in POINTS:
            if not places:
                name = "tanh"
            else:
                cells[places.pop()] = neuron
        kind[neuron] = KINDS.index(name)
    sign = np.zeros(capacity, np.int8)
    if signed:
        sign[alive] = rng.integers(-1, 2, alive.sum())
    # same-step edges follow a random order in which inputs come first
    order = np.where(np.arange(capacity) < num_inputs, -1.0, rng.random(capacity))
    edge = rng.random((max_delay + 1, capacity, capacity)) < density
    edge &= alive[:, None] & alive & (np.arange(capacity) >= num_inputs)[:, None]
    edge[0] &= order[None, :] < order[:, None]
    weight = scale * rng.standard_normal(edge.shape)
    if dale == "clamp":
        weight = np.where(sign == 0, weight, sign * np.abs(weight))
    gate = rng.standard_normal((4, 3, max_cells)) * (cells < capacity)
    bias = np.where(alive, 0.5 * rng.standard_normal(capacity), 0.0)
    bias[:num_inputs] = 0.0
    weights = Weights(
        np.where(edge, weight, 0.0).astype(np.float32),
        bias.astype(np.float32),
        gate.astype(np.float32),
    )
    level = levels(edge[0], num_inputs)
    version = Weights(
        *(rng.integers(0, 256, x.shape).astype(np.uint8) for x in weights)
    )
    structure = Structure(
        edge=edge,
        alive=alive,
        kind=kind,
        sign=sign,
        region=np.zeros(capacity, np.int8),
        level=level.astype(np.int32),
        cell=cells,
        output=np.arange(num_inputs, first_hidden, dtype=np.int32),
        version=version,
    )
    return NeuronGraph(weights, structure, num_inputs, num_outputs, dale)
