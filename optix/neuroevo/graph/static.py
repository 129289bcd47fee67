"""A graph that is done growing: order and edges are known when it is traced.

Neurons stand in blocks by level, sorted by kind within. A level's input is one product of
what came before with a dense matrix, so that layers cost what an MLP's do. There are no
loops, gathers only where signals do not lie side by side, and nothing that only reverse
mode can differentiate. What reaches no output is left out.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optix import checks
from optix.neuroevo.graph.build import draw
from optix.neuroevo.graph.cells import CELLS, kind_name, point
from optix.neuroevo.graph.graph import NeuronGraph, Weights
from optix.neuroevo.graph.optimizer import not_outwards
from optix.types import Network, PyTree


class StaticWeights(NamedTuple):
    """What is trained."""

    kernel: tuple[jax.Array, ...]  # of each level, [sources, neurons] float32
    delayed: jax.Array  # [R, M] float32 from past outputs into all M neurons
    bias: tuple[jax.Array, ...]  # of each level, [neurons] float32
    gate: jax.Array  # [4, 3, G] float32, cells in the order of levels


class StaticCarry(NamedTuple):
    """What is remembered from one step to the next."""

    past: jax.Array  # [..., D, S] float32 outputs that delayed edges hear, newest first
    h: jax.Array  # [..., G] float32
    c: jax.Array  # [..., G] float32


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
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(graph)):
        raise ValueError(
            "graph must be known to be frozen, got one that is being traced; freeze it "
            "outside of jit"
        )
    structure = jax.device_get(graph.structure)
    if structure.alive.ndim > 1:
        raise ValueError(
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


def static_network(
    frozen: StaticGraph, read: Callable[[jax.Array], PyTree], *, keep_weights: bool
) -> Network:
    """Return the network of a static graph; `graph_network` says what is what."""
    graph = frozen.graph

    def init(key):
        weights = graph.weights if keep_weights else draw(graph, key).weights
        return static_weights(frozen, weights), ()

    def initial_carry(batch):
        if not frozen.recurrent:
            return ()
        past = jnp.zeros((batch, _depth(frozen), len(frozen.heard)))
        cells = jnp.zeros((batch, len(frozen.cells)))
        return StaticCarry(past, cells, cells)

    def apply(params, structure, carry, obs):
        del structure
        carry, outputs = static_step(frozen, params, carry, obs)
        return carry, read(outputs)

    def sequence(params, structure, carry, obs, ended):
        if not frozen.recurrent:
            return apply(params, structure, (), obs)

        def advance(carry, inputs):
            carry, outputs = static_step(frozen, params, carry, inputs[0])
            # at rest everything is 0
            carry = jax.tree.map(
                lambda x: jnp.where(inputs[1].reshape(-1, *[1] * (x.ndim - 1)), 0.0, x),
                carry,
            )
            return carry, outputs

        carry, outputs = jax.lax.scan(jax.checkpoint(advance), carry, (obs, ended))
        return carry, read(outputs)

    signed = graph.dale == "clamp" and any(b.sign.any() for b in _parts(frozen))
    return Network(
        init,
        initial_carry,
        apply,
        sequence,
        (lambda: optax.chain(optax.scale_by_adam(eps=1e-5), _keep_sign(frozen)))
        if signed
        else None,
    )


def static_step(
    frozen: StaticGraph, params: StaticWeights, carry: Any, obs: jax.Array
) -> tuple[Any, jax.Array]:
    """Advance by one step.

    Args:
      frozen: the graph.
      params: its weights.
      carry: of the step before, with the axes of `obs`; () without memory.
      obs: [..., I].

    Returns:
      The carry, and the outputs [..., O].

    Raises:
      ValueError: another number of inputs.
    """
    if obs.shape[-1] != frozen.num_inputs:
        raise ValueError(
            f"observations must have the graph's {frozen.num_inputs} numbers, got shape "
            f"{obs.shape}"
        )
    delayed = None
    if frozen.rows:
        places = [
            (delay - 1) * len(frozen.heard) + frozen.heard.index(slot)
            for delay, slot in frozen.rows
        ]
        past = carry.past.reshape(*obs.shape[:-1], -1)
        kernel = _effective(frozen, params.delayed, frozen.mask, frozen.sign)
        delayed = _pick(past, places) @ kernel
    values, cells, first = [obs], [], 0
    for block, raw, bias in zip(frozen.blocks, params.kernel, params.bias, strict=True):
        total = bias
        if block.sources:
            heard = _joined([values[below] for below in block.sources])
            total = total + heard @ _effective(frozen, raw, block.mask, block.sign)
        if delayed is not None:
            total = total + delayed[..., first : first + len(block.slots)]
        total = jnp.broadcast_to(total, (*obs.shape[:-1], len(block.slots)))
        values.append(_respond(block, params.gate, carry, cells, total))
        first += len(block.slots)
    return _remembered(frozen, carry, values, cells)


def _respond(block, gate, carry, cells, total):
    """The outputs of a level's neurons; the states of its cells go to `cells`."""
    parts, first = [], 0
    for kind, count in block.runs:
        x = total[..., first : first + count]
        first += count
        if kind not in CELLS:
            each = point(kind)
            tanh = jnp.tanh(0.5 * x if each.halved else x)
            parts.append(each.value(x, tanh))
            continue
        cell, start = CELLS[kind], sum(h.shape[-1] for h, _ in cells)
        own = slice(start, start + count)
        h, c = carry.h[..., own], carry.c[..., own]
        if not cell.trainable:
            h, c = jax.lax.stop_gradient((h, c))
        cells.append(cell.step(gate[..., own], x, h, c))
        parts.append(cells[-1][0])
    return _joined(parts)


