"""How signals flow through a graph: a step, a sequence, and their exact gradients.

What does not depend on the step itself, biases, inputs and delayed signals, is summed
first, in one product. Then all neurons respond again and again: the same-step edges have
no cycles, so that after as many sweeps as there are levels every output is exact, in any
order of the neurons. Populations of different topologies share one number of sweeps.

Backwards, the cotangent of each output is collected by the same number of sweeps over
the transposed edges. It is attached to the outputs of the neurons, so that whatever a
neuron does with its input is differentiated as it stands.

The functions are written for one sample; `network` maps them over batches.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.cells import activate, advance, is_one_of
from optix.neuroevo.graph.graph import NeuronGraph, effective_weights


class Carry(NamedTuple):
    """What a graph remembers from one step to the next."""

    history: jax.Array  # [D, N] float32 outputs, newest first
    h: jax.Array  # [G] float32 outputs of the gated cells
    c: jax.Array  # [G] float32 their inner states


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *("same_step", "external", "bias", "kind"),
        *("gate", "cell", "cell_kind", "depth"),
    ],
    meta_fields=["kinds"],
)
@dataclass(frozen=True)
class Circuit:
    """A graph made ready to run; `M` neurons that are not inputs."""

    same_step: jax.Array  # [M, M] by destination and source
    external: jax.Array  # [M, I + D * N] from inputs and history
    bias: jax.Array  # [M]
    kind: jax.Array  # [M] int8
    gate: jax.Array  # [4, 3, G]
    cell: jax.Array  # [G] int32 in [0, M]; M if free
    cell_kind: jax.Array  # [G] int8
    depth: jax.Array  # [] int32 levels of neurons that are not inputs
    kinds: tuple[str, ...]  # static, those that may be there


def initial_carry(graph: NeuronGraph) -> Carry:
    """Return the carry of a graph at rest."""
    dtype = graph.weights.edge.dtype
    history = jnp.zeros((graph.max_delay, graph.capacity), dtype)
    return Carry(
        history, jnp.zeros(graph.max_cells, dtype), jnp.zeros(graph.max_cells, dtype)
    )


def circuit(graph: NeuronGraph) -> Circuit:
    """Return what the steps of a sequence have in common."""
    weights, structure = graph.weights, graph.structure
    first, capacity = graph.num_inputs, graph.capacity
    edge = effective_weights(weights, structure, graph.dale)[:, first:]
    delayed = jnp.moveaxis(edge[1:], 0, 1).reshape(len(edge[0]), -1)
    kind = structure.kind[first:]
    # a free slot stands beyond the end, where reads are 0 and writes are dropped
    cell = jnp.where(structure.cell < capacity, structure.cell, capacity) - first
    return Circuit(
        same_step=edge[0, :, first:],
        external=jnp.concatenate([edge[0, :, :first], delayed], 1),
        # a kind that the graph may not have must not pass for another one
        bias=jnp.where(is_one_of(kind, graph.kinds), weights.bias[first:], jnp.nan),
        kind=kind,
        gate=weights.gate,
        cell=cell,
        cell_kind=kind.at[cell].get(mode="fill", fill_value=0),
        depth=structure.level.max(),
        kinds=graph.kinds,
    )


def step(ready: Circuit, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
    """Advance by one step.

    Args:
      ready: from `circuit`.
      carry: of the step before.
      x: [I] the inputs.

    Returns:
      The carry, and the outputs of all neurons [N].

    Raises:
      ValueError: another number of inputs.
    """
    chex.assert_rank([x, carry.history, carry.h, carry.c], [1, 2, 1, 1])
    num_inputs = carry.history.shape[-1] - len(ready.bias)
    if len(x) != num_inputs:
        raise checks.OptionError(
            f"a step must be given the graph's {num_inputs} inputs, got {len(x)} numbers"
        )
    sources = jnp.concatenate([x, carry.history.reshape(-1)])
    external = ready.bias + ready.external @ sources
    y, (h, c) = _settle(ready, external, (carry.h, carry.c))
    outputs = jnp.concatenate([x, y])
    history = jnp.concatenate([outputs[None], carry.history])[: len(carry.history)]
    return Carry(history, h, c), outputs


def sequence(
    graph: NeuronGraph, carry: Carry, xs: jax.Array, ended: jax.Array
) -> tuple[Carry, jax.Array]:
    """Advance by a sequence of steps, at rest again after each end of an episode.

    Only carry and inputs of each step are stored for the gradient, which flows through
    the whole sequence: cut it by cutting the sequence.

    Args:
      graph: the graph.
      carry: before the first step.
      xs: [T, I] the inputs.
      ended: [T] bool: the step was the last of its episode.

    Returns:
      The carry, and the outputs of all neurons [T, N].

    Raises:
      ValueError: another number of inputs.
    """
    chex.assert_rank([xs, ended], [2, 1])
    ready, rest = circuit(graph), initial_carry(graph)

    @jax.checkpoint
    def advance_one(carry, inputs):
        x, end = inputs
        carry, outputs = step(ready, carry, x)
        carry = jax.tree.map(lambda a, b: jnp.where(end, a, b), rest, carry)
        return carry, outputs

    return jax.lax.scan(advance_one, carry, (xs, ended))


def outputs_of(graph: NeuronGraph, outputs: jax.Array) -> jax.Array:
    """Return the output neurons [..., O] among the outputs of all neurons [..., N]."""
    return outputs[..., graph.num_inputs : graph.first_hidden]


def _settle(ready, external, states):
    """The outputs [M] and the cells' states at the fixed point of the same step."""

    def respond(total, gate, states):
        y = activate(ready.kind, total, ready.kinds)
        if not len(ready.cell):
            return y, states
        x = total.at[ready.cell].get(mode="fill", fill_value=0.0)
        h, c = advance(ready.cell_kind, gate, x, *states)
        return y.at[ready.cell].set(h, mode="drop"), (h, c)

    stop = jax.lax.stop_gradient
    depth, same_step = _largest(ready.depth), stop(ready.same_step)
    still = stop((external, ready.gate, states))  # no gradient enters the loop

    def sweep(_, y):
        return respond(still[0] + same_step @ y, *still[1:])[0]

    # the first response is exact at level 1, the last one, below, adds a level
    y = jax.lax.fori_loop(0, depth - 2, sweep, respond(*still)[0])
    total = external + ready.same_step @ y
    # a neuron's response depends on its own input only: one tangent has all slopes
    _, (slope, (_, c_slope)) = jax.jvp(
        lambda total: respond(total, *still[1:]),
        (stop(total),),
        (jnp.ones_like(total),),
    )
    y, (h, c) = respond(total, ready.gate, states)
    y, c = _gather_cotangents(y, c, same_step, slope, c_slope, ready.cell, depth)
    if len(ready.cell):
        h = y.at[ready.cell].get(mode="fill", fill_value=0.0)
    return y, (h, c)


