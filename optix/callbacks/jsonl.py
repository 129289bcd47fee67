"""A log with one JSON object per round and seed."""

import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import EvalMetrics, LoopCallback
from optix.checks import OptionError
from optix.types import Event, Phase, StopReason, Verdict

_NUMBER = int | float | None
_RELIED_ON = {  # of a record, and its kind; counts are >= 0
    "seed": int,
    "round": int,
    "env_steps": int,
    "score": _NUMBER,
    "best_score": _NUMBER,
    "phase": str,
    "events": list,
    "stop_reason": str,
}


class JsonlLog(LoopCallback):
    """Appends to a log that `read_log` and most tools for tables can read.

    Numbers that are not finite become null. Lines that are no record, such as a torn one
    left by a process that was killed, are dropped when the log is opened again; a
    warning tells of rounds that are missing.

    Args:
        path: the log file.
        rounds: per seed, how many rounds the run has behind it; lines of later rounds,
            which a resumed run plays again, are cut. None begins a new log.

    Raises:
        OptionError: the path is a folder.

    Example:
        >>> import tempfile
        >>> log = JsonlLog(Path(tempfile.mkdtemp()) / "log.jsonl")
        >>> log.on_loop_start(); log.on_loop_stop(); list(read_log(log.path))
        []
    """

    def __init__(self, path: str | os.PathLike, rounds: Sequence[int] | None = None):
        """See the class."""
        self.path = Path(path)
        if self.path.is_dir():
            raise OptionError(f"the log must be a file, {self.path} is a folder")
        cut, kept = self.path.with_name(f"{self.path.name}.tmp"), 0
        with cut.open("w", encoding="utf-8") as file:
            if rounds is not None and self.path.exists():
                for record in read_log(self.path):  # one at a time: logs may be long
                    if _is_before(record, rounds):
                        file.write(_line(record))
                        kept += 1
        cut.replace(self.path)
        missing = sum(rounds or ()) - kept
        if missing > 0:
            warnings.warn(
                f"{self.path} lacks {missing} of the rounds that were played; the run "
                "needs none of them, but log and learning curve stay without",
                stacklevel=2,
            )
        self._file = None

    def on_loop_start(self) -> None:
        """Open the log."""
        self._file = self.path.open("a", encoding="utf-8")

    def on_loop_stop(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Write the round, at once."""
        if self._file is None:
            raise RuntimeError("on_loop_start must come before on_episode_end")
        self._file.write(_line(_record(eval_metrics)))
        self._file.flush()


def read_log(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Yield the records of a log in order; lines that are none are left out."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line, parse_constant=_refuse)
            except (ValueError, RecursionError):
                continue
            if line.endswith("\n") and _is_record(record):
                yield record


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _is_record(value: Any) -> bool:
    """Return whether a line says what every reader of a log relies on."""
    return isinstance(value, dict) and all(
        isinstance(value.get(name), kinds)
        and not isinstance(value.get(name), bool)
        and (kinds is not int or value[name] >= 0)
        for name, kinds in _RELIED_ON.items()
    )


def _is_before(record: dict[str, Any], rounds: Sequence[int]) -> bool:
    seed = record["seed"]
    return seed < len(rounds) and record["round"] < rounds[seed]


def _record(evaluated: EvalMetrics) -> dict[str, Any]:
    report = evaluated.report
    return {
        "seed": evaluated.seed,
        "round": evaluated.episode_id,
        "env_steps": report.env_steps,
        "score": report.score,
        "best_score": report.best_score,
        "lane_scores": report.lane_scores,
        "phase": Phase(int(report.phase)).name,
        "verdict": Verdict(int(report.verdict)).name,
        "events": [event.name for event in Event(int(report.events))],
        "stop_reason": StopReason(int(report.stop_reason)).name,
        "hyperparams": report.centre,
        "metrics": evaluated.metrics,
        "time": time.time(),
    }


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return what JSON can hold: NumPy as Python numbers, NaN and infinity as None."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
