"""The runs of the best trials, each in a folder as `optix train` makes them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optix.callbacks.base import Rounds
from optix.run.ending import keep
from optix.run.folder import RunFolder
from optix.run.result import Result, best_seed
from optix.run.train import new_config
from optix.trials.loops import Loops
from optix.trials.slots import Slots
from optix.trials.study import Study, best_first, settings
from optix.types import LoopState, StopReason

FOLDER = "trials"


class Kept(NamedTuple):
    """The runs of a trial that is over, [seeds, ...]."""

    state: LoopState  # as they were played, for who goes on
    finished: LoopState  # scored afresh
    told: Sequence[Rounds]  # what their rounds have reported, in their order


class States:
    """The folders of the best trials; those of others are removed.

    Args:
        directory: of the search.
        loops: of its plan.
        count: how many of the best trials are kept.
        confirm: the study of confirmations, whose trials are kept, too: one of them may
            stay the best while later ones have higher scores.
    """

    def __init__(self, directory: Path, loops: Loops, count: int, confirm: Study):
        """See the class."""
        self._directory, self._confirm = directory / FOLDER, confirm
        self._loops, self._count = loops, max(count, 1)

    def path(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self._directory / str(number)

    def keep(
        self,
        study: Study,
        trial: Any,
        score: float,
        group: Slots,
        runs: Kept,
    ) -> None:
        """Write the runs of a trial that is about to be complete, if it is a best one."""
        best = self._best(study)
        if len(best) >= self._count and score < best[-1].value:
            return
        plan, path = self._loops.plan, self.path(trial.number)
        shutil.rmtree(path, ignore_errors=True)  # of a worker that was killed in it
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = self._loops.recipe(settings(plan.space, trial.params))
        config = new_config(recipe, plan.seeds, plan.seed, group.vectorize)
        config["budgets"] = {"max_rounds": plan.rounds}
        with RunFolder.create(path, config) as folder:
            folder.save(runs.state, group.loop, best_seed(runs.state))
            for log in folder.logs(runs.state):
                log.on_loop_start()
                for rounds in runs.told:
                    log.on_rounds(rounds)
                log.on_loop_stop()
            keep(folder, group.loop, _result(runs.finished, path))

    def prune(self, study: Study) -> None:
        """Remove the runs of trials that are not among the best any more."""
        best = {trial.number for trial in self._best(study)}
        best |= {trial.user_attrs["of"] for trial in self._confirm.of_state()}
        for trial in study.of_state("COMPLETE"):
            if trial.number not in best:
                shutil.rmtree(self.path(trial.number), ignore_errors=True)

    def _best(self, study: Study) -> list[Any]:
        return best_first(study.of_state("COMPLETE"))[: self._count]


def _result(finished: LoopState, path: Path) -> Result:
    """Return what the runs of a trial came to."""
    return Result(
        state=finished,
        scores=np.asarray(finished.best.score),
        stop_reasons=tuple(StopReason(int(r)) for r in finished.stop_reason),
        best_seed=best_seed(finished),
        paused=None,
        seconds=0.0,
        steps_per_second=0.0,
        directory=path,
    )
