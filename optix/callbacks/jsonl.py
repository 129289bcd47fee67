"""A log with one JSON object per round and seed."""

import enum
import functools
import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import LoopCallback, Rounds
from optix.checks import OptionError
from optix.files import replacing
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
        kept = 0
        with replacing(self.path) as file:
            if rounds is not None and self.path.exists():
                for record in read_log(self.path):  # one at a time: logs may be long
                    if is_before(record, rounds):
                        file.write(line(record).encode())
                        kept += 1
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

    def on_rounds(self, rounds: Rounds) -> None:
        """Write the rounds of a dispatch, at once."""
        if self._file is None:
            raise RuntimeError("on_loop_start must come before on_rounds")
        self._file.write("\n".join([*_records(rounds), ""]))
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


def is_before(record: dict[str, Any], rounds: Sequence[int]) -> bool:
    """Return whether a record is of a round that a run has behind it, by seed."""
    seed = record["seed"]
    return seed < len(rounds) and record["round"] < rounds[seed]


def _records(rounds: Rounds) -> list[str]:
    """Return one JSON object per round, made column by column: 20 times as fast."""
    report, count = rounds.reports, len(rounds)
    metrics = {n: v.astype(np.float64) for n, v in report.metrics.items()}
    return _objects(
        {
            "seed": _values(rounds.seeds),
            "round": _values(report.round),
            "env_steps": _values(report.env_steps),
            "score": _values(report.score),
            "best_score": _values(report.best_score),
            "lane_scores": _values(report.lane_scores),
            "phase": [_word(Phase, number) for number in report.phase.tolist()],
            "verdict": [_word(Verdict, number) for number in report.verdict.tolist()],
            "events": [_events(bits) for bits in report.events.tolist()],
            "stop_reason": [_word(StopReason, n) for n in report.stop_reason.tolist()],
            "hyperparams": _objects(
                {n: _values(v) for n, v in report.centre.items()}, count
            ),
            "metrics": _objects({n: _values(v) for n, v in metrics.items()}, count),
            "time": [json.dumps(time.time())] * count,
        },
        count,
    )


def _objects(columns: dict[str, list[str]], count: int) -> list[str]:
    """Return `count` JSON objects of the columns' JSON values."""
    if not columns:
        return ["{}"] * count
    names = [json.dumps(name).replace("%", "%%") for name in columns]
    template = "{" + ", ".join(f"{name}: %s" for name in names) + "}"
    return [template % row for row in zip(*columns.values(), strict=True)]


def _values(column: Any) -> list[str]:
    """Return every entry of [N, ...] numbers as JSON; what is not finite is null."""
    if column.ndim > 1:
        parts = (_values(column[:, i]) for i in range(column.shape[1]))
        return [f"[{', '.join(row)}]" for row in zip(*parts, strict=True)]
    same = column.tobytes() == column[:1].tobytes() * len(column)
    numbers = column[:1].tolist() if same else column.tolist()  # often a constant
    if not np.isfinite(column).all():
        numbers = _plain(numbers)
    texts = json.dumps(numbers, allow_nan=False)[1:-1].split(", ")
    return texts * len(column) if same else texts


@functools.cache
def _word(names: type[enum.IntEnum], number: int) -> str:
    return json.dumps(names(number).name)


def event_names(bits: int) -> list[str]:
    """Return the names of the Event bits."""
    return [event.name or "" for event in Event(bits)]


@functools.cache
def _events(bits: int) -> str:
    return json.dumps(event_names(bits))


def line(record: dict[str, Any]) -> str:
    """Return a record as a line of a log; what is not finite is null."""
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
