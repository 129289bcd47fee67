"""Playing the best policy of a run."""

import os
from typing import NamedTuple

import jax
import numpy as np

from optix import checks
from optix.run.folder import RunFolder
from optix.run.members import ensemble_of
from optix.run.playing import fresh_key, played
from optix.run.programs import own_errors
from optix.run.train import loop_to_read
from optix.types import Loop


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
    members: int = 1  # policies that played as one; seed and round are the best one's

    @property
    def message(self) -> str:
        """The figures in a sentence."""
        whose = "policy" if self.members == 1 else f"ensemble of {self.members}, best"
        stored = f"for which the run reported {self.stored:.5g}"
        if not self.final:
            stored = f"chosen by its score of {self.stored:.5g} in that round"
        return (
            f"score {self.mean:.5g} (mean of {len(self.scores)} episodes), "
            f"sd {self.sd:.3g}, 95 % confidence interval [{self.low:.5g}, "
            f"{self.high:.5g}]; {whose} of seed {self.seed}, round {self.round}, {stored}"
        )


def evaluate(
    directory: str | os.PathLike,
    episodes: int = 100,
    *,
    loop: Loop | None = None,
    seed: int = 0,
    ensemble: int | None = None,
) -> Evaluation:
    """Play the policy that a run reported, or its best so far, on fresh keys.

    The same seed gives the same episodes to it and to an ensemble.

    Args:
        directory: of the run.
        episodes: how many, side by side.
        loop: the loop of the run, needed only if `train` was given one. Then each score
            is one call of its learner's `evaluate`, a mean of as many episodes as that
            plays.
        seed: of the random numbers of these episodes.
        ensemble: let so many of the run's best policies act as one, as `load_ensemble`.

    Raises:
        RunFolderError: no run there, or one without a finite score yet.
        CheckpointError: no intact policy, or one of another configuration.
    """
    checks.positive_int("episodes", episodes, minimum=2)
    checks.positive_int("seed", seed, 0, 2**32 - 1)
    if ensemble is not None:
        checks.positive_int("ensemble", ensemble)
    folder = RunFolder.open(directory, write=False)
    by_name, loop = loop is None, loop_to_read(folder, loop, evaluation_episodes=1)
    agent, members = None, 1
    if ensemble is None:
        target = jax.eval_shape(lambda key: loop.init(key).best, jax.random.key(0))
        best, snapshot = folder.load_best(target, loop)
    else:
        agent, best, snapshots = ensemble_of(folder, loop, ensemble)
        snapshot, members = snapshots[0], len(snapshots)
    recipe = folder.config["recipe"] if by_name else None
    play = jax.jit(played(loop, episodes, recipe, agent))
    with own_errors(loop):
        scores = np.asarray(play(best, fresh_key(seed)))
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
        members=members,
    )


def _student(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.stats import t  # JAX itself depends on scipy; slow to import

    return float(t.ppf(0.975, degrees))
