"""Drawings of graphs: one, a strip of several, an animation.

Inputs stand left, outputs right, hidden neurons by level. Colour is the sign of a weight,
width its size; delayed edges are dashed and curved.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.neuroevo.drawing.layout import (
    Snapshot,
    layout,
    merged,
    new_since,
    snapshot,
)
from optix.neuroevo.drawing.strokes import (
    curve,
    draw_edges,
    draw_neurons,
    draw_regions,
    legend,
)
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.graph.regions import names


def plot(
    graph: NeuronGraph,
    path: str | os.PathLike | None = None,
    *,
    axes: Any = None,
    regions: Sequence[str] = (),
    title: str = "",
) -> Any:
    """Draw a graph to a PNG, PDF or SVG file, or onto axes.

    Args:
      graph: the graph.
      path: the file; None draws no file.
      axes: matplotlib axes to draw on, None for a figure of its own.
      regions: names of a brain's regions, `Brain.regions`.
      title: above the drawing.

    Returns:
      The matplotlib axes.

    >>> from optix.neuroevo.graph.build import layered
    >>> axes = plot(layered(2, (3,), 1))
    >>> len(axes.collections)  # edges
    9
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    names("regions", regions)
    if not isinstance(title, str):
        raise checks.OptionError(f"title must be a text, got {title!r}")
    now = snapshot(graph)
    plan = _plan([now])
    if axes is None:
        axes = _figure(plan, 1, 1)[1][0]
    _draw(axes, now, plan, regions, title)
    legend(axes, [now])
    if path is not None:
        axes.figure.savefig(path, bbox_inches="tight")
    return axes


def strip(
    graphs: Sequence[NeuronGraph],
    path: str | os.PathLike,
    labels: Sequence[str] = (),
    *,
    regions: Sequence[str] = (),
    columns: int = 4,
) -> list[Any]:
    """Draw snapshots of a run side by side; every neuron keeps its place.

    Neurons that were not in the snapshot before have a green ring.

    Args:
      graphs: of one capacity and max_delay, in the order of the run.
      path: the file.
      labels: one for each.
      regions: names of a brain's regions.
      columns: drawings in a row.

    Returns:
      The matplotlib axes, one for each.

    Raises:
      ValueError: no graphs, graphs of several sizes, or another number of labels.
    """
    checks.positive_int("columns", columns)
    names("regions", regions)
    snapshots, labels = _series(graphs, labels)
    plan = _plan(snapshots)
    columns = min(columns, len(snapshots))
    figure, all_axes = _figure(plan, -(-len(snapshots) // columns), columns)
    before = [None, *snapshots]
    for axes, old, now, label in zip(all_axes, before, snapshots, labels, strict=False):
        _draw(axes, now, plan, regions, label, new_since(old, now))
    for axes in all_axes[len(snapshots) :]:
        axes.set_axis_off()
    legend(figure, snapshots)
    figure.savefig(path, bbox_inches="tight")
    return all_axes[: len(snapshots)]


def animate(
    graphs: Sequence[NeuronGraph],
    path: str | os.PathLike,
    labels: Sequence[str] = (),
    *,
    regions: Sequence[str] = (),
    frames_per_second: float = 2.0,
) -> None:
    """Draw snapshots of a run as a GIF; every neuron keeps its place.

    Args:
      graphs: of one capacity and max_delay, in the order of the run.
      path: the file.
      labels: one for each.
      regions: names of a brain's regions.
      frames_per_second: how fast.

    Raises:
      ValueError: no graphs, graphs of several sizes, or another number of labels.
    """
    from matplotlib.animation import PillowWriter

    checks.within("frames_per_second", frames_per_second, 0.0, 1e3, open_ends=True)
    names("regions", regions)
    snapshots, labels = _series(graphs, labels)
    plan = _plan(snapshots)
    figure, (axes,) = _figure(plan, 1, 1)
    legend(figure, snapshots)
    writer = PillowWriter(fps=frames_per_second)  # pyright: ignore[reportArgumentType]
    with writer.saving(figure, os.fspath(path), dpi=100):
        before = [None, *snapshots[:-1]]
        for old, now, label in zip(before, snapshots, labels, strict=True):
            axes.clear()
            _draw(axes, now, plan, regions, label, new_since(old, now))
            writer.grab_frame()


def _series(graphs, labels):
    names("labels", labels)
    is_series = isinstance(graphs, list | tuple)
    if not is_series or not all(isinstance(graph, NeuronGraph) for graph in graphs):
        raise checks.OptionError(
            f"graphs must be a sequence of NeuronGraphs, got {graphs!r}"
        )
    if not graphs or (labels and len(labels) != len(graphs)):
        raise checks.OptionError(
            f"there must be graphs, and as many labels as graphs or none, got "
            f"{len(graphs)} graphs and {len(labels)} labels"
        )
    sizes = {(graph.capacity, graph.max_delay) for graph in graphs}
    if len(sizes) > 1:
        raise checks.OptionError(
            "graphs must be of one capacity and max_delay, got (capacity, max_delay) "
            f"{sorted(sizes)}; grow_capacity makes the smaller ones as large"
        )
    return [snapshot(graph) for graph in graphs], labels or [""] * len(graphs)


class _Plan(NamedTuple):
    """What all drawings of a series have in common."""

    everything: Snapshot  # all that was ever there
    at: np.ndarray  # [N, 2]
    low: np.ndarray  # [2] lower left of whatever is drawn
    high: np.ndarray  # [2] upper right


def _plan(snapshots):
    everything = merged(snapshots)
    at = layout(everything)
    ends = [curve(at[src], at[dst], d).middle for d, dst, src in everything.edges()]
    points = np.array([*at[np.isfinite(at[:, 0])], *ends])
    low, high = points.min(0) - (1.5, 1.0), points.max(0) + (1.5, 1.3)
    return _Plan(everything, at, low, high)


def _figure(plan, rows, columns):
    """A figure of as many axes as large as the drawing needs, and these."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = plan.high - plan.low
    scale = min(0.62, 15.0 / (width * columns), 12.0 / (height * rows))
    size = max(3.2, scale * width) * columns, max(2.0, scale * height) * rows + 0.7
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)  # no window, and pyplot's global state is left alone
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _draw(axes, now: Snapshot, plan, regions, title, new=None):
    (left, bottom), (right, top) = plan.low, plan.high
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9)
    draw_regions(axes, plan.everything, plan.at, regions)
    draw_edges(axes, now, plan.at)
    draw_neurons(axes, now, plan.at, new)
