"""What a drawing of a graph is made of: regions, edges, neurons, a legend."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from optix.neuroevo.drawing.layout import Snapshot
from optix.neuroevo.graph.cells import CELLS, kind_name

RADIUS = 0.36
_POSITIVE, _NEGATIVE, _ZERO, _INK = "#2b6cb0", "#c0392b", "#9a9a9a", "#2a2a2a"
_NEW = "#37a04a"
_FILLS = (  # by kind
    *("#ececec", "#fbd6a2", "#c9e0f4", "#d3ebc8", "#f5ccd4"),
    *("#ddd0ee", "#f4e7a4", "#bfa8df", "#e3c64f"),
)
_DASHES = ("solid", (0, (4, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))  # by delay
_REGION_FILLS = ("#eaf1f8", "#f6efe4", "#ecf4ea", "#f6eaf0", "#efedf7", "#f2f2e4")
_LABELLED = 30  # delayed edges, beyond which their delays are told by dashes alone


def draw_regions(
    axes: Any, graph: Snapshot, at: np.ndarray, names: Sequence[str]
) -> None:
    """Draw a shaded box around each region of a brain."""
    from matplotlib.patches import FancyBboxPatch

    placed = np.isfinite(at[:, 0])
    regions = np.unique(graph.region[placed]).tolist()
    if len(regions) == 1 and not names:
        return
    for region in regions:
        own = np.flatnonzero(placed & (graph.region == region)).tolist()
        (left, bottom), (right, top) = at[own].min(0) - 0.75, at[own].max(0) + 0.75
        left -= 0.5 * any(map(graph.is_input, own))  # room for what is written there
        right += 0.5 * any(map(graph.is_output, own))
        box = FancyBboxPatch(
            (left, bottom),
            right - left,
            top - bottom,
            boxstyle="round,pad=0,rounding_size=0.4",
            facecolor=_REGION_FILLS[region % len(_REGION_FILLS)],
            edgecolor="#c9ced6",
            linewidth=0.8,
            zorder=0,
        )
        axes.add_patch(box)
        name = names[region] if region < len(names) else f"region {region}"
        _write(axes, (left + right) / 2, top + 0.3, name, 0.42, "#5a6270")


def draw_edges(axes: Any, graph: Snapshot, at: np.ndarray) -> None:
    """Draw the edges, faint ones first."""
    from matplotlib.collections import PathCollection

    found = graph.edges()
    weights = [float(graph.weight[place]) for place in found]
    # a few giants would make all others invisible
    largest = max(1e-9, np.quantile(np.abs(weights), 0.97)) if weights else 1.0
    delayed = sum(delay > 0 for delay, _, _ in found)
    crowd = min(1.0, 40 / max(len(found), 1)) ** 0.5  # small where there are many
    unit = _unit(axes)
    for number in np.argsort(np.abs(weights)).tolist():
        (delay, dst, src), weight = found[number], weights[number]
        size = min(1.0, abs(weight) / largest)
        colour = _ZERO if size < 1e-6 else _colour(weight)
        way = curve(at[src], at[dst], delay)
        # the larger of many weights stand out, the others are a haze
        alpha = (0.35 + 0.65 * size) * (crowd + (1 - crowd) * size)
        line = PathCollection(
            [way.path],
            facecolors="none",
            edgecolors=colour,
            alpha=alpha,
            linewidths=unit * (0.012 + 0.075 * size),
            linestyles=[_dash(delay)],
            zorder=1,
        )
        axes.add_collection(line)
        if delay:
            _arrow(axes, way, colour, alpha, max(size, crowd))
            if delayed <= _LABELLED:
                x, y = way.middle
                _write(axes, x, y, str(delay), 0.3, colour, halo=unit * 0.08)


def draw_neurons(
    axes: Any, graph: Snapshot, at: np.ndarray, new: np.ndarray | None
) -> None:
    """Draw point neurons as circles, gated cells as squares, and what they are."""
    from matplotlib.patches import Circle, FancyBboxPatch

    unit = _unit(axes)
    for neuron in np.flatnonzero(graph.alive).tolist():
        (x, y), kind = at[neuron], kind_name(int(graph.kind[neuron]))
        cell = CELLS.get(kind)
        sign = int(graph.sign[neuron])
        look = {
            "facecolor": _FILLS[int(graph.kind[neuron]) % len(_FILLS)],
            "edgecolor": _colour(sign) if sign else _INK,
            "linewidth": unit * (0.075 if sign else 0.03),
            "zorder": 3,
        }
        if new is not None and new[neuron]:
            halo = Circle((x, y), 1.55 * RADIUS, color=_NEW, alpha=0.6, lw=0, zorder=2)
            axes.add_patch(halo)
        if cell is None:
            axes.add_patch(Circle((x, y), RADIUS, **look))
        else:
            side = 1.5 * RADIUS
            box = f"round,pad=0,rounding_size={0.35 * RADIUS}"
            corner = x - side / 2, y - side / 2
            axes.add_patch(FancyBboxPatch(corner, side, side, boxstyle=box, **look))
        _write(axes, x, y, _short(graph, neuron, kind), 0.26, _INK, zorder=4)
        if graph.is_output(neuron):
            number = neuron - graph.num_inputs
            _write(axes, x + 0.8, y, f"out {number}", 0.28, _INK)
        if graph.is_input(neuron):
            _write(axes, x - 0.75, y, f"in {neuron}", 0.28, _INK)


def _short(graph, neuron, kind):
    """What stands in a neuron."""
    if graph.is_input(neuron):
        return ""
    short = {"linear": "lin", "sigmoid": "sig", "hard_tanh": "hard"}
    return str(short.get(kind, kind.split("_")[-1]))[:5]


class Curve(NamedTuple):
    """The way of an edge."""

    path: Any
    middle: np.ndarray
    tip: np.ndarray  # where it meets the neuron
    way: np.ndarray  # the direction there


def curve(start: np.ndarray, end: np.ndarray, delay: int) -> Curve:
    """Return the way of an edge between two places."""
    from matplotlib.path import Path

    if np.array_equal(start, end):  # a loop above the neuron, wider for longer delays
        size = 0.95 + 0.12 * delay
        first, last = start + (-0.1 * size, size), end + (size, 0.35 * size)
        points = np.array([start, first, last, end])
        codes, shares = [Path.CURVE4] * 3, [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    else:
        along = end - start
        # short same-step edges are straight; longer ones go around the columns between
        bend = 0.18 + 0.06 * delay if delay else 0.05 * (np.hypot(*along) > 4.0)
        last = (start + end) / 2 + np.array([-along[1], along[0]]) * bend
        points = np.array([start, last, end])
        codes, shares = [Path.CURVE3] * 2, [1 / 4, 1 / 2, 1 / 4]
    way = (end - last) / np.hypot(*(end - last))
    path = Path(points, [Path.MOVETO, *codes])
    return Curve(path, np.array(shares) @ points, end - way * RADIUS, way)


def _arrow(axes, curve, colour, alpha, size):
    """The head of a delayed edge, which may lead anywhere."""
    from matplotlib.patches import Polygon

    tip, way = curve.tip, curve.way * (0.14 + 0.14 * size)
    across = 0.4 * np.array([-way[1], way[0]])
    corners = np.array([tip, tip - way + across, tip - way - across])
    axes.add_patch(Polygon(corners, color=colour, alpha=alpha, lw=0, zorder=2))


def _write(axes, x, y, text, size, colour, *, zorder=5.0, halo=0.0):
    """Text whose size is in the units of the drawing, centred."""
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    if not text:
        return
    path = TextPath((0, 0), text, size=size)
    box = path.get_extents()
    # small letters are about half as high as the font
    path = path.transformed(
        Affine2D().translate(x - (box.x0 + box.x1) / 2, y - 0.3 * size)
    )
    if halo:
        under = PathPatch(path, facecolor="white", edgecolor="white", lw=halo)
        under.set_zorder(zorder - 0.5)
        axes.add_patch(under)
    axes.add_patch(PathPatch(path, facecolor=colour, lw=0, zorder=zorder))


def legend(where: Any, snapshots: Sequence[Snapshot]) -> None:
    """Say what is in the drawings, below them; `where` is axes or a figure."""
    from matplotlib.lines import Line2D

    def line(colour, dash, label):
        return Line2D([], [], color=colour, linestyle=dash, linewidth=1.5, label=label)

    def dot(marker, fill, edge, width, label):
        look = {"markerfacecolor": fill, "markeredgecolor": edge, "markersize": 7}
        look |= {"marker": marker, "markeredgewidth": width, "linestyle": "none"}
        return Line2D([], [], label=label, **look)

    def everywhere(name):
        found = [np.unique(getattr(s, name)[s.alive]) for s in snapshots]
        return sorted({int(x) for x in np.concatenate(found)})

    entries = [line(_POSITIVE, "solid", "weight > 0"), line(_NEGATIVE, "solid", "< 0")]
    present = np.any([s.edge.any((1, 2)) for s in snapshots], 0)
    for delay in np.flatnonzero(present).tolist():
        if delay:
            entries.append(line(_ZERO, _dash(delay), f"delay {delay}"))
    for kind in everywhere("kind"):
        marker = "s" if kind_name(kind) in CELLS else "o"
        fill = _FILLS[kind % len(_FILLS)]
        name = kind_name(kind).replace("_", " ")
        entries.append(dot(marker, fill, _INK, 0.8, name))
    for sign in everywhere("sign"):
        if sign:
            name = "excitatory" if sign > 0 else "inhibitory"
            entries.append(dot("o", "white", _colour(sign), 2.0, name))
    if len(snapshots) > 1:
        entries.append(dot("o", _NEW, _NEW, 0.0, "new"))
    look = {"handles": entries, "fontsize": 7, "frameon": False, "handlelength": 2.2}
    look |= {"ncols": min(len(entries), 6), "columnspacing": 1.2}
    if hasattr(where, "add_axes"):  # a figure
        where.legend(loc="outside lower center", **look)
    else:
        where.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), **look)


def _colour(value):
    return _POSITIVE if value > 0 else _NEGATIVE


def _dash(delay):
    return _DASHES[min(delay, len(_DASHES) - 1)]


def _unit(axes):
    """A unit of the drawing in points, nearly."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    box, points = axes.get_window_extent(), 72 / axes.figure.dpi
    return points * min(box.width / (high - low), box.height / (top - bottom))
