"""The study that workers share: tickets, what is played, what is put back.

A search is a number of tickets, trials that wait in the study. Whoever takes one plays it.
So there are as many trials as were asked for, whatever happens to those who play, and no
number is there twice. A trial whose worker is gone stays as FAIL, says so, and its
parameters wait again under another number, with the key of the first one.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from optix.trials.leases import Lease, workers
from optix.trials.plan import Plan
from optix.trials.pruning import pruner
from optix.trials.samplers import optuna, sampler
from optix.trials.storages import SearchError, opened

SEARCH, CONFIRM = "search", "confirm"
MAX_DEATHS = 3  # of workers, after which a trial is what killed them
_TICKET, _ROOT, _DEATHS, _OWNER = "ticket", "key_of", "deaths", "worker"
_ERROR, _LOST, _TOKEN = "error", "put_back", "token"


class Study(NamedTuple):
    """A study of Optuna's, as trials are taken from it."""

    inner: Any  # optuna.Study
    store: Any  # its storage
    space: Mapping[str, tuple]

    def take(self, lease: Lease) -> Any:
        """Return the next trial to play, None if no ticket waits."""
        waiting = optuna().trial.TrialState.WAITING
        while self.inner.get_trials(deepcopy=False, states=(waiting,)):
            trial = self.inner.ask()
            if not trial.user_attrs.get(_TICKET):  # another one took the last ticket
                self.fail(trial, "not needed: all trials are taken", lost=True)
                continue
            trial.set_user_attr(_OWNER, lease.name)
            for name, entry in self.space.items():
                _suggest(trial, name, entry)
            return trial
        return None

    def unfinished(self) -> bool:
        """Return whether a trial waits or is played."""
        return bool(self.of_state("WAITING", "RUNNING"))

    def of_state(self, *names: str) -> list[Any]:
        """Return the trials of some states; without those that were put back."""
        states = tuple(optuna().trial.TrialState[name] for name in names) or None
        trials = self.inner.get_trials(deepcopy=False, states=states)
        return [t for t in trials if t.user_attrs.get(_TICKET) and not _lost(t)]

    def put_back(self, lease: Lease) -> list[int]:
        """Let the trials of dead workers wait again; return their numbers."""
        back = []
        for trial in self.of_state("RUNNING"):
            owner = trial.user_attrs.get(_OWNER)
            if lease.dead(owner, trial.number):
                deaths = trial.user_attrs.get(_DEATHS, 0) + 1
                if self._give_up(trial, deaths) and deaths < MAX_DEATHS:
                    self._again(trial, deaths)
                    back.append(trial.number)
        return back

    def mend(self) -> None:
        """Put back what a kill between losing a trial and putting it back has cost."""
        trials = self.inner.get_trials(deepcopy=False)
        for trial in trials:
            later = (root(other) for other in trials if other.number > trial.number)
            if (
                _lost(trial)
                and trial.user_attrs.get(_TICKET)
                and root(trial) not in later
            ):
                self._again(trial, trial.user_attrs.get(_DEATHS, 0) + 1)

    def fill(self, trials: int) -> None:
        """Add tickets until there are so many, whatever has become of them."""
        waiting = _state("WAITING")
        for _ in range(trials - len(self.of_state())):
            # not enqueued: samplers such as the grid's leave those with parameters alone
            ticket = optuna().trial.create_trial(
                state=waiting, user_attrs={_TICKET: True}
            )
            self.inner.add_trial(ticket)

    def report(self, trial: Any, value: float, step: int) -> None:
        """Report a score at a round; one that is not finite is none."""
        if math.isfinite(value):
            with over_is_over():
                trial.report(value, step)

    def prunes(self, trial: Any) -> bool:
        """Return whether the pruner gives a trial up."""
        return trial.should_prune()

    def tell(self, trial: Any, score: float | None, figures: dict[str, Any]) -> None:
        """End a trial: complete with a score, or pruned without, and note figures."""
        state = optuna().trial.TrialState
        with over_is_over():
            trial.set_user_attr("figures", figures)
            end = state.PRUNED if score is None else state.COMPLETE
            try:
                self.inner.tell(trial, score, state=end, skip_if_finished=True)
            except RuntimeError as error:
                # a sampler that has nothing left to try would stop `Study.optimize`; what
                # was told is there, and the trials that are left are drawn by chance
                if "Study.stop" not in str(error):
                    raise

    def fail(
        self,
        trial: Any,
        message: str,
        lost: bool = False,
        figures: dict[str, Any] | None = None,
    ) -> bool:
        """Let a trial fail and say why; False if it is over already, by whomsoever."""
        with over_is_over():
            if figures is not None:
                trial.set_user_attr("figures", figures)
            self.store.set_trial_user_attr(trial._trial_id, _ERROR, message[:500])
            if lost:
                self.store.set_trial_user_attr(trial._trial_id, _LOST, True)
            failed = optuna().trial.TrialState.FAIL
            return self.store.set_trial_state_values(trial._trial_id, failed)
        return False

    def _again(self, trial: Any, deaths: int) -> None:
        attributes = {**_lasting(trial), _ROOT: root(trial), _DEATHS: deaths}
        self.inner.enqueue_trial(trial.params, user_attrs=attributes)

    def _give_up(self, trial: Any, deaths: int) -> bool:
        """Return whether it was this worker that let a trial fail."""
        message = f"its worker was gone before its end, for the {deaths}. time"
        return self.fail(trial, message, lost=deaths < MAX_DEATHS)


