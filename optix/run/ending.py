"""What is kept of a run that has ended: the policy that it reports, and result.json."""

import math
import warnings
from typing import Any

import numpy as np

from optix.run import description
from optix.run.folder import RunFolder
from optix.run.result import Result
from optix.types import Loop


def keep(folder: RunFolder, loop: Loop, result: Result) -> None:
    """Write the result of a run that has ended; what can not be written is a warning."""
    policy, figures = folder.best.directory, folder.result
    for path, write in (
        (policy, lambda: folder.save_best(result.state, loop, result.best_seed, True)),
        (figures, lambda: description.write_record(figures, summary(result))),
    ):
        try:
            write()
        except Exception as error:  # nothing may cost the result, which is in memory
            warnings.warn(
                f"the result could not be written to {path} ({error}); it is returned "
                "all the same",
                stacklevel=3,
            )


def summary(result: Result) -> dict[str, Any]:
    """Return the figures of a result as JSON values, those of S seeds in lists.

    Numbers that are not finite become None.
    """
    state, best = result.state, result.state.best
    return {
        "format": description.FORMAT,
        "message": result.message,
        "best_seed": result.best_seed,
        "scores": _numbers(result.scores),
        "best_rounds": _numbers(best.round),
        "best_hyperparams": {n: _numbers(v) for n, v in best.hyperparams.items()},
        "stop_reasons": [reason.name for reason in result.stop_reasons],
        "rounds": _numbers(state.round),
        "env_steps": _numbers(state.env_steps),
        "seconds": result.seconds,
        "steps_per_second": result.steps_per_second,
    }


def _numbers(values: Any) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in np.asarray(values).tolist()]
