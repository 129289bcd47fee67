"""A graph of neurons as an immutable pytree of fixed capacity.

Neuron v at time t has the output

    h_v(t) = phi_v(b_v + sum over edges (u, d, w) into v of  w * h_u(t - d))

with d = 0, the same step, or a delay. Same-step edges have no cycles. Neurons live in
slots, inputs first, then outputs, then hidden ones; an edge's place in the weights,
[delay, dst, src], is its name, so that structure, weights and the optimizer's moments
are aligned by construction, and a change of topology changes no shape.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix.neuroevo.graph.cells import (
    KINDS,
    activate,
    check_kinds,
    in_order,
    is_gated,
)

DALE_MODES = ("clamp", "softplus")
FAINTEST = -5.0  # theta of an edge of weight 0 under softplus: small, but it can learn


class Weights(NamedTuple):
    """What is trained: `Policy.params`."""

    edge: jax.Array  # [D + 1, N, N] float32 by delay, dst, src; 0 where no edge is
    bias: jax.Array  # [N] float32, 0 of inputs and free slots
    gate: jax.Array  # [4, 3, G] float32 of gated cells


class Structure(NamedTuple):
    """What is not trained: `Policy.structure`.

    A free slot has no edges, bias 0 and kind linear, so its output is 0.
    """

    edge: jax.Array  # [D + 1, N, N] bool
    alive: jax.Array  # [N] bool
    kind: jax.Array  # [N] int8 number of its kind, see `cells`
    sign: jax.Array  # [N] int8 1 excitatory, -1 inhibitory, 0 any (Dale's law)
    region: jax.Array  # [N] int8 of a brain
    level: jax.Array  # [N] int32 0 of inputs, else 1 + the highest same-step source's
    cell: jax.Array  # [G] int32 the neuron in each slot of the gates, N if it is free
    output: jax.Array  # [O] int32 slots of the outputs
    version: Weights  # uint8 each, one more for every change of the entry


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "structure"],
    meta_fields=["num_inputs", "num_outputs", "dale", "kinds"],
)
@dataclass(frozen=True)
class NeuronGraph:
    """A graph of neurons.

    Build one by `GraphBuilder`, `layered` or `random_graph` of `build`.

    weights: what is trained.
    structure: what is not.
    num_inputs: static int; slots 0 to num_inputs - 1.
    num_outputs: static int; the slots after the inputs.
    dale: static, how a neuron's sign binds its outgoing weights: "clamp" keeps them at 0
        or on their side, "softplus" takes them as `sign * softplus(theta)`.
    kinds: static, those that its neurons may be of, in the order of their numbers.
    """

    weights: Weights
    structure: Structure
    num_inputs: int
    num_outputs: int
    dale: str = "clamp"
    kinds: tuple[str, ...] = KINDS

    @property
    def capacity(self) -> int:
        """Slots for neurons."""
        return self.weights.bias.shape[-1]

    @property
    def max_delay(self) -> int:
        """The longest delay there is room for."""
        return self.weights.edge.shape[-3] - 1

    @property
    def max_cells(self) -> int:
        """Slots for gated cells."""
        return self.weights.gate.shape[-1]

    @property
    def first_hidden(self) -> int:
        """The first slot of hidden neurons."""
        return self.num_inputs + self.num_outputs

    @property
    def recurrent(self) -> bool:
        """Whether there is room for anything that remembers: delays or gated cells."""
        return self.max_delay > 0 or self.max_cells > 0

    def replace(self, **parts: Any) -> "NeuronGraph":
        """Return a graph with other parts."""
        return replace(self, **parts)

    def with_kinds(self, *names: str) -> "NeuronGraph":
        """Return a graph whose neurons may be of other kinds too, where it grows.

        Every kind beyond the base is computed at each step, whether it is there or not.

        Raises:
          ValueError: an unknown kind.
        """
        check_kinds(names)
        return replace(self, kinds=in_order((*self.kinds, *names)))


def effective_weights(weights: Weights, structure: Structure, dale: str) -> jax.Array:
    """Return the weights that signals are multiplied by, [D + 1, N, N], 0 where no edge.

    Under "clamp" a weight on the wrong side counts as 0; its gradient passes, so that a
    weight at 0 can learn.
    """
    sign = structure.sign.astype(weights.edge.dtype)  # [N] of the sources
    if dale == "softplus":
        bound = sign * jax.nn.softplus(weights.edge)
    else:
        still = jax.lax.stop_gradient(weights.edge)
        bound = jnp.where(still * sign < 0, weights.edge - still, weights.edge)
    return jnp.where(structure.edge, jnp.where(sign == 0, weights.edge, bound), 0.0)


def raw_weight(value: jax.Array, sign: jax.Array, dale: str) -> jax.Array:
    """Return what is stored for an effective weight `value` out of a neuron of `sign`.

    Under Dale's law a value on the wrong side becomes 0, or under softplus, where there
    is no 0, the faintest weight that still learns; so does 0 itself.
    """
    size = jnp.abs(value) * (value * sign > 0)
    if dale == "softplus":
        faintest = jax.nn.softplus(jnp.asarray(FAINTEST, value.dtype))
        size = jnp.where(size > jnp.finfo(value.dtype).tiny, size, faintest)
        bound = size + jnp.log(-jnp.expm1(-size))  # the inverse of softplus
    else:
        bound = sign * size
    return jnp.where(sign == 0, value, bound)


def is_hidden(graph: NeuronGraph) -> jax.Array:
    """Return which slots hold hidden neurons, [N] bool."""
    return graph.structure.alive & (jnp.arange(graph.capacity) >= graph.first_hidden)


def num_neurons(structure: Structure) -> jax.Array:
    """Return the number of neurons, [] int32."""
    return structure.alive.sum(-1, dtype=jnp.int32)


def num_edges(structure: Structure) -> jax.Array:
    """Return the number of edges, [] int32."""
    return structure.edge.sum((-3, -2, -1), dtype=jnp.int32)


def is_fed(graph: NeuronGraph) -> jax.Array:
    """Return which neurons are fed by more than constants, [N] bool.

    They are inputs and whatever these lead to, by edges of any delay, and cycles that a
    bias drives: clocks. All others say the same at every step.
    """
    structure = graph.structure
    place = jnp.arange(graph.capacity)
    is_input = structure.alive & (place < graph.num_inputs)
    link = structure.edge.any(0)  # [dst, src]

    def sources(fed):
        return (link & fed).any(1)

    sustained = _until_still(structure.alive, lambda fed: is_input | sources(fed))
    at_rest = activate(structure.kind, graph.weights.bias, graph.kinds)
    awake = structure.alive & ((at_rest != 0) | is_gated(structure.kind))
    start = is_input | (awake & (place >= graph.num_inputs))
    return sustained & _until_still(start, lambda fed: start | sources(fed))


def working(graph: NeuronGraph) -> jax.Array:
    """Return which neurons work, [N] bool: inputs, outputs, and hidden ones between.

    A hidden neuron that reaches no output, by edges of any delay, or that is fed by
    nothing does not: it changes nothing, or no more than a bias would.
    """
    structure = graph.structure
    place = jnp.arange(graph.capacity)
    is_end = structure.alive & (place < graph.first_hidden)
    is_output = is_end & (place >= graph.num_inputs)
    link = structure.edge.any(0)
    leads = _until_still(
        is_output, lambda leads: is_output | (link & leads[:, None]).any(0)
    )
    return is_end | (structure.alive & leads & is_fed(graph))


def _until_still(start, sweep):
    """What a sweep over a set [N] bool that only grows, or only shrinks, ends with."""
    return jax.lax.while_loop(
        lambda state: jnp.any(state[0] != state[1]),
        lambda state: (state[1], sweep(state[1])),
        (start, sweep(start)),
    )[1]


def levels(edge: jax.Array, num_inputs: int) -> jax.Array:
    """Return the level of every neuron: 0 of inputs, else 1 + its highest source's.

    It is the length of the longest same-step path to a neuron, found by relaxation: sweeps
    over all edges at once until nothing moves, as many as the graph is deep. Without a
    cycle, paths never grow longer than there are neurons.

    A neuron without same-step sources, a free slot too, is at level 1. On a cycle it ends
    as well, with levels that `acyclic` tells from others.

    Args:
        edge: [N, N] bool same-step edges by destination and source, none into inputs.
        num_inputs: static int.

    Returns:
        level: [N] int32.
    """
    chex.assert_rank(edge, 2)
    size = edge.shape[0]
    is_input = jnp.arange(size) < num_inputs
    longest = size - num_inputs  # level without a cycle

    def sweep(level):
        below = jnp.where(edge, level, 0).max(1, initial=0)
        return jnp.where(is_input, 0, 1 + below)

    def unsettled(state):
        level, new = state
        return jnp.any(new != level) & (level.max(initial=0) <= longest)

    def advance(state):
        _, level = state
        return level, sweep(level)

    start = jnp.where(is_input, 0, 1).astype(jnp.int32)
    return jax.lax.while_loop(unsettled, advance, (start, sweep(start)))[1]


def acyclic(level: jax.Array, num_inputs: int) -> jax.Array:
    """Return whether the edges that gave `level` [N] have no cycle, [] bool."""
    chex.assert_rank(level, 1)
    return level.max(initial=0) <= level.shape[0] - num_inputs
