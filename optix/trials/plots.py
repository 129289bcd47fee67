"""Pictures of a search: its history, what mattered, all configurations side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optix.files import replacing
from optix.trials.record import Trial
from optix.trials.samplers import optuna, quiet
from optix.trials.study import Study

_SCORE, _BEST, _PRUNED = "#2f6db3", "#1b1b1b", "#b9bec9"


def pictures(
    directory: Path, study: Study, trials: Sequence[Trial], title: str
) -> list[Path]:
    """Write history.png, importances.png and parallel.png; return those there are.

    What is drawn takes a trial with a score, importances two scores that differ.
    """
    scored = [trial for trial in trials if trial.score is not None]
    drawn: dict[str, Callable[[Any], None]] = {}
    if scored:
        drawn["history"] = lambda figure: _history(figure, trials)
        drawn["parallel"] = lambda figure: _parallel(figure, scored, study.space)
    shares = importances(study)
    if shares:
        drawn["importances"] = lambda figure: _importances(figure, shares)
    return [
        _written(directory / f"{name}.png", draw, title) for name, draw in drawn.items()
    ]


def importances(study: Study) -> dict[str, float]:
    """Return the share of each name in what tells the best trials from the others.

    PED-ANOVA (Watanabe et al. 2023), which needs no package besides Optuna; {} where
    there is nothing to tell.
    """
    values = {trial.value for trial in study.of_state("COMPLETE")}
    if len(values) < 2:
        return {}
    module = optuna().importance
    with quiet():
        try:
            evaluator = module.PedAnovaImportanceEvaluator()
            found = module.get_param_importances(study.inner, evaluator=evaluator)
        except (RuntimeError, ValueError):  # too few trials, or all of one value
            return {}
    return {n: float(v) for n, v in found.items() if math.isfinite(v)}


def _written(path: Path, draw: Callable[[Any], None], title: str) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # no window, and pyplot's global state is left alone
    draw(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    with replacing(path) as file:
        figure.savefig(file, format="png")
    return path


def _history(figure: Any, trials: Sequence[Trial]) -> None:
    """Draw each score over the trial's number, and the best one so far."""
    axes = figure.add_subplot()
    scored = [(t.number, t.score) for t in trials if t.score is not None]
    numbers, scores = zip(*scored, strict=True)
    axes.plot(numbers, scores, "o", color=_SCORE, label="complete")
    best = np.maximum.accumulate(scores)
    axes.step(numbers, best, where="post", color=_BEST, label="best so far")
    confirmed = [
        (t.number, np.mean(t.confirmed))
        for t in trials
        if t.confirmed and np.isfinite(t.confirmed).all()
    ]
    if confirmed:
        axes.plot(
            *zip(*confirmed, strict=True), "D", color="#b8342b", label="confirmed"
        )
    for state, mark in (("PRUNED", "|"), ("FAIL", "x")):
        others = [t.number for t in trials if t.state == state]
        if others:
            low = [min(scores)] * len(others)
            axes.plot(others, low, mark, color=_PRUNED, label=state.lower())
    axes.set(xlabel="trial", ylabel="score")
    axes.legend(frameon=False)


def _importances(figure: Any, shares: Mapping[str, float]) -> None:
    axes = figure.add_subplot()
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [shares[name] for name in names], color=_SCORE)
    axes.set(xlabel="importance (PED-ANOVA)")


def _parallel(figure: Any, trials: Sequence[Trial], space: Mapping[str, tuple]) -> None:
    """Draw a line for each trial through its place in every range, dark where good."""
    from matplotlib import colormaps

    axes = figure.add_subplot()
    scores = np.array([trial.score for trial in trials])
    ranks = np.argsort(np.argsort(scores)) / max(len(scores) - 1, 1)
    names = list(space)
    for trial, rank in sorted(
        zip(trials, ranks, strict=True), key=lambda pair: pair[1]
    ):
        places = [_place(space[name], trial.params[name]) for name in names]
        color = colormaps["Blues"](0.15 + 0.85 * rank)
        axes.plot([*places, rank], color=color, linewidth=1 + rank)
    axes.set_xticks(
        range(len(names) + 1),
        [f"{name}\n{_range(space[name])}" for name in names] + ["rank of score"],
        fontsize=8,
    )
    axes.set_yticks([])
    for place in range(len(names) + 1):
        axes.axvline(place, color=_PRUNED, linewidth=0.6, zorder=0)


def _place(entry: tuple, value: Any) -> float:
    """Return where a value lies in its range, from 0 to 1."""
    kind, *ends = entry
    if kind == "categorical":
        return ends.index(value) / max(len(ends) - 1, 1)
    low, high = ends
    if kind.startswith("log_"):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _range(entry: tuple) -> str:
    kind, *ends = entry
    if kind == "categorical":
        return ", ".join(map(str, ends))
    return f"{ends[0]:g} to {ends[1]:g}" + (" log" if kind.startswith("log_") else "")
