"""Episodes of a run's policies on keys that the run has never seen."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from optix.learners.evaluate import episode_returns, evaluator
from optix.types import Agent, Best, Loop

_SIDE_BY_SIDE = 16  # environments of Gymnasium
_NO_ROUND = 2**31 - 1  # folded into the key: no round of a run has this number


def fresh_key(seed: int) -> jax.Array:
    """Return a key that no run has used."""
    return jax.random.fold_in(jax.random.key(seed), _NO_ROUND)


def played(
    loop: Loop,
    episodes: int,
    recipe: Mapping[str, Any] | None,
    agent: Agent | None = None,
) -> Callable[[Best, jax.Array], jax.Array]:
    """Return `(best, key) -> [episodes]`, the scores.

    Args:
        loop: of the run; one made by name scores single episodes.
        episodes: how many.
        recipe: of a run that was made by name, None of another.
        agent: that plays in place of the run's, in the run's environment; it gets the
            same episodes if the run scores single ones.
    """
    learner = loop.learner
    env, deterministic = learner.env, True
    if recipe:
        deterministic = recipe["options"].get("deterministic_evaluation", True)
    player = agent or learner.agent
    if recipe and player is not None and env is not None and env.host is not None:
        # side by side in as many environments, and again until there are enough
        together = min(episodes, _SIDE_BY_SIDE)
        times = -(-episodes // together)
        score = episode_returns(
            player, env, episodes=together, deterministic=deterministic
        )
    elif agent is not None and env is not None:
        times = episodes
        score = evaluator(agent, env, episodes=1, deterministic=deterministic)
    else:
        times, score = episodes, learner.evaluate

    def play(best, key):
        keys = jax.random.split(key, times)
        if learner.host is None:
            return jax.vmap(score, (None, None, 0))(best.policy, best.hyperparams, keys)
        scores = jax.lax.map(
            lambda key: score(best.policy, best.hyperparams, key), keys
        )
        return scores.reshape(-1)[:episodes]

    return play
