"""Do the gradients of a neuron point somewhere, or do they only shake?

A gradient that is not zero proves nothing: minibatches are noisy. Adam keeps what tells:
of an entry whose gradients are noise, the mean is small against the root mean square,
and how small is known. The scale of the loss drops out.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.graph import Structure, Weights
from optix.neuroevo.graph.optimizer import seen_share
from optix.types import PyTree

_LEAST_CHANCE = 1e-30  # that float32 holds, with room for its reciprocal


class GradientMoments(NamedTuple):
    """What Adam knows of the gradients of a graph."""

    mu: Weights  # decaying mean, not corrected
    nu: Weights  # decaying mean of squares, not corrected
    count: Weights | jax.Array  # int32 gradients, by entry or of all
    decays: jax.Array | tuple[float, float] = (0.9, 0.999)  # of the two means


def gradient_moments(opt_state: PyTree) -> GradientMoments:
    """Return the moments in the optimizer state of a graph's policy.

    Raises:
      ValueError: no moments, several, those of something else than a graph, or of an
        Adam that does not follow a graph.
    """
    found = jax.tree.leaves(opt_state, is_leaf=_has_moments)
    found = [state for state in found if _has_moments(state)]
    if len(found) != 1:
        raise checks.OptionError(
            "the optimizer state must hold one Adam's mu, nu and count, got "
            f"{len(found)}; give the agent optimizer=graph_optimizer, and here the state "
            "of the graph's part"
        )
    mu, nu, count = found[0].mu, found[0].nu, found[0].count
    if not hasattr(found[0], "decays"):
        raise checks.OptionError(
            "the optimizer must say how its means decay, and forget what has changed, got "
            f"{type(found[0]).__name__}; give the agent optimizer=graph_optimizer, or "
            "topology_adam in a chain of your own"
        )
    if not isinstance(mu, Weights):
        raise checks.OptionError(
            f"the moments must be of a graph's Weights, got {type(mu).__name__}; an Adam "
            "inside optax.flatten has lost them: give the agent optimizer=graph_optimizer"
        )
    return GradientMoments(mu, nu, count, found[0].decays)


def utilised(
    structure: Structure,
    moments: GradientMoments,
    level: float | jax.Array = 0.05,
) -> jax.Array:
    """Return which neurons have gradients that noise does not explain, [N] bool.

    With equal chances of all gradients, the weights of a decaying mean have a sum of
    squares v(b, count), so that of noise mu^2 / nu is v(b1) times the square of a
    Student t of about 1 / v(b2) - 1 degrees of freedom. The chances p of a neuron's
    living edges, its bias and its gates are combined to the mean of cot(pi p), which for
    p of noise is Cauchy distributed, whether they are independent or equal, and nearly so
    between (https://arxiv.org/abs/1808.09011): the gradients of the edges into one
    neuron hang together. A mean of mu^2 / nu itself, with a quantile for independent
    edges, takes up to 20 % of noise for gradients.

    Of noise 5 % of neurons count as utilised at the default level: 3 to 7 % by
    simulation, with 1 to 20 edges of any correlation, 10 to 500 gradients; up to 11 %
    with the heavy tails of a Student t of 4 degrees.

    Args:
      structure: of the graph.
      moments: of its gradients.
      level: share of neurons that noise may pass off as utilised; may be traced.
    """
    chex.assert_rank([structure.edge, moments.mu.edge], 3)
    count, (b1, b2) = moments.count, moments.decays
    if not isinstance(count, Weights):
        count = Weights(count, count, count)
    score = jax.tree.map(
        lambda mu, nu, count: _cotangent(mu, nu, count, b1, b2),
        moments.mu,
        moments.nu,
        count,
    )
    # an entry without any gradient is no evidence
    known = jax.tree.map(lambda nu: nu > 0, moments.nu)
    known = known._replace(edge=known.edge & structure.edge)
    score = jax.tree.map(lambda x, known: jnp.where(known, x, 0.0), score, known)
    total = _by_neuron(score, structure)
    number = _by_neuron(known, structure)
    mean = total / jnp.maximum(number, 1)
    return structure.alive & (number > 0) & (mean > 1 / jnp.tan(jnp.pi * level))


def _cotangent(mu, nu, count, b1, b2):
    """cot(pi p) of the chance p of such a mean by noise; around 0, large if unlikely."""
    count = jnp.maximum(count, 1)
    share_one, share_two = (seen_share(b, count, mu.dtype) for b in (b1, b2))
    mean, square = mu / share_one, nu / share_two
    squares_one, squares_two = (
        (1 - b) / (1 + b) * (2 - share) / share
        for b, share in ((b1, share_one), (b2, share_two))
    )
    # the ratio first: squares of tiny gradients leave the range
    ratio = jnp.square(mean / jnp.sqrt(jnp.where(square > 0, square, 1.0)))
    # in units of its largest value, a Beta variable of noise
    part = jnp.minimum(ratio * squares_two / squares_one, 1 - 1e-6)
    degrees = 1 / squares_two - 1
    # Student t to normal, by Wallace's approximation
    normal = (8 * degrees + 1) / (8 * degrees + 3)
    normal = normal * jnp.sqrt(degrees * -jnp.log1p(-part))
    chance = jax.lax.erfc(normal / jnp.sqrt(2.0).astype(mu.dtype))
    # of the nearest to certain, a finite loss
    return 1 / jnp.tan(jnp.pi * jnp.clip(chance, _LEAST_CHANCE, 0.999))


def _by_neuron(entries: Weights, structure: Structure) -> jax.Array:
    """The sum over the edges into and out of each neuron, its bias and gates, [N]."""
    entries = jax.tree.map(lambda x: x.astype(jnp.float32), entries)
    total = entries.edge.sum((0, 2)) + entries.edge.sum((0, 1)) + entries.bias
    return total.at[structure.cell].add(entries.gate.sum((0, 1)), mode="drop")


def _has_moments(state: Any) -> bool:
    return all(hasattr(state, name) for name in ("mu", "nu", "count"))
