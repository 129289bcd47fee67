"""Logs of one JSON object a line: begun anew or cut, appended to, read again."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optix.callbacks.base import LoopCallback, Rounds
from optix.checks import OptionError
from optix.files import replacing

Record = dict[str, Any]


class Log(LoopCallback):
    """Appends to a log of records that each name a seed and a round.

    Lines that are no record, such as a torn one left by a process that was killed, are
    dropped when the log is opened again.

    Args:
        path: the log file.
        rounds: per seed, how many rounds the run has behind it; lines of later rounds,
            which a resumed run plays again, are cut. None begins a new log.

    Raises:
        OptionError: the path is a folder.
    """

    relied_on: ClassVar[Mapping[str, Any]] = {"seed": int, "round": int}

    def __init__(self, path: str | os.PathLike, rounds: Sequence[int] | None = None):
        """See the class."""
        self.path = Path(path)
        if self.path.is_dir():
            raise OptionError(f"the log must be a file, {self.path} is a folder")
        self.kept = 0
        with replacing(self.path) as file:
            if rounds is not None and self.path.exists():
                for record in read(self.path, self.relied_on):  # logs may be long
                    if _is_before(record, rounds):
                        file.write(line(record).encode())
                        self.kept += 1
        self._file = None

    def lines(self, rounds: Rounds) -> Iterable[str]:
        """Return the lines of the rounds of a dispatch."""
        raise NotImplementedError

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
        self._file.write("".join(self.lines(rounds)))
        self._file.flush()


def read(path: str | os.PathLike, relied_on: Mapping[str, Any]) -> Iterator[Record]:
    """Yield the records of a log in order; lines that are none are left out.

    Args:
        path: the log file.
        relied_on: {name: its kind} of what every reader of a record relies on; numbers
            of kind int are counts, >= 0.
    """
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                record = json.loads(text, parse_constant=_refuse)
            except (ValueError, RecursionError):
                continue
            if text.endswith("\n") and _is_record(record, relied_on):
                yield record


def line(record: Record) -> str:
    """Return a record as a line of a log; what is not finite is null."""
    return json.dumps(plain(record), allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return what JSON can hold: NumPy as Python numbers, NaN and infinity as None."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _is_record(value: Any, relied_on: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), kinds)
        and not isinstance(value.get(name), bool)
        and (kinds is not int or value[name] >= 0)
        for name, kinds in relied_on.items()
    )


def _is_before(record: Record, rounds: Sequence[int]) -> bool:
    """Return whether a record is of a round that a run has behind it, by seed."""
    seed = record["seed"]
    return seed < len(rounds) and record["round"] < rounds[seed]
