"""Order among neurons without sorting: how far each is from the inputs within a step.

Only same-step edges order neurons. A level is the length of the longest path to a neuron,
found by relaxation: sweeps over all edges at once until nothing moves, as many as the
graph is deep. Paths of one step never grow longer than there are neurons; where they do,
there is a cycle.
"""

import chex
import jax
import jax.numpy as jnp


def levels(edge: jax.Array, num_inputs: int) -> jax.Array:
    """Return the level of every neuron: 0 of inputs, else 1 + its highest source's.

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