@jax.custom_vjp
def _gather_cotangents(y, c, same_step, slope, c_slope, cell, depth):
    """Return (y, c); backwards, add to the cotangent of y what reaches later levels.

    total = g_y + same_step^T (slope * total + c_slope * g_c), solved exactly by sweeps.
    """
    del same_step, slope, c_slope, cell, depth
    return y, c


def _gather_forward(y, c, *rest):
    return (y, c), rest


def _gather_backward(rest, cotangents):
    same_step, slope, c_slope, cell, depth = rest
    y_bar, c_bar = cotangents
    through_c = jnp.zeros_like(y_bar).at[cell].add(c_slope * c_bar, mode="drop")
    direct = y_bar + through_c @ same_step

    def sweep(_, total):
        return direct + (slope * total) @ same_step

    total = jax.lax.fori_loop(0, depth - 1, sweep, direct)
    zeros = jax.tree.map(jnp.zeros_like, (same_step, slope, c_slope))
    return total, c_bar, *zeros, None, None


_gather_cotangents.defvjp(_gather_forward, _gather_backward)


@jax.custom_batching.custom_vmap
def _largest(depth):
    """The number of sweeps: of a population, that of its deepest graph, for all.

    A loop whose count differs from graph to graph would copy its state at every turn.
    """
    return depth


@_largest.def_vmap
def _largest_of_many(axis_size, batched, depth):
    del axis_size
    return (_largest(depth.max()) if batched[0] else depth), False
