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

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.cells import is_gated

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
    kind: jax.Array  # [N] int8 place in KINDS
    sign: jax.Array  # [N] int8 1 excitatory, -1 inhibitory, 0 any (Dale's law)
    region: jax.Array  # [N] int8 of a brain
    level: jax.Array  # [N] int32 0 of inputs, else 1 + the highest same-step source's
    cell: jax.Array  # [G] int32 the neuron in each slot of the gates, N if it is free
    version: Weights  # uint8 each, one more for every change of the entry


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "structure"],
    meta_fields=["num_inputs", "num_outputs", "dale"],
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
    """

    weights: Weights
    structure: Structure
    num_inputs: int
    num_outputs: int
    dale: str = "clamp"

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


def num_cells(structure: Structure) -> jax.Array:
    """Return the number of gated cells, [] int32."""
    return (structure.alive & is_gated(structure.kind)).sum(-1, dtype=jnp.int32)
