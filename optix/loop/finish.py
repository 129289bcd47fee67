"""The end of a run: which policy is kept, and its score."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from optix.trees import all_finite, select, take
from optix.types import MAX_INT32, Hyperparams, LoopState, Policy, Tuner


def finisher(
    score: Callable[[Policy, Hyperparams, jax.Array], jax.Array],
    tuner: Tuner,
    final_scores: int,
) -> Callable[[LoopState], LoopState]:
    """Return `(state) -> state` that keeps the better of the best and the last policy.

    The best of many noisy scores may be the luckiest. So the last policy challenges it on
    keys that are their own, and the better is scored again on keys that no choice has
    seen. Scores that are not finite are left out of a mean. A last policy that is not
    finite, or without a finite score, is no challenger; a best policy without one keeps
    the score of the run.

    Args:
      score: `(policy, hyperparams, key) -> []`.
      tuner: tells the hyperparameters of the last policy.
      final_scores: calls of `score` for each, and for the figure that is reported.
    """

    def finish(state):
        last = state.best._replace(
            policy=take(state.learner.policy, 0),
            transforms=take(state.transforms, 0),
            hyperparams=tuner.centre(state.tuner),
            round=jnp.maximum(state.round - 1, 0),
        )
        pool = jax.tree.map(lambda *x: jnp.stack(x), state.best, last)
        sound = jnp.stack([jnp.bool_(True), all_finite(last.policy), jnp.bool_(True)])
        # the round: where a finished run goes on, its score here is a choice's next time
        key = jax.random.fold_in(jax.random.fold_in(state.key, MAX_INT32), state.round)
        choice_key = jax.random.fold_in(key, MAX_INT32)

        def play(scores, turn):
            player = take(pool, jnp.where(turn < 2, turn, _better(scores)))
            keys = jax.random.split(jnp.where(turn < 2, choice_key, key), final_scores)
            values = jax.vmap(score, in_axes=(None, None, 0))(
                player.policy, player.hyperparams, keys
            )
            value = jnp.where(sound[turn], _finite_mean(values), -jnp.inf)
            return scores.at[turn].set(value), None

        # one turn after another, so that an evaluation is compiled once
        scores = jax.lax.scan(play, jnp.zeros(3, jnp.float32), jnp.arange(3))[0]
        choice = _better(scores)
        best = take(pool, choice)._replace(score=scores[2], choice_score=scores[choice])
        # what never had a finite score has nothing to score now; and what had one keeps
        # it where none of these is
        had = jnp.isfinite(state.best.score)
        sure = jnp.isfinite(scores[choice]) & jnp.isfinite(scores[2])
        best = select(had & sure, best, state.best)
        return state._replace(best=best)

    return finish


def _better(scores):
    """Which of the first two of `scores` is greater, [] int32; 0 if in doubt."""
    return (scores[1] > scores[0]).astype(jnp.int32)


def _finite_mean(values):
    """The mean of what is finite, -inf if nothing is."""
    finite = jnp.isfinite(values)
    total = jnp.where(finite, values, 0.0).sum()
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)
