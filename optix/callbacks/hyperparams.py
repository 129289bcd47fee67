"""The hyperparameters of a run over its rounds as a picture."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import LoopCallback
from optix.callbacks.drawing import (
    EVENT,
    FAULTS,
    QUIET,
    SCORE,
    legend,
    logged,
    mark,
    name,
    new_figure,
    numbers,
    steps_above,
    trim,
)
from optix.callbacks.records import Record
from optix.files import replacing

_WIDE = 10.0  # a positive range of which the ends are so many times apart
_MARKED = {"ROLLBACK": ("v", "rollback"), "SPAWN": ("^", "spawn"), **FAULTS}
_COPIES = {"COPY": (".", "goes on from another lane")}

Bounds = Mapping[str, tuple[float, float]]


class HyperparamsPlot(LoopCallback):
    """Draws the hyperparameters from the log when the run ends or pauses.

    Args:
        log: what a `JsonlLog` has written; it comes before this one in the callbacks.
        path: the PNG file; there is none where no hyperparameter has changed.
        title: above the axes.
        bounds: {name: (low, high)} of those that are tuned.
    """

    def __init__(
        self,
        log: str | os.PathLike,
        path: str | os.PathLike,
        title: str = "",
        bounds: Bounds | None = None,
    ):
        """See the class."""
        self.log, self.path, self.title = Path(log), Path(path), title
        self.bounds = dict(bounds or {})

    def on_loop_stop(self) -> None:
        """Draw."""
        hyperparameters(self.log, self.path, self.title, self.bounds)


def hyperparameters(
    log: str | os.PathLike,
    path: str | os.PathLike,
    title: str = "",
    bounds: Bounds | None = None,
) -> bool:
    """Draw each hyperparameter that has changed to a PNG file, with the events.

    They are those of the tuner's centre after each round, without probes and without the
    factors of transforms. An axis is logarithmic where bounds, or else the values, are
    positive and wide.

    Returns:
        Whether one had changed, and so was drawn.
    """
    runs = logged(log)
    tables = {
        key: rows
        for key in _names(runs)
        if _changes(rows := [_values(run, key) for run in runs])
    }
    if not tables:
        return False
    figure = new_figure(1.2 + 1.9 * len(tables))
    every = figure.subplots(len(tables), sharex=True, squeeze=False)[:, 0]
    for axes, (key, rows) in zip(every, tables.items(), strict=True):
        _one(axes, runs, rows)
        axes.set_ylabel(key, fontsize=9, parse_math=False)
        if _is_wide((bounds or {}).get(key), rows):
            axes.set_yscale("log")
        trim(axes)
    name(every[0], title)
    steps_above(every[0], runs)
    every[-1].set_xlabel("round")
    legend(figure, every)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return True


def _one(
    axes: Any, runs: Sequence[Sequence[Record]], rows: Sequence[np.ndarray]
) -> None:
    """Draw one hyperparameter of every seed."""
    several = len(runs) > 1
    for run, row in zip(runs, rows, strict=True):
        axes.step(
            [record["round"] + 1 for record in run],
            row,
            where="post",
            color=SCORE,
            linewidth=0.8 if several else 1.4,
            alpha=0.5 if several else 1.0,
            label=f"{len(runs)} seeds" if several else "value",
        )
    mark(axes, runs, rows, _COPIES, QUIET, 4)
    mark(axes, runs, rows, _MARKED, EVENT, 6)


def _names(runs: Sequence[Sequence[Record]]) -> list[str]:
    """Return the names in a log, in the order of their coming."""
    found = dict.fromkeys(
        key for run in runs for record in run for key in record.get("hyperparams", {})
    )
    return list(found)


def _values(run: Sequence[Record], key: str) -> np.ndarray:
    return numbers(record.get("hyperparams", {}).get(key) for record in run)


def _changes(rows: Sequence[np.ndarray]) -> bool:
    """Return whether a value changes in a run; seeds may differ all along."""
    known = [row[np.isfinite(row)] for row in rows]
    return any(row.size > 1 and (row != row[0]).any() for row in known)


def _is_wide(bounds: tuple[float, float] | None, rows: Sequence[np.ndarray]) -> bool:
    """Return whether factors count, not differences."""
    if bounds is None:
        values = np.concatenate(list(rows))
        values = values[np.isfinite(values)]
        bounds = values.min(), values.max()
    low, high = bounds
    return low > 0 and high >= _WIDE * low
