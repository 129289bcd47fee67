"""Trials that are cut short: the median over what any trial reported at that round.

Optuna's own `MedianPruner` looks at COMPLETE trials only. Trials that are played side by
side are complete together, so it never prunes one of them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from optix import checks
from optix.trials.samplers import optuna

PRUNERS = ("median", "asha", "none")
STARTUP = 5  # reports of others that a median needs


def below_median(value: float, others: Sequence[float], startup: int = STARTUP) -> bool:
    """Return whether a report is below the median of those of others at that round.

    A report that is not a number is below every median, and none of the others.

    >>> below_median(1.0, [2.0, 3.0, 4.0], startup=3)
    True
    >>> below_median(1.0, [2.0, 3.0], startup=3)
    False
    """
    known = [other for other in others if not math.isnan(other)]
    if len(known) < startup:
        return False
    return math.isnan(value) or value < float(np.median(known))


def round_median(warm_up: int, startup: int = STARTUP) -> Any:
    """Return a pruner: the median over what any trial reported at that round.

    Of trials that run, that are complete and that were pruned; not of failed ones.

    Args:
        warm_up: rounds before which nothing is pruned.
        startup: reports of others that a median needs.
    """
    module = optuna()
    failed = module.trial.TrialState.FAIL

    class RoundMedian(module.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            step = trial.last_step
            if step is None or step < warm_up:
                return False
            others = [
                other.intermediate_values[step]
                for other in study.get_trials(deepcopy=False)
                if other.number != trial.number
                and other.state != failed
                and step in other.intermediate_values
            ]
            return below_median(trial.intermediate_values[step], others, startup)

    return RoundMedian()


def pruner(kind: Any, rounds: int, report_every: int) -> Any:
    """Return a pruner of Optuna's.

    Args:
        kind: a name of `PRUNERS`, or a pruner, which is returned as it is.
        rounds: of a trial; the first fifth of them is warm-up.
        report_every: rounds between two reports.

    Raises:
        OptionError: it is no pruner.
    """
    pruners = optuna().pruners
    if isinstance(kind, pruners.BasePruner):
        return kind
    if not isinstance(kind, str):
        raise checks.OptionError(
            f"pruner must be one of {', '.join(PRUNERS)} or a pruner of Optuna's, got "
            f"{kind!r}"
        )
    checks.known_names("pruner", [kind], PRUNERS)
    warm_up = max(report_every, rounds // 5)
    match kind:
        case "median":
            return round_median(warm_up)
        case "asha":  # Li et al. 2020, "A System for Massively Parallel HPT"
            return pruners.SuccessiveHalvingPruner(
                min_resource=warm_up, reduction_factor=3
            )
        case _:
            return pruners.NopPruner()
