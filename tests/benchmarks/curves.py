"""The curves of the learning benchmark in one picture."""

import numpy as np

COLUMNS = 4
COLOUR = "#2f6db3"


def draw(results, path):
    """Draw the scores of every seed of every case, and their mean, to a PNG file.

    Args:
      results: pairs of a case and the results of its seeds, as the benchmark keeps them.
      path: the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not results:
        return
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = Figure((4 * columns, 2.8 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (case, seeds) in zip(grid, results, strict=False):
        panel(axes, case, seeds)
    for axes in grid[len(results) :]:
        axes.set_axis_off()
    figure.savefig(path)


def panel(axes, case, results):
    """Draw one case: thin lines are seeds, the thick one is their mean."""
    longest = max(result["env_steps"] for result in results)
    common = np.linspace(0, longest, 512)
    curves = []
    for result in results:
        curve = np.asarray(result["curve"], float)
        known = np.flatnonzero(np.isfinite(curve))
        per_round = result["env_steps"] / result["rounds"]
        steps = (known * result["stride"] + 1) * per_round
        # a seed that has stopped stays where it was
        curves.append(np.interp(common, steps, curve[known]))
        axes.plot(steps, curve[known], color=COLOUR, lw=0.6, alpha=0.35)
    axes.plot(common, np.mean(curves, 0), color=COLOUR, lw=1.8)
    axes.axhline(case.bar, color="#b8342b", lw=0.9, ls="--")
    axes.set_title(f"{case.agent}: {case.environment}", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0), useMathText=True)
