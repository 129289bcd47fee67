"""A log of a population: one JSON object per member that trained, and per decision."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optix.callbacks.base import LoopCallback, Rounds
from optix.callbacks.jsonl import event_names, is_before, line
from optix.checks import OptionError
from optix.files import replacing
from optix.types import Decision, Members, Phase, StepReport, StopReason, Verdict


class MembersLog(LoopCallback):
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

    def __init__(self, path: str | os.PathLike, rounds: Sequence[int] | None = None):
        """See the class."""
        self.path = Path(path)
        if self.path.is_dir():
            raise OptionError(f"the log must be a file, {self.path} is a folder")
        with replacing(self.path) as file:
            if rounds is not None and self.path.exists():
                for record in read_members(self.path):
                    if is_before(record, rounds):
                        file.write(line(record).encode())
        self._file = None

    def on_loop_start(self) -> None:
        """Open the log."""
        self._file = self.path.open("a", encoding="utf-8")

    def on_loop_stop(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()

    def on_rounds(self, rounds: Rounds) -> None:
        """Write the rounds of a dispatch, at once."""
        if self._file is None:
            raise RuntimeError("on_loop_start must come before on_rounds")
        for seed, report in rounds:
            self._file.writelines(line(record) for record in _records(seed, report))
        self._file.flush()


def read_members(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yield the records of a log in order; lines that are none are left out."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                record = json.loads(text)
            except (ValueError, RecursionError):
                continue
            numbers = ("seed", "round", "member")
            if isinstance(record, dict) and all(
                type(record.get(name)) is int and record[name] >= 0 for name in numbers
            ):
                yield record


def _records(seed: int, report: StepReport) -> Iterator[dict[str, Any]]:
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
