"""The meta-controller: what follows where a member of a population trains no more."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop.convergence import assess
from optix.trees import take
from optix.types import Decision, Loop, LoopState


class Figures(NamedTuple):
    """What a decision is made from."""

    gap: jax.Array  # [] float32 train less validation, in standard errors
    gap_slope: jax.Array  # [] float32 how much wider it is than the best policy's
    gain_limit: jax.Array  # [] float32 upper limit of the gain over the window, in
    # residual standard deviations


class MetaController(NamedTuple):
    """What decides for a population.

    decide: `(figures, spawns_left [] int32) -> [] int32 Decision`; without spawns left
        SPAWN is taken for STOP.
    scores: how many keys the first two figures are measured on.
    """

    decide: Callable[[Figures, jax.Array], jax.Array]
    scores: int


def meta_controller(
    *,
    gap_threshold: float = 2.0,
    slope_threshold: float = 2.0,
    gain_threshold: float = 1.0,
    scores: int = 8,
) -> MetaController:
    """Return the meta-controller of tensor-optix, with figures that have no units.

    Asked of a member that has gone dormant, or has spent the budget of its loop:

    PRUNE where it has learned its training by heart: the last policy does better there
    than in validation, and that by more than the best one did. A gap alone is no sign of
    it, since an environment for validation may be harder for everyone.
    STOP where no spawn is left.
    SPAWN where it is flat: the upper limit of what it still gains is below
    `gain_threshold` standard deviations of its scores.
    GO_ON otherwise.

    The original divides differences by the mean score, so its ratios explode near 0, and
    is asked only where its budget is already spent.

    Args:
      gap_threshold: standard errors of the gap above which it counts.
      slope_threshold: likewise of how much it has widened.
      gain_threshold: residual standard deviations of the scores.
      scores: keys that gap and slope are measured on, each by one call of the training's
        score and one of the validation's, for the last and for the best policy.

    Raises:
      ValueError: thresholds that are not finite, fewer than two scores.

    >>> decide = meta_controller().decide
    >>> Decision(int(decide(Figures(0.0, 0.0, 0.5), 3))).name
    'SPAWN'
    """
    thresholds = {
        "gap_threshold": gap_threshold,
        "slope_threshold": slope_threshold,
        "gain_threshold": gain_threshold,
    }
    infinity = float("inf")
    for name, value in thresholds.items():
        checks.within(name, value, -infinity, infinity, open_ends=True)
    checks.positive_int("scores", scores, minimum=2)

    def decide(figures, spawns_left):
        wide = figures.gap > gap_threshold
        learned_by_heart = wide & (figures.gap_slope > slope_threshold)
        return jnp.select(
            [
                jnp.asarray(learned_by_heart),
                jnp.asarray(spawns_left <= 0),
                jnp.asarray(figures.gain_limit < gain_threshold),
            ],
            [Decision.PRUNE, Decision.STOP, Decision.SPAWN],
            Decision.GO_ON,
        ).astype(jnp.int32)

    return MetaController(decide, scores)


def measure(
    loop: Loop, member: LoopState, key: jax.Array, scores: int
) -> tuple[Figures, jax.Array]:
    """Return the figures of a member, and the residual deviation of its scores [].

    Where the loop has no other score than that of its training there is no gap, and
    nothing is played for it.
    """
    assessment = assess(member.history, member.best.score)
    if loop.score is loop.learner.evaluate:
        gap = slope = jnp.float32(0)
    else:
        last = take(member.learner.policy, 0), loop.tuner.centre(member.tuner)
        best = member.best.policy, member.best.hyperparams
        pair = jax.tree.map(lambda *x: jnp.stack(x), last, best)
        keys = jax.random.split(key, scores)

        def gaps(player):
            def of(score):
                return jax.vmap(score, in_axes=(None, None, 0))(*player, keys)

            return of(loop.learner.evaluate) - of(loop.score)

        # one after another, so that an evaluation is compiled once
        last_gaps, best_gaps = jax.lax.map(gaps, pair)
        gap = in_standard_errors(last_gaps)
        slope = in_standard_errors(last_gaps - best_gaps)
    return Figures(gap, slope, assessment.gain_limit), assessment.residual_sd


def in_standard_errors(values: jax.Array) -> jax.Array:
    """Return the mean of [N] values over its standard error, [] float32.

    What is not finite is left out; without two values it is 0, and where all are the same
    infinite, or 0 if they are.

    >>> in_standard_errors(jnp.array([1.0, 3.0])).tolist()
    2.0
    """
    finite = jnp.isfinite(values)
    count = finite.sum()
    values = jnp.where(finite, values, 0.0)
    mean = values.sum() / jnp.maximum(count, 1)
    squares = jnp.where(finite, (values - mean) ** 2, 0.0).sum()
    error = jnp.sqrt(squares / jnp.maximum(count * (count - 1), 1))
    ratio = mean / jnp.where(error > 0, error, 1.0)
    certain = jnp.where(mean == 0, 0.0, jnp.sign(mean) * jnp.inf)
    return jnp.where(count < 2, 0.0, jnp.where(error > 0, ratio, certain))
