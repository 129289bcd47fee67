"""A log of a population: one JSON object per member that trained, and per decision."""

import os
from collections.abc import Iterator

import jax
import numpy as np

from optix.callbacks.base import Rounds
from optix.callbacks.jsonl import event_names
from optix.callbacks.records import Log, Record, line, read
from optix.types import Decision, Members, Phase, StepReport, StopReason, Verdict

_RELIED_ON = {"seed": int, "round": int, "member": int}


class MembersLog(Log):
    """Appends to a log of what the members of a population do.

    A line of a member says what it came to in the round; a line with "decision" says
    what the meta-controller decided of it, and by which figures.

    Args:
        path: the log file.
        rounds: per seed, how many rounds the run has behind it; lines of later rounds,
            which a resumed run plays again, are cut. None begins a new log.

    Raises:
        OptionError: the path is a folder.
    """

    relied_on = _RELIED_ON

    def lines(self, rounds: Rounds) -> Iterator[str]:
        """Yield the lines of each member that trained, and of each decision."""
        for seed, report in rounds:
            yield from map(line, _records(seed, report))


def read_members(path: str | os.PathLike) -> Iterator[Record]:
    """Yield the records of a log in order; lines that are none are left out."""
    return read(path, _RELIED_ON)


def _records(seed: int, report: StepReport) -> Iterator[Record]:
    """Yield the lines of a round: members by place, each with its decision behind it."""
    members: Members = report.members
    for place in np.flatnonzero(members.trained).tolist():
        row = jax.tree.map(lambda x: x[place], members._replace(spawns=()))  # noqa: B023
        about = {"seed": seed, "round": int(report.round), "member": place}
        yield {
            **about,
            "member_round": row.round,
            "env_steps": row.env_steps,
            "score": row.score,
            "best_score": row.best_score,
            "phase": Phase(int(row.phase)).name,
            "verdict": Verdict(int(row.verdict)).name,
            "events": event_names(int(row.events)),
            "stop_reason": StopReason(int(row.stop_reason)).name,
            "hyperparams": {n: v[place] for n, v in report.hyperparams.items()},
        }
        if row.decision != Decision.NONE:
            child = int(row.child)
            yield {
                **about,
                "decision": Decision(int(row.decision)).name,
                "gap": row.gap,
                "gap_slope": row.gap_slope,
                "gain_limit": row.gain_limit,
                "alive": bool(row.alive),
                "child": None if child < 0 else child,
                "parent": None if child < 0 else int(members.parent[child]),
                "reach": None if child < 0 else int(members.reach[child]),
                "spawns": members.spawns,
                "weights": np.where(members.alive, members.weight, 0.0),
            }
