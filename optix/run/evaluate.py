"""Playing the best policy of a run."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.learners.evaluate import episode_returns
from optix.run.folder import RunFolder
from optix.run.programs import own_errors
from optix.run.train import loop_of
from optix.types import Best, Loop

_SIDE_BY_SIDE = 16  # environments of Gymnasium
_NO_ROUND = 2**31 - 1  # folded into the key: no round of a run has this number


class Evaluation(NamedTuple):
    """How the best policy of a run played."""

    scores: np.ndarray  # [episodes] float32
    mean: float
    sd: float
    low: float  # of the 95 % confidence interval of the mean (Student's t)
    high: float
    seed: int  # the seed of the run that the policy is from
    round: int  # and the round
    stored: float  # the score that the run has for it
    final: bool  # whether that is the one it reported at its end

    @property
    def message(self) -> str:
        """The figures in a sentence."""
        stored = f"for which the run reported {self.stored:.5g}"
        if not self.final:
            stored = f"chosen by its score of {self.stored:.5g} in that round"
        return (
            f"score {self.mean:.5g} (mean of {len(self.scores)} episodes), "
            f"sd {self.sd:.3g}, 95 % confidence interval [{self.low:.5g}, "
            f"{self.high:.5g}]; policy of seed {self.seed}, round {self.round}, {stored}"
        )


def evaluate(
    directory: str | os.PathLike,
    episodes: int = 100,
    *,
    loop: Loop | None = None,
    seed: int = 0,
) -> Evaluation:
    """Play the policy that a run reported, or its best so far, on fresh keys.

    Args:
        directory: of the run.
        episodes: how many, side by side.
        loop: the loop of the run, needed only if `train` was given one. Then each score
            is one call of its learner's `evaluate`, a mean of as many episodes as that
            plays.
        seed: of the random numbers of these episodes.

    Raises:
        RunFolderError: no run there, or one without a finite score yet.
        CheckpointError: no intact policy, or one of another configuration.
    """
    checks.positive_int("episodes", episodes, minimum=2)
    checks.positive_int("seed", seed, 0, 2**32 - 1)
    folder = RunFolder.open(directory, write=False)
    by_name, loop = loop is None, loop_of(folder, loop, evaluation_episodes=1)
    target = jax.eval_shape(lambda key: loop.init(key).best, jax.random.key(0))
    best, snapshot = folder.load_best(target, loop)
    key = jax.random.fold_in(jax.random.key(seed), _NO_ROUND)
    play = jax.jit(
        _played(loop, episodes, folder.config["recipe"] if by_name else None)
    )
    with own_errors(loop):
        scores = np.asarray(play(best, key))
    mean, sd = float(scores.mean()), float(scores.std(ddof=1))
    margin = _student(episodes - 1) * sd / episodes**0.5
    about = snapshot.metadata
    return Evaluation(
        scores=scores,
        mean=mean,
        sd=sd,
        low=mean - margin,
        high=mean + margin,
        seed=about["seed"],
        round=about["round"],
        stored=float(best.score),
        final=about.get("final", False),
    )


def _played(
    loop: Loop, episodes: int, recipe: Mapping[str, Any] | None
) -> Callable[[Best, jax.Array], jax.Array]:
    """Return `(best, key) -> [episodes]`, the scores."""
    learner = loop.learner
    agent, env = learner.agent, learner.env
    if recipe and agent is not None and env is not None and env.host is not None:
        # side by side in as many environments, and again until there are enough
        together = min(episodes, _SIDE_BY_SIDE)
        deterministic = recipe["options"].get("deterministic_evaluation", True)
        times = -(-episodes // together)
        score = episode_returns(
            agent, env, episodes=together, deterministic=deterministic
        )
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


def _student(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.stats import t  # JAX itself depends on scipy; slow to import

    return float(t.ppf(0.975, degrees))
