"""The learning curve of a run as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import LoopCallback
from optix.callbacks.drawing import (
    BEST,
    FAULTS,
    SCORE,
    legend,
    logged,
    mark,
    name,
    new_figure,
    series,
    steps_above,
    trim,
)
from optix.files import replacing

_PHASES = {"COOLING": ("#f3dfb8", "cooling"), "DORMANT": ("#c9cedb", "dormant")}
_MARKED = {
    "ROLLBACK": ("v", "rollback"),
    "NON_FINITE": ("x", "not finite"),
    "SPAWN": ("^", "spawn"),
    "PRUNE": ("_", "prune"),
    **FAULTS,
}


class CurvePlot(LoopCallback):
    """Draws the learning curve from the log when the run ends or pauses.

    Args:
        log: what a `JsonlLog` has written; it comes before this one in the callbacks.
        path: the PNG file.
        title: above the axes.
    """

    def __init__(
        self, log: str | os.PathLike, path: str | os.PathLike, title: str = ""
    ):
        """See the class."""
        self.log, self.path, self.title = Path(log), Path(path), title

    def on_loop_stop(self) -> None:
        """Draw."""
        learning_curve(self.log, self.path, self.title)


def learning_curve(
    log: str | os.PathLike, path: str | os.PathLike, title: str = ""
) -> bool:
    """Draw score, best score, phases and events of every seed of a log to a PNG file.

    One seed is drawn with its phases shaded; several as thin lines with their mean.

    Returns:
        Whether there was a round to draw.
    """
    runs = logged(log)
    if not runs:
        return False
    figure = new_figure(4.5)
    axes = figure.add_subplot()
    if len(runs) == 1:
        _one_seed(axes, runs[0])
    else:
        _many_seeds(axes, runs)
    _decorate(axes, runs, title)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return True


def _one_seed(axes: Any, run: Sequence[dict[str, Any]]) -> None:
    rounds, score = series(run, "round") + 1, series(run, "score")
    for phase, (colour, label) in _PHASES.items():
        inside = [record["phase"] == phase for record in run]
        for start, end in _spans(inside):
            axes.axvspan(
                rounds[start] - 0.5,
                rounds[end] + 0.5,
                color=colour,
                alpha=0.7,
                linewidth=0,
                label=label,
            )
    axes.plot(rounds, score, color=SCORE, linewidth=1.2, label="score")
    _best(axes, rounds, series(run, "best_score"), "best so far")
    _events(axes, [run])


def _many_seeds(axes: Any, runs: Sequence[Sequence[dict[str, Any]]]) -> None:
    longest = max(int(run[-1]["round"]) + 1 for run in runs)
    table = np.full((2, len(runs), longest), np.nan)
    for row, run in enumerate(runs):
        rounds, score = series(run, "round") + 1, series(run, "score")
        table[0, row, rounds.astype(int) - 1] = score
        table[1, row, rounds.astype(int) - 1] = series(run, "best_score")
        # what a stopped seed has reached stays what it has reached
        table[:, row, int(rounds[-1]) :] = table[:, row, int(rounds[-1]) - 1, None]
        label = f"score of {len(runs)} seeds"
        axes.plot(rounds, score, color=SCORE, linewidth=0.7, alpha=0.35, label=label)
        if run[-1]["stop_reason"] != "RUNNING":
            axes.plot(
                rounds[-1],
                score[-1],
                marker="o",
                markersize=3.5,
                color=SCORE,
                linestyle="none",
                label="stopped",
            )
    mean_score, mean_best = (_mean(rows) for rows in table)
    everywhere = np.arange(1, longest + 1)
    axes.plot(everywhere, mean_score, color=SCORE, linewidth=2, label="mean score")
    _best(axes, everywhere, mean_best, "mean of the best so far")
    _events(axes, runs)


def _best(axes: Any, rounds: np.ndarray, best: np.ndarray, label: str) -> None:
    axes.step(
        rounds,
        best,
        where="post",
        color=BEST,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        label=label,
    )


def _events(axes: Any, runs: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Mark rollbacks and the like at the best score, which a broken round still has."""
    mark(axes, runs, [series(run, "best_score") for run in runs], _MARKED)


def _decorate(axes: Any, runs: Sequence[Sequence[dict[str, Any]]], title: str) -> None:
    axes.set_xlabel("round")
    axes.set_ylabel("score")
    name(axes, title)
    trim(axes)
    steps_above(axes, runs)
    legend(axes.figure, [axes])


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean over the seeds that have a value, [rounds]."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0.0).sum(0)
    return np.divide(
        total, known.sum(0), out=np.full(rows.shape[1], np.nan), where=known.any(0)
    )


def _spans(inside: Sequence[bool]) -> list[tuple[int, int]]:
    """Return first and last index of every run of True."""
    edges = np.diff(np.array([False, *inside, False], int))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
