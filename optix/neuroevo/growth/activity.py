"""What a graph's neurons did in a window of experience."""

import jax.numpy as jnp

from optix.math.running import standardize
from optix.neuroevo.graph.graph import NeuronGraph, Structure
from optix.neuroevo.graph.network import trace
from optix.trees import take
from optix.types import Policy, PyTree, Trajectory


def graph_of(graph: NeuronGraph, policy: Policy) -> NeuronGraph:
    """Return the graph that a policy is now; `graph` is the one it began with.

    Raises:
      ValueError: the policy's network is no graph, or one with other room.
    """
    own, given = _room(policy.structure), _room(graph.structure)
    if own != given:
        raise ValueError(
            "a transform must be given the graph that the policy began with, got one of "
            f"(delays, neurons, cells) {given} for a policy of {own}; give the loop the "
            "same graph as network="
        )
    return graph.replace(weights=policy.params, structure=policy.structure)


def replay(graph: NeuronGraph, policy: Policy, trajectory: Trajectory) -> PyTree:
    """Return the outputs [T, B, N] of all neurons of a policy on a window.

    Observations are normalised as the policy's agent has seen them. A graph with a memory
    starts from the carry that acting had.
    """
    obs = trajectory.obs
    moments = getattr(policy.extras, "observations", None)
    if moments is not None:
        # an agent that does not normalise leaves its moments empty
        obs = jnp.where(moments.count > 0, standardize(moments, obs), obs)
    carry = take(trajectory.extras["carry"], 0) if graph.recurrent else ()
    ended = trajectory.terminated | trajectory.truncated
    return trace(graph_of(graph, policy), carry, obs, ended)[1]


def _room(structure):
    """Delays, neurons and cells that there is room for, None of another network."""
    if not isinstance(structure, Structure):
        return None
    return *structure.edge.shape[-3:-1], structure.cell.shape[-1]
