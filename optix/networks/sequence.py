"""A network through time."""

import jax

from optix.trees import select_rows
from optix.types import Network, PyTree
from optix.xla.backend import time_unroll


def run_sequence(
    network: Network,
    params: PyTree,
    structure: PyTree,
    carry: PyTree,
    obs: PyTree,
    ended: jax.Array,
) -> tuple[PyTree, PyTree]:
    """Run a network over a window, its carry fresh after each step that ended.

    Args:
      network: its own `sequence` is used if it has one.
      params: of the network.
      structure: of the network.
      carry: [B, ...] before the first step.
      obs: [T, B, ...].
      ended: [T, B] bool, the step ended its episode.

    Returns:
      The carry [B, ...] after the last step, and the outputs [T, B, ...].
    """
    if network.sequence is not None:
        return network.sequence(params, structure, carry, obs, ended)
    fresh = network.initial_carry(ended.shape[1])

    def step(carry, inputs):
        obs, ended = inputs
        carry, out = network.apply(params, structure, carry, obs)
        return select_rows(ended, fresh, carry), out

    return jax.lax.scan(step, carry, (obs, ended), unroll=time_unroll())
