"""The best policy of a run in the hands of its agent, and as a file of the agent's."""

import contextlib
import math
import secrets
import shutil
import warnings
from pathlib import Path

from optix.callbacks.base import EvalMetrics, PolicySnapshot
from optix.callbacks.jsonl import read_log
from optix.host.agent import BaseAgent, hand_over
from optix.types import Best, Loop


def give_best(agent: BaseAgent, loop: Loop, best: Best) -> None:
    """Give the agent the weights and the hyperparameters of a policy of its run."""
    store = loop.learner.host
    if store is None or not callable(agent_of := getattr(store, "agent_of", None)):
        raise TypeError(
            f"{type(store).__name__} can not give an agent its weights: it has no agent_of"
        )
    agent_of(best.policy)
    hand_over(agent, best.hyperparams)
    if callable(release := getattr(store, "release", None)):
        release()  # from now on the agent is its owner's, who may change its weights


def snapshot_of(
    agent: BaseAgent, best: Best, folder: Path, keep: int
) -> PolicySnapshot:
    """Return the best policy that the agent now has, and write its weights.

    Args:
        agent: as `give_best` left it.
        best: that policy.
        folder: of the run; its log knows the round.
        keep: as of `write_weights`.
    """
    number, metrics = int(best.round), {}
    with contextlib.suppress(FileNotFoundError):
        for record in read_log(folder / "log.jsonl"):
            if record["round"] == number:
                metrics = record.get("metrics", {})
    numbers = {n: math.nan if v is None else float(v) for n, v in metrics.items()}
    path = None
    try:
        path = write_weights(agent, folder / "weights", number, keep)
    except Exception as error:  # the run has its result all the same
        warnings.warn(
            f"{type(agent).__name__}.save_weights raised {error!r}: best_snapshot has no "
            "weights_path",
            RuntimeWarning,
            stacklevel=4,
        )
    evaluated = EvalMetrics(float(best.score), numbers, number, 0, None)
    return PolicySnapshot(evaluated, dict(agent.get_hyperparams().params), path)


def write_weights(agent: BaseAgent, folder: Path, number: int, keep: int) -> Path:
    """Write the weights that the agent has now; return what `load_weights` takes.

    They appear as a whole. The latest `keep` of them stay, each in a folder of its own.

    Args:
        agent: writes by `save_weights`.
        folder: of all of them.
        number: what tells them apart: the round of the policy.
        keep: how many stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    fresh = folder / f".new-{secrets.token_hex(4)}"
    fresh.mkdir()
    try:
        agent.save_weights(str(fresh / "weights"))
        place = folder / str(number)
        if place.exists():
            old = folder / f".new-{secrets.token_hex(4)}"
            place.rename(old)
            fresh.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(place)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    others = sorted(
        (other for other in folder.iterdir() if other.name.isdigit()),
        key=lambda other: other.stat().st_mtime_ns,
    )
    for old in others[:-keep]:
        if old != place:
            with contextlib.suppress(OSError):
                shutil.rmtree(old)
    return place / "weights"
