"""What a graph's neurons did in a window of experience."""

import jax.numpy as jnp

from optix.math.masks import observed
from optix.math.running import standardize
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.graph.network import graph_of, trace
from optix.trees import take
from optix.types import Policy, PyTree, Trajectory


def replay(graph: NeuronGraph, policy: Policy, trajectory: Trajectory) -> PyTree:
    """Return the outputs [T, B, N] of all neurons of a policy on a window.

    Observations are normalised as the policy's agent has seen them. A graph with a memory
    starts from the carry that acting had.
    """
    obs = observed(trajectory.obs)
    moments = getattr(policy.extras, "observations", None)
    if moments is not None:
        # an agent that does not normalise leaves its moments empty
        obs = jnp.where(moments.count > 0, standardize(moments, obs), obs)
    carry = take(trajectory.extras["carry"], 0) if graph.recurrent else ()
    ended = trajectory.terminated | trajectory.truncated
    return trace(graph_of(graph, policy), carry, obs, ended)[1]
