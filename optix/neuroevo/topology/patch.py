"""What a change of topology does to an episode that is under way.

A graph remembers: past outputs, read by delayed edges, and the states of gated cells. A
changed graph goes on as if it had always been so when every neuron's memory is taken from
the neuron that it came from, shifted by the delay between the two.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix.neuroevo.graph.graph import NeuronGraph


class Patch(NamedTuple):
    """Where the memory of every slot comes from."""

    source: jax.Array  # [N] int32 neuron whose past becomes this one's, N for none
    shift: jax.Array  # [N] int32 how many steps before
    scale: jax.Array  # [N] float32 times what
    cell: jax.Array  # [G] int32 slot whose state becomes this one's, G for none


def no_patch(graph: NeuronGraph) -> Patch:
    """Return the patch that changes nothing."""
    size, cells = graph.capacity, graph.max_cells
    return Patch(
        source=jnp.arange(size, dtype=jnp.int32),
        shift=jnp.zeros(size, jnp.int32),
        scale=jnp.ones(size, jnp.float32),
        cell=jnp.arange(cells, dtype=jnp.int32),
    )


def apply_patch(carry: Any, patch: Patch) -> Any:
    """Return the carry for the changed graph.

    Args:
        carry: `Carry` of [..., D, N], [..., G] and [..., G], or () of a graph without
            memory.
        patch: of the mutation.
    """
    if carry == ():
        return ()
    past = jnp.arange(carry.history.shape[-2])[:, None] + patch.shift  # [D, N]

    def taken(x, *index):
        return jnp.asarray(x).at[(..., *index)].get(mode="fill", fill_value=0)

    return carry._replace(
        history=patch.scale * taken(carry.history, past, patch.source),
        h=taken(carry.h, patch.cell),
        c=taken(carry.c, patch.cell),
    )
