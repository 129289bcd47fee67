"""The learning curve of a run as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.callbacks.base import LoopCallback
from optix.callbacks.jsonl import read_log
from optix.files import replacing

_PHASES = {"COOLING": ("#f3dfb8", "cooling"), "DORMANT": ("#c9cedb", "dormant")}
_SCORE, _BEST, _EVENT = "#2f6db3", "#1b1b1b", "#b8342b"
_MARKED = {
    "ROLLBACK": ("v", "rollback"),
    "NON_FINITE": ("x", "not finite"),
    "SPAWN": ("^", "spawn"),
    "PRUNE": ("_", "prune"),
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seeds: dict[int, list[dict[str, Any]]] = {}
    for record in read_log(log):
        seeds.setdefault(record["seed"], []).append(record)
    if not seeds:
        return False
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # no window, and pyplot's global state is left alone
    axes = figure.add_subplot()
    runs = [seeds[seed] for seed in sorted(seeds)]
    if len(runs) == 1:
        _one_seed(axes, runs[0])
    else:
        _many_seeds(axes, runs)
    _decorate(axes, runs, title)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return True


def _one_seed(axes: Any, run: Sequence[dict[str, Any]]) -> None:
    rounds, score = _series(run, "round") + 1, _series(run, "score")
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
    axes.plot(rounds, score, color=_SCORE, linewidth=1.2, label="score")
    _best(axes, rounds, _series(run, "best_score"), "best so far")
    _events(axes, [run])


def _many_seeds(axes: Any, runs: Sequence[Sequence[dict[str, Any]]]) -> None:
    longest = max(int(run[-1]["round"]) + 1 for run in runs)
    table = np.full((2, len(runs), longest), np.nan)
    for row, run in enumerate(runs):
        rounds, score = _series(run, "round") + 1, _series(run, "score")
        table[0, row, rounds.astype(int) - 1] = score
        table[1, row, rounds.astype(int) - 1] = _series(run, "best_score")
        # what a stopped seed has reached stays what it has reached
        table[:, row, int(rounds[-1]) :] = table[:, row, int(rounds[-1]) - 1, None]
        label = f"score of {len(runs)} seeds"
        axes.plot(rounds, score, color=_SCORE, linewidth=0.7, alpha=0.35, label=label)
        if run[-1]["stop_reason"] != "RUNNING":
            axes.plot(
                rounds[-1],
                score[-1],
                marker="o",
                markersize=3.5,
                color=_SCORE,
                linestyle="none",
                label="stopped",
            )
    mean_score, mean_best = (_mean(rows) for rows in table)
    everywhere = np.arange(1, longest + 1)
    axes.plot(everywhere, mean_score, color=_SCORE, linewidth=2, label="mean score")
    _best(axes, everywhere, mean_best, "mean of the best so far")
    _events(axes, runs)


def _best(axes: Any, rounds: np.ndarray, best: np.ndarray, label: str) -> None:
    axes.step(
        rounds,
        best,
        where="post",
        color=_BEST,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        label=label,
    )


def _events(axes: Any, runs: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Mark rollbacks and the like at the best score, which a broken round still has."""
    for event, (marker, label) in _MARKED.items():
        hits = [record for run in runs for record in run if event in record["events"]]
        if hits:
            axes.plot(
                _series(hits, "round") + 1,
                _series(hits, "best_score"),
                marker=marker,
                color=_EVENT,
                markersize=6,
                linestyle="none",
                label=label,
            )


def _decorate(axes: Any, runs: Sequence[Sequence[dict[str, Any]]], title: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("round")
    axes.set_ylabel("score")
    # a name with two dollar signs is no formula
    axes.set_title(title, loc="left", fontsize=10, parse_math=False, usetex=False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    last = max(runs, key=lambda run: run[-1]["round"])[-1]
    steps = last["env_steps"] / (last["round"] + 1)
    if steps > 0:
        upper = axes.secondary_xaxis(
            "top", functions=(lambda r: r * steps, lambda s: s / steps)
        )
        upper.set_xlabel("environment steps", fontsize=9)
        upper.xaxis.set_major_formatter(EngFormatter(sep=""))
        upper.tick_params(labelsize=9, length=3)
        upper.spines["top"].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.figure.legend(
        unique.values(),
        unique.keys(),
        loc="outside lower center",
        ncols=len(unique),
        fontsize=8,
        frameon=False,
    )


def _series(run: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    values = [record[name] for record in run]
    return np.array([np.nan if value is None else value for value in values], float)


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