def _remembered(frozen, carry, values, cells):
    """The carry after a step, and the outputs [..., O]."""
    place = {
        slot: n for n, slot in enumerate([*range(frozen.num_inputs), *frozen.order])
    }
    everything = _joined(values)
    ends = range(frozen.num_inputs, frozen.graph.first_hidden)
    outputs = _pick(everything, [place[slot] for slot in ends])
    if not frozen.recurrent:
        return (), outputs
    past, (h, c) = carry.past, (carry.h, carry.c)
    if frozen.rows:
        new = _pick(everything, [place[slot] for slot in frozen.heard])
        past = jnp.concatenate([new[..., None, :], past[..., :-1, :]], -2)
    if cells:
        h, c = (_joined(list(states)) for states in zip(*cells, strict=True))
    return StaticCarry(past, h, c), outputs


def _effective(frozen, raw, mask, sign):
    """The matrix that signals are multiplied by; what is not needed is not computed."""
    if sign.any():
        side = sign.astype(np.float32)
        if frozen.graph.dale == "softplus":
            bound = side * jax.nn.softplus(raw)
        else:
            # beyond its side a weight counts as 0, but its gradient passes
            bound = jnp.where(raw * side < 0, raw - jax.lax.stop_gradient(raw), raw)
        raw = jnp.where(sign == 0, raw, bound)
    return raw if mask.all() else jnp.where(mask, raw, 0.0)


def _joined(parts):
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def _pick(x: jax.Array, places: Sequence[int]) -> jax.Array:
    """Places along the last axis, as a slice where they lie side by side."""
    first, count = places[0], len(places)
    if list(places) == list(range(first, first + count)):
        return x if count == x.shape[-1] else x[..., first : first + count]
    return jnp.take(x, np.array(places), axis=-1)


def _depth(frozen):
    return max((delay for delay, _ in frozen.rows), default=0)


def _parts(frozen):
    """Whatever has a matrix with signs, in the order of the parameters."""
    return (*frozen.blocks, frozen)


def _keep_sign(frozen: StaticGraph) -> optax.GradientTransformation:
    """Weights under Dale's law stay on their side, as by `keep_sign` of `optimizer`."""

    def update(updates, state, params=None):
        assert params is not None
        kernels = zip(params.kernel, updates.kernel, frozen.blocks, strict=True)
        kernel = tuple(not_outwards(w, part.sign, u) for w, u, part in kernels)
        delayed = not_outwards(params.delayed, frozen.sign, updates.delayed)
        return updates._replace(kernel=kernel, delayed=delayed), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
