"""What the pictures of a run have in common."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optix.callbacks.jsonl import read_log
from optix.callbacks.records import Record
from optix.types import DIAGNOSES

SCORE, BEST, EVENT, QUIET = "#2f6db3", "#1b1b1b", "#b8342b", "#7a8291"
FAULTS = {  # {event: (marker, label)}
    event.name: (marker, words)
    for (event, words), marker in zip(DIAGNOSES.items(), "dP*s", strict=True)
}


def logged(log: str | os.PathLike) -> list[list[Record]]:
    """Return the rounds of every seed of a log."""
    seeds: dict[int, list[Record]] = {}
    for record in read_log(log):
        seeds.setdefault(record["seed"], []).append(record)
    return [seeds[seed] for seed in sorted(seeds)]


def new_figure(height: float) -> Any:
    """Return a figure of matplotlib that opens no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # pyplot's global state is left alone
    return figure


def series(run: Sequence[Record], name: str) -> np.ndarray:
    """Return a number of each round, NaN where it was not finite."""
    return numbers(record[name] for record in run)


def numbers(values: Iterable[float | None]) -> np.ndarray:
    """Return numbers of a log as they were, NaN where one was not finite."""
    return np.array([np.nan if value is None else value for value in values], float)


def mark(
    axes: Any,
    runs: Sequence[Sequence[Record]],
    heights: Sequence[np.ndarray],
    marked: Mapping[str, tuple[str, str]],
    colour: str = EVENT,
    size: float = 6,
) -> None:
    """Mark events at the heights of their rounds.

    Args:
        axes: of matplotlib.
        runs: of each seed.
        heights: of each seed, one a round.
        marked: {event: (marker, label)}.
        colour: of the markers.
        size: of them.
    """
    for event, (marker, label) in marked.items():
        places = [
            (record["round"] + 1, height)
            for run, row in zip(runs, heights, strict=True)
            for record, height in zip(run, row, strict=True)
            if event in record["events"]
        ]
        if places:
            axes.plot(
                *np.array(places, float).T,
                marker=marker,
                color=colour,
                markersize=size,
                linestyle="none",
                label=label,
            )


def trim(axes: Any) -> None:
    """Draw a thin grid, and no frame above and to the right."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def name(axes: Any, title: str) -> None:
    """Write a title above; a name with two dollar signs is no formula."""
    axes.set_title(title, loc="left", fontsize=10, parse_math=False, usetex=False)


def steps_above(axes: Any, runs: Sequence[Sequence[Record]]) -> None:
    """Add an axis of environment steps above that of rounds."""
    from matplotlib.ticker import EngFormatter

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


def legend(figure: Any, every: Iterable[Any]) -> None:
    """Write what is in the axes below them, each label once."""
    unique = {}
    for axes in every:
        handles, labels = axes.get_legend_handles_labels()
        unique |= dict(zip(labels, handles, strict=True))
    if unique:
        figure.legend(
            unique.values(),
            unique.keys(),
            loc="outside lower center",
            ncols=min(len(unique), 6),
            fontsize=8,
            frameon=False,
        )
