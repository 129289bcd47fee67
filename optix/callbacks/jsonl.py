"""A log with one JSON object per round and seed."""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import EvalMetrics, LoopCallback
from optix.types import Event, Phase, StopReason, Verdict


class JsonlLog(LoopCallback):
    """Appends to a log that `read_log` and most tools for tables can read.

    Numbers that are not finite become null. A torn last line, left by a process that
    was killed, is dropped when the log is opened again.

    Args:
        path: the log file.
        rounds: per seed, how many rounds the run has behind it; lines of later rounds,
            which a resumed run plays again, are cut. None begins a new log.

    Example:
        >>> import tempfile
        >>> log = JsonlLog(Path(tempfile.mkdtemp()) / "log.jsonl")
        >>> log.on_loop_start(); log.on_loop_stop(); list(read_log(log.path))
        []
    """

    def __init__(self, path: str | os.PathLike, rounds: Sequence[int] | None = None):
        """See the class."""
        self.path = Path(path)
        kept = []
        if rounds is not None and self.path.exists():
            kept = [r for r in read_log(self.path) if r["round"] < rounds[r["seed"]]]
        cut = self.path.with_name(f"{self.path.name}.tmp")
        with cut.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in kept)
        cut.replace(self.path)
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
    """Yield the records of a log in order; a torn line is left out."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                if line.endswith("\n"):
                    yield json.loads(line)


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
