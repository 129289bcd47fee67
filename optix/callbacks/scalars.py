"""What loggers write of a round: numbers under tags that stay the same."""

import math
from types import ModuleType
from typing import Any

from optix.types import Members, StepReport


def scalars(report: StepReport) -> dict[str, float]:
    """Return the finite numbers of a round by tag.

    score, best_score; generalization_gap: the mean return of training less the score;
    phase: 0 active, 1 cooling, 2 dormant, 3 stopped; round: from 1;
    metrics/NAME: of the learner; hyperparameters/NAME: of the tuner's centre;
    population/policies, population/spawns: where there is one.
    """
    gap = float(report.metrics.get("return", math.nan)) - float(report.score)
    named = {
        "score": report.score,
        "best_score": report.best_score,
        "generalization_gap": gap,
        "phase": report.phase,
        "round": report.round + 1,
        **{f"metrics/{name}": value for name, value in report.metrics.items()},
        **{f"hyperparameters/{name}": value for name, value in report.centre.items()},
    }
    if isinstance(report.members, Members):
        named["population/policies"] = report.members.alive.sum()
        named["population/spawns"] = report.members.spawns
    numbers = {tag: float(value) for tag, value in named.items()}
    return {tag: number for tag, number in numbers.items() if math.isfinite(number)}


def package(name: str, extra: str, user: Any) -> ModuleType:
    """Return a package that only a logger needs.

    Raises:
        ImportError: it is not there; the message says what to install.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{type(user).__name__} needs the package {name}, which can not be imported "
            f"({error}); install it by pip install 'tensor-optix-jax[{extra}]'",
            name=name,
        ) from error