def root(trial: Any) -> int:
    """Return the number by which the keys of a trial are made."""
    return trial.user_attrs.get(_ROOT, trial.number)


def error_of(trial: Any) -> str | None:
    """Return why a trial failed, None if it did not."""
    return trial.user_attrs.get(_ERROR)


def enqueue_again(
    study: Study, number: int, params: Any, repeats: Sequence[int]
) -> None:
    """Let the parameters of a trial wait, so often, in the study of confirmations."""
    for repeat in repeats:
        attributes = {_TICKET: True, "of": number, "repeat": repeat}
        study.inner.enqueue_trial(params, user_attrs=attributes)


def open_study(
    searched: Plan,
    store: Any,
    url: Any,
    name: str,
    token: str,
    part: str,
    place: int | None = None,
) -> Study:
    """Return a part of a search, made if it is not there.

    Args:
        searched: the plan.
        store: of Optuna's.
        url: of it, for messages.
        name: of the search in the storage.
        token: that the search.json says, too.
        part: `SEARCH` or `CONFIRM`.
        place: a number by which this worker draws otherwise than those beside it; None
            counts the workers so far.

    Raises:
        SearchError: the storage does not answer, or holds another search by that name.
    """
    module = optuna()
    trials = pruner(searched.pruner, searched.rounds, searched.report_every)
    chosen = sampler(searched.sampler, searched.seed, 0, 0)
    if part == CONFIRM:
        trials = module.pruners.NopPruner()

    def make():
        inner = module.create_study(
            storage=store,
            study_name=name if part == SEARCH else f"{name} {part}",
            load_if_exists=True,
            direction="maximize",
            sampler=chosen,
            pruner=trials,
        )
        if _TOKEN not in inner.user_attrs and not inner.get_trials(deepcopy=False):
            inner.set_user_attr(_TOKEN, token)
        return inner

    inner = opened(make, url)
    if inner.user_attrs.get(_TOKEN) != token:
        raise SearchError(
            f"the storage holds another search that is called {name!r}; choose another "
            "directory, whose name a search takes"
        )
    if part == SEARCH and isinstance(searched.sampler, str):
        waiting = len(inner.get_trials(deepcopy=False, states=(_state("WAITING"),)))
        begun = len(inner.get_trials(deepcopy=False)) - waiting
        place = workers(inner) if place is None else place
        # a search that goes on draws anew, not again what it has drawn
        inner.sampler = sampler(searched.sampler, searched.seed, begun, place)
    return Study(inner, store, searched.space)


def best_first(trials: Sequence[Any]) -> list[Any]:
    """Return those with a score, the best first, of equals the earlier one."""
    scored = [t for t in trials if t.value is not None and math.isfinite(t.value)]
    return sorted(scored, key=lambda trial: (-trial.value, trial.number))


def settings(space: Mapping[str, tuple], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the parameters of a trial stand for.

    >>> settings({"hidden": ("categorical", (4,), (8, 8))}, {"hidden": "(8, 8)"})
    {'hidden': (8, 8)}
    """
    return {
        name: _labels(space[name])[value] if space[name][0] == "categorical" else value
        for name, value in params.items()
    }


def _state(name: str) -> Any:
    return optuna().trial.TrialState[name]


def _lost(trial: Any) -> bool:
    """Whether a trial failed only in name; one that was ended after all counts."""
    failed = trial.state == _state("FAIL")
    return failed and bool(trial.user_attrs.get(_LOST))


def _lasting(trial: Any) -> dict[str, Any]:
    gone = (_OWNER, _ERROR, _LOST)
    return {n: v for n, v in trial.user_attrs.items() if n not in gone}


def _suggest(trial: Any, name: str, entry: tuple) -> None:
    """Let the sampler choose a value of a space tuple."""
    kind, *values = entry
    log = kind.startswith("log_")
    if kind == "categorical":
        trial.suggest_categorical(name, tuple(_labels(entry)))
    elif kind.endswith("int"):
        trial.suggest_int(name, *values, log=log)
    else:
        trial.suggest_float(name, *values, log=log)


def _labels(entry: tuple) -> dict[Any, Any]:
    """Return {label: value} of categories: what storages hold and dashboards show."""
    scalar = str | bool | int | float | None
    return {
        value if isinstance(value, scalar) else str(value): value for value in entry[1:]
    }


@contextlib.contextmanager
def over_is_over():
    """Let pass that somebody else has ended a trial, having taken this one for dead."""
    with contextlib.suppress(optuna().exceptions.UpdateFinishedTrialError):
        yield
