"""Learning without gradients: what fires together, wires together.

Every edge changes with the product of the outputs at its two ends, the earlier one as
long ago as the edge's delay, averaged over a window of experience.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.graph import NeuronGraph, effective_weights, raw_weight
from optix.neuroevo.growth.activity import graph_of, replay
from optix.trees import all_finite, select
from optix.types import Trajectory, Transform

RULES = ("decay", "oja")


class Coactivation(NamedTuple):
    """Means over all pairs of steps of one episode that a delay lies between."""

    product: jax.Array  # [D + 1, N, N] float32 of post and pre, by delay, post, pre
    square: jax.Array  # [D + 1, N] float32 of post squared, by delay
    pairs: jax.Array  # [D + 1] float32 their number


def coactivation(outputs: jax.Array, ended: jax.Array, max_delay: int) -> Coactivation:
    """Return how the neurons fired together.

    Args:
      outputs: [T, B, N] outputs of all neurons.
      ended: [T, B] bool: the step was the last of its episode.
      max_delay: static int, D.
    """
    chex.assert_rank([outputs, ended], [3, 2])
    # the number of episodes over before each step
    episode = jnp.cumsum(ended, axis=0) - ended
    rows = []
    for delay in range(max_delay + 1):
        length = max(len(outputs) - delay, 0)
        post, pre = outputs[delay:], outputs[:length]
        together = (episode[delay:] == episode[:length]).astype(outputs.dtype)
        post_together = post * together[..., None]
        pairs = together.sum()
        count = jnp.maximum(pairs, 1)
        rows.append(
            Coactivation(
                jnp.einsum("tbi,tbj->ij", post_together, pre) / count,
                jnp.sum(post_together * post, (0, 1)) / count,
                pairs,
            )
        )
    return jax.tree.map(lambda *parts: jnp.stack(parts), *rows)


def hebbian_step(
    graph: NeuronGraph,
    active: Coactivation,
    rate: jax.Array | float,
    decay: jax.Array | float = 0.0,
    *,
    rule: str = "decay",
    clip: float | None = None,
) -> NeuronGraph:
    """Return the graph after one step of a rule, for living edges only.

    With "decay" a weight changes by `rate * mean(post pre) - decay * w`, and grows up to
    `rate / decay * mean(post pre)`; with "oja" (https://doi.org/10.1007/BF00275687) by
    `rate * mean(post (pre - post w)) - decay * w`, and stays bounded by itself. Weights
    are effective ones: a neuron's sign by Dale's law is kept. Where a delay has no pair
    in the window nothing changes.

    Args:
      graph: with max_delay D.
      active: of the window.
      rate: of learning; may be traced.
      decay: of the weights; may be traced.
      rule: "decay" or "oja".
      clip: the largest size of a weight that the rule leaves.

    >>> from optix.neuroevo.graph.build import GraphBuilder
    >>> builder = GraphBuilder()
    >>> source, target = builder.add_neuron("input"), builder.add_neuron("output")
    >>> builder.add_edge(source, target, weight=0.5)
    >>> graph = builder.build()
    >>> outputs = jnp.array([[[2.0, 1.0]], [[-2.0, -1.0]]])
    >>> active = coactivation(outputs, jnp.zeros((2, 1), bool), graph.max_delay)
    >>> graph = jax.jit(hebbian_step)(graph, active, rate=0.1)
    >>> round(float(graph.weights.edge[0, target, source]), 3)
    0.7
    """
    weights, structure = graph.weights, graph.structure
    before = effective_weights(weights, structure, graph.dale)
    growth = active.product
    if rule == "oja":
        growth = growth - active.square[:, :, None] * before
    after = before + rate * growth - decay * before
    if clip is not None:
        after = jnp.clip(after, -clip, clip)
    raw = raw_weight(after, structure.sign, graph.dale)
    # not to lose digits, nor theta far below 0, where nothing happens
    changed = structure.edge & (active.pairs > 0)[:, None, None] & (after != before)
    edge = jnp.where(changed, raw, weights.edge)
    return graph.replace(weights=weights._replace(edge=edge))


def hebbian(
    graph: NeuronGraph,
    *,
    rule: str = "decay",
    rate: float = 1e-3,
    decay: float | None = None,
    clip: float | None = None,
) -> Transform:
    """Return the transform that lets a graph learn by its own activity.

    After each round it runs the policy's graph over the round's last window again,
    with observations as the agent sees them, and takes one step of `hebbian_step`.
    `hebbian/rate` and `hebbian/decay` are tunable like any hyperparameter.

    Args:
      graph: that the policy began with.
      rule: "decay" or "oja".
      rate: default of "hebbian/rate".
      decay: default of "hebbian/decay"; None is 1e-4, and 0 of "oja", which needs none.
      clip: the largest size of a weight that the rule leaves.

    Raises:
      ValueError: something else than a graph, an unknown rule, floats out of range; from
        `update`, a report without a trajectory.

    >>> from optix.neuroevo.graph.build import layered
    >>> hebbian(layered(4, (8,), 3), rule="oja").hyperparams
    {'hebbian/rate': 0.001, 'hebbian/decay': 0.0}
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    if rule not in RULES:
        raise checks.OptionError(f"rule must be one of {RULES}, got {rule!r}")
    if clip is not None:
        checks.within("clip", clip, 0.0, float("inf"), open_ends=True)
    if decay is None:
        decay = 0.0 if rule == "oja" else 1e-4
    defaults = {
        "hebbian/rate": checks.within("rate", rate, 0.0, 1e9),
        "hebbian/decay": checks.within("decay", decay, 0.0, 1.0),
    }

    def update(state, policy, rollout, report, signals):
        trajectory = report.trajectory
        checks.record(
            "trajectory",
            trajectory,
            Trajectory,
            "use a learner that reports what it saw",
        )
        own = graph_of(graph, policy)
        ended = trajectory.terminated | trajectory.truncated
        active = coactivation(replay(graph, policy, trajectory), ended, graph.max_delay)
        learned = hebbian_step(
            own,
            active,
            signals.hyperparams["hebbian/rate"],
            signals.hyperparams["hebbian/decay"],
            rule=rule,
            clip=clip,
        )
        sound = report.finite & all_finite(learned.weights)
        weights = select(sound, learned.weights, own.weights)
        return state, policy._replace(params=weights), rollout, {}

    return Transform(lambda policy: (), update, defaults)
