"""Several of a run's best policies: acting as one, or averaged to one."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.checkpoints.record import Snapshot
from optix.host.slots import HostStore
from optix.population.average import average
from optix.population.ensemble import ensemble, join, stack
from optix.run.folder import RunFolder, RunFolderError
from optix.run.load import LoadedPolicy
from optix.run.playing import fresh_key, played
from optix.run.programs import own_errors
from optix.run.train import loop_to_read
from optix.trees import all_finite
from optix.types import Agent, Best, Environment, Loop


def load_ensemble(
    directory: str | os.PathLike,
    top_k: int = 5,
    *,
    score_band: float = 0.1,
    weights: Sequence[float] | None = None,
    loop: Loop | None = None,
    seed: int = 0,
) -> LoadedPolicy:
    """Return the best policies of a run, which act as one by their weighted mean.

    Those that the run keeps (`max_snapshots` of `train`), of all its seeds; the mean is
    as `optix.population.ensemble.ensemble` says. It has no score before it has played:
    `optix.evaluate(directory, ensemble=top_k)` lets it.

    Args:
        directory: of the run, which may still be under way.
        top_k: how many at most.
        score_band: how far below the best one's score another one's may be, in parts of
            its size; infinity takes all.
        weights: of the members, the best one first; None weighs all alike.
        loop: the loop of the run, needed only if `train` was given one.
        seed: of the actions that are drawn where `act` explores.

    Raises:
        RunFolderError: no run there, one without a finite score yet, or one of an agent
            outside JAX.
        CheckpointError: no intact policy, or those of another configuration.
        OptionError: weights that are none, or a number that is out of range.
    """
    folder = RunFolder.open(directory, write=False)
    loop = loop_to_read(folder, loop)
    agent, best, snapshots = ensemble_of(folder, loop, top_k, score_band, weights)
    _, env = parts_of(folder, loop)
    name = (folder.config["recipe"] or {}).get("agent")
    origin = f"ensemble of {len(snapshots)}, rounds " + _rounds(snapshots)
    best = best._replace(score=np.float32(np.nan))
    return LoadedPolicy(agent, env, best, seed, name, origin)


def load_average(
    directory: str | os.PathLike,
    top_k: int = 5,
    *,
    score_band: float = 0.1,
    episodes: int = 32,
    loop: Loop | None = None,
    seed: int = 0,
) -> LoadedPolicy:
    """Return the average of the best policies of a run, if it plays no worse.

    Parameters are averaged (https://arxiv.org/abs/1803.05407) over policies of the best
    one's seed and network; the normaliser is that of the newest. The average and the best
    one play the same fresh episodes, and the better one is returned: its `origin` says
    which, and its `score` is the mean of these episodes.

    Args:
        directory: of the run, which may still be under way.
        top_k: how many at most are averaged.
        score_band: as for `load_ensemble`.
        episodes: that each of the two plays; if `train` was given a loop, calls of its
            learner's `evaluate`.
        loop: the loop of the run, needed only if `train` was given one.
        seed: of these episodes, and of the actions that are drawn where `act` explores.

    Raises:
        RunFolderError: no run there, one without a finite score yet, or one of an agent
            outside JAX.
        CheckpointError: no intact policy, or those of another configuration.
        OptionError: a number that is out of range.
    """
    checks.positive_int("episodes", episodes, minimum=2)
    checks.positive_int("seed", seed, 0, 2**32 - 1)
    folder = RunFolder.open(directory, write=False)
    by_name, loop = loop is None, loop_to_read(folder, loop, evaluation_episodes=1)
    agent, env = parts_of(folder, loop)
    found = policies_of(folder, loop, top_k, score_band)
    best = found[0][0]
    alike = [pair for pair in found if _same_course(pair, found[0])]
    alike.sort(key=lambda pair: pair[1].metadata["round"])
    policies = stack([one.policy for one, _ in alike])
    mean = best._replace(policy=average(agent, policies))
    recipe = folder.config["recipe"] if by_name else None
    play = jax.jit(played(loop, episodes, recipe))
    with own_errors(loop):
        own, its = (np.asarray(play(one, fresh_key(seed))) for one in (best, mean))
    kept = np.isfinite(its).all() and not its.mean() < own.mean()
    kept &= len(alike) > 1 and bool(all_finite(mean.policy))
    words = (
        f"average of {len(alike)}, rounds {_rounds([s for _, s in alike])}, with "
        f"{its.mean():.5g} beside {own.mean():.5g} of the best one on the same "
        f"{episodes} episodes"
    )
    chosen, scores = (mean, its) if kept else (best, own)
    chosen = chosen._replace(score=np.float32(scores.mean()))
    origin = words if kept else f"the best one, kept before the {words}"
    return LoadedPolicy(agent, env, chosen, seed, (recipe or {}).get("agent"), origin)


def ensemble_of(
    folder: RunFolder,
    loop: Loop,
    top_k: int,
    score_band: float = 0.1,
    weights: Any = None,
) -> tuple[Agent, Best, list[Snapshot]]:
    """Return the agent of an ensemble, the best policy with its policy, and of whom."""
    agent, env = parts_of(folder, loop)
    found = policies_of(folder, loop, top_k, score_band)
    policies = stack([best.policy for best, _ in found])
    each = [best.hyperparams for best, _ in found]
    hyperparams = {
        name: np.stack([np.asarray(one[name]) for one in each])
        for name in agent.hyperparams
    }
    policy = join(agent, policies, weights, hyperparams=hyperparams)
    together = ensemble(agent, env.action_space, len(found))
    snapshots = [snapshot for _, snapshot in found]
    return together, found[0][0]._replace(policy=policy), snapshots


def policies_of(
    folder: RunFolder, loop: Loop, top_k: int, score_band: float
) -> list[tuple[Best, Snapshot]]:
    """Return the best policies of a run, the best one first."""
    target = jax.eval_shape(lambda key: loop.init(key).best, jax.random.key(0))
    return folder.load_ensemble(target, loop, top_k, score_band)


def parts_of(folder: RunFolder, loop: Loop) -> tuple[Agent, Environment]:
    """Return agent and environment of a run.

    Raises:
        RunFolderError: it has none, or they are outside JAX.
    """
    learner = loop.learner
    if isinstance(learner.host, HostStore):
        raise RunFolderError(
            f"{folder.path} holds policies of an agent outside JAX; optix.EnsembleAgent "
            "takes several such agents, and their average_weights averages files"
        )
    if learner.agent is None or learner.env is None:
        raise RunFolderError(
            f"{folder.path} holds a learner without an agent or an environment; only "
            "policies of an Agent act together"
        )
    return learner.agent, learner.env


def _same_course(one: tuple[Best, Snapshot], best: tuple[Best, Snapshot]) -> bool:
    """Return whether two policies are of one seed, and so of one course of training."""
    if one[1].metadata["seed"] != best[1].metadata["seed"]:
        return False
    structures = (x[0].policy.structure for x in (one, best))
    pairs = zip(*map(jax.tree.leaves, structures), strict=True)
    return all((np.asarray(x) == np.asarray(y)).all() for x, y in pairs)


def _rounds(snapshots: Sequence[Snapshot]) -> str:
    return ", ".join(str(s.metadata["round"] + 1) for s in snapshots)
