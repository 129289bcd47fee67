"""Whether a region should grow: the trigger, and the conditions that must hold together.

1. flat: less than so many of the scores' standard deviations are left to gain;
2. structured: around a smooth curve they still hang together: something is there that the
   network does not get hold of;
3. utilised: the gradients of enough hidden neurons point somewhere: what is there is being
   used.

Whether scores that hang together show missing capacity is an assumption, not a law.
Compare with `trigger="random"`, which grows by chance with the same budget.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from optix.math.residuals import residual_test
from optix.math.statistics import slope_test
from optix.neuroevo.graph.graph import NeuronGraph, is_hidden, working
from optix.neuroevo.growth.gradients import gradient_moments, utilised
from optix.types import PyTree

CONDITIONS = ("flat", "structured", "utilised")
TRIGGERS = ("conditions", "random", "never")
# scores that the conditions look at: so many that, of scores that hang together, "less
# than one deviation to gain" can be said at all
WINDOW = 200


def by_chance(
    rested: jax.Array, limits: Mapping[str, jax.Array], key: jax.Array
) -> jax.Array:
    """Return which regions trigger "random" wants to grow, [R] bool.

    Args:
        rested: [R] int32 rounds since a region grew.
        limits: hyperparameters by name.
        key: of the round.
    """
    chance = jax.random.uniform(key) < limits["growth_rate"]
    return (rested >= limits["cooldown"]) & chance


def scores_agree(
    conditions: tuple[str, ...],
    scores: jax.Array,
    count: jax.Array,
    min_scores: int,
    limits: Mapping[str, jax.Array],
) -> jax.Array:
    """Return whether the scores meet those of the conditions that look at them, [] bool.

    Args:
        conditions: those that must hold.
        scores: [200] float32 oldest first.
        count: [] int32 of them since the last growth.
        min_scores: with fewer they say nothing.
        limits: hyperparameters by name.
    """
    agreed = count >= min_scores
    # the latest half, without what was learned before
    window = jnp.clip(count // 2, min_scores, WINDOW)
    if "flat" in conditions:
        agreed &= slope_test(scores, window).gain_limit < limits["gain_limit"]
    if "structured" in conditions:
        agreed &= residual_test(scores, window).z > limits["structure_limit"]
    return agreed


def shares_in_use(graph: NeuronGraph, opt_state: PyTree, num_regions: int) -> jax.Array:
    """Return the share of each region's hidden neurons that is in use, [R] float32.

    Those that do nothing are not counted; without any the share is 1.
    """
    busy = utilised(graph.structure, gradient_moments(opt_state))
    hidden = is_hidden(graph) & working(graph)
    regions = jnp.arange(num_regions)[:, None]
    own = hidden & (graph.structure.region == regions)  # [R, N]
    number = own.sum(1)
    share = (own & busy).sum(1) / jnp.maximum(number, 1)
    return jnp.where(number > 0, share, 1.0)
