"""Searching: many short trials, of which the best configuration is confirmed."""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from optix import checks
from optix.run import description, lock, place
from optix.run.folder import RunFolderError
from optix.run.pause import Pause, Watch
from optix.trials import plan as plans
from optix.trials.confirm import ask_again
from optix.trials.launch import checked_workers, crew, watch_over
from optix.trials.leases import Lease
from optix.trials.loops import loops
from optix.trials.plan import Plan
from optix.trials.plots import pictures
from optix.trials.progress import Bar
from optix.trials.record import SearchResult, best_of, record
from optix.trials.samplers import quiet
from optix.trials.states import States
from optix.trials.storages import SearchError, storage_at
from optix.trials.study import CONFIRM, SEARCH, Study, open_study
from optix.trials.worker import POLL, Worker

RESULT = "search_result.json"
_PHASE, _LEADER = "phase", "leader"


class _Way(NamedTuple):
    """How a search is played, which does not change what is searched."""

    slots: int | None
    vectorize: bool | None
    progress: bool
    max_seconds: float | None
    pause: Pause | None
    workers: int | str | None


def search(
    environment: Any,
    space: Mapping[str, tuple] | None = None,
    trials: int = 20,
    rounds: int = 50,
    slots: int | None = None,
    *,
    agent: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    report_every: int | None = None,
    confirm: int = 3,
    repeats: int = 3,
    sampler: Any = "tpe",
    pruner: Any = "median",
    directory: str | os.PathLike | None = None,
    storage: Any = None,
    workers: int | str | None = None,
    vectorize: bool | None = None,
    max_seconds: float | None = None,
    pause: Pause | None = None,
    progress: bool = True,
    **options: Any,
) -> SearchResult:
    """Try many configurations in short trials and return the best one, confirmed.

    Optuna's ask and tell; a trial is `rounds` of the loop of `optix.make`. What the space
    says of hyperparameters is traced, so that all of them share one compiled program; any
    other option in it (`num_envs`, `hidden`, `agent`) is compiled once for each value.

    The same call goes on with a search that was paused or killed: nothing is lost but the
    trials that were under way, which are played again with their parameters and keys. A
    trial's key depends on `seed` and its number only. The order in which the sampler sees
    results depends on the workers, and so do the configurations that it chooses.

    Args:
        environment: what `optix.make` takes, or a `Loop`.
        space: {name: (kind, low, high)} with a kind of "float", "log_float", "int" and
            "log_int", or {name: ("categorical", *values)}; None takes what tuners change
            of the agent's hyperparameters.
        trials: how many; a search that goes on may want more.
        rounds: of each trial.
        slots: trials under way at once in this process; None takes 1 on a CPU, where they
            go in turn, and 8 where they are mapped over.
        agent: the algorithm, as for `optix.train`; it may be in the space instead.
        seeds: runs of each trial, whose mean is its score.
        seed: of the random numbers.
        report_every: rounds between two reports; None takes a tenth of `rounds`.
        confirm: how many of the best configurations are trained again; 0 for none.
        repeats: how often, each on `seeds` fresh keys; the best mean is the best one.
        sampler: "tpe", "random", "gp", "qmc", "cmaes", or a sampler of Optuna's.
        pruner: "median" of what any trial has reported at that round, never in the first
            fifth, "asha", "none", or a pruner of Optuna's.
        directory: where the search is kept: study.journal, which optuna-dashboard opens,
            the runs of the best trials, pictures. None keeps nothing.
        storage: a URL in place of the journal: sqlite:///..., redis://..., grpc://...; or
            a storage of Optuna's.
        workers: so many processes here, "ray" or "ray:N"; None plays in this one. Others
            join by `optix.join_search`.
        vectorize: map over slots and seeds; None does so except on a CPU.
        max_seconds: wall clock after which the search is paused.
        pause: an `optix.Pause`, as for `optix.train`.
        progress: show a progress bar.
        **options: of `optix.make`, the same in all trials.

    Raises:
        OptionError: an option or a space that can not be, a folder of another search.
        RunFolderError: the directory is in use, or holds something else.
        SearchError: every trial has failed, no worker is left, or the storage does not
            answer.
        ModuleNotFoundError: Optuna is not installed (the extra `search`).

    Example:
        >>> small = dict(num_envs=2, num_steps=8, hidden=(4,), evaluation_episodes=2)
        >>> space = {"learning_rate": ("log_float", 1e-4, 1e-2)}
        >>> found = search("CartPole-v1", space, 2, 1, confirm=0, progress=False, **small)
        >>> list(found.params), len(found.trials)
        (['learning_rate'], 2)
    """
    searched = plans.plan(
        environment,
        space,
        options,
        agent=agent,
        trials=trials,
        rounds=rounds,
        report_every=report_every,
        seeds=seeds,
        seed=seed,
        confirm=confirm,
        repeats=repeats,
        sampler=sampler,
        pruner=pruner,
    )
    way = _Way(slots, vectorize, progress, max_seconds, pause, workers)
    return _lead(searched, directory, storage, way)


def resume_search(
    directory: str | os.PathLike,
    trials: int | None = None,
    *,
    slots: int | None = None,
    workers: int | str | None = None,
    vectorize: bool | None = None,
    max_seconds: float | None = None,
    pause: Pause | None = None,
    progress: bool = True,
) -> SearchResult:
    """Go on with a search by its folder alone.

    Args:
        directory: of the search.
        trials: a greater number of trials; None leaves it.
        slots: as for `search`.
        workers: as for `search`.
        vectorize: as for `search`.
        max_seconds: as for `search`.
        pause: as for `search`.
        progress: as for `search`.

    Raises:
        RunFolderError: no search there, or one made of objects.
        OptionError: fewer trials than there are.
    """
    there = plans.read(Path(directory))
    searched = _by_names(Path(directory), there)
    if trials is not None:
        minimum = searched.trials
        trials = checks.positive_int("trials of a search that goes on", trials, minimum)
        searched = searched._replace(trials=trials)
    way = _Way(slots, vectorize, progress, max_seconds, pause, workers)
    return _lead(searched, directory, there["storage"], way)


def join_search(
    directory: str | os.PathLike,
    *,
    slots: int | None = None,
    vectorize: bool | None = None,
    max_seconds: float | None = None,
    pause: Pause | None = None,
    progress: bool = True,
) -> SearchResult:
    """Play trials of a search that another process leads, until it is over.

    From any host that sees the folder, and its storage where it has one.

    Args:
        directory: of the search.
        slots: as for `search`.
        vectorize: as for `search`.
        max_seconds: wall clock after which this worker leaves.
        pause: an `optix.Pause` that makes it leave.
        progress: show a progress bar.

    Raises:
        RunFolderError: no search there, or one made of objects.
        SearchError: the storage does not answer.
    """
    path, began = Path(os.path.abspath(directory)), time.monotonic()
    there = plans.read(path)
    searched = _by_names(path, there)
    made = loops(searched)
    slots = _checked_slots(slots, vectorize, progress)
    watch = Watch(max_seconds, pause)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        both = _studies(searched, path, there["storage"], there, joins=True)
        main, confirm = both
        stack.enter_context(watch)
        lease = stack.enter_context(Lease(main.inner))
        bar = stack.enter_context(Bar(searched.title, main)) if progress else None
        states = States(path, made, searched.confirm)
        worker = Worker(
            *(made, slots, vectorize, lease, watch, states),
            moved=bar.moved if bar else lambda: None,
        )
        while watch.reason is None:
            worker.play(main)
            phase = main.inner.user_attrs.get(_PHASE)
            if phase == CONFIRM:
                worker.confirms(confirm)
            gone = lease.dead(main.inner.user_attrs.get(_LEADER), _LEADER)
            if phase == "over" or (gone and not main.unfinished()):
                break
            time.sleep(POLL)
        return _result(searched, both, path, watch.reason, began)


def _lead(
    searched: Plan,
    directory: str | os.PathLike | None,
    url: Any,
    way: _Way,
) -> SearchResult:
    """Play a search to its end: trials, confirmations, and what is kept of them."""
    began, hired = time.monotonic(), checked_workers(way.workers)
    slots = _checked_slots(way.slots, way.vectorize, way.progress)
    if hired and (directory is None or not searched.named):
        raise checks.OptionError(
            "workers need a directory and a search that names and numbers say whole: "
            "other processes read it there"
        )
    watch = Watch(way.max_seconds, way.pause)
    made = loops(searched)
    path = None if directory is None else Path(os.path.abspath(directory))
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        there = {"token": "memory", "storage": None}
        if path is not None:
            there = stack.enter_context(_folder(path, searched, url))
        both = _studies(searched, path, url, there, joins=False)
        main, confirm = both
        stack.enter_context(watch)
        lease = stack.enter_context(Lease(main.inner))
        main.inner.set_user_attr(_LEADER, lease.name)
        main.inner.set_user_attr(_PHASE, SEARCH)
        main.mend()
        main.fill(searched.trials)
        bar = stack.enter_context(Bar(searched.title, main)) if way.progress else None
        moved = bar.moved if bar else lambda: None
        if hired and path is not None:
            workers = stack.enter_context(crew(*hired, path, way.slots))

            def play(study: Study) -> None:
                watch_over(workers, study, lease, watch, moved)

            again = play
        else:
            states = None if path is None else States(path, made, searched.confirm)
            worker = Worker(made, slots, way.vectorize, lease, watch, states, moved)
            play, again = worker.play, worker.confirms
        play(main)
        if watch.reason is None:
            _some_complete(main)
            confirm.mend()
            if ask_again(main, confirm, searched.confirm, searched.repeats):
                if bar:
                    bar.follow(confirm, f"{searched.title}, confirming")
                main.inner.set_user_attr(_PHASE, CONFIRM)
                again(confirm)
        paused = watch.reason if main.unfinished() or confirm.unfinished() else None
        result = _result(searched, both, path, paused, began)
        if paused is None:
            main.inner.set_user_attr(_PHASE, "over")
        if path is not None and result.best is not None:
            _keep(path, main, result, searched.title)
        return result


@contextlib.contextmanager
def _folder(path: Path, searched: Plan, url: Any):
    """Make or open the folder of a search, locked; return its search.json.

    Raises:
        RunFolderError: it is in use, or holds something else.
        OptionError: it holds another search.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in os.scandir(path)}
        known = {place.LOCK, f"{plans.FILE}.tmp"}
        if plans.FILE not in names and names - known:
            raise RunFolderError(
                f"{path} holds something else ({sorted(names - known)[0]}); choose an "
                "empty folder"
            )
        held = lock.take(path / place.LOCK, path)
    except OSError as error:
        raise RunFolderError(
            f"can not write to {path} ({error}); choose a folder that you may write to"
        ) from error
    try:
        said = url if url is None or isinstance(url, str) else type(url).__name__
        if plans.FILE not in names:
            there = plans.create(path, searched, said)
        else:
            there = plans.read(path)
            plans.must_agree(path, searched, there["plan"])
            if said != there["storage"]:
                raise checks.OptionError(
                    f"{path} holds a search whose storage is {there['storage']!r}, got "
                    f"{said!r}; go on with the same one"
                )
            plans.update(path, there, searched)
        yield there
    finally:
        lock.release(held)


def _studies(
    searched: Plan, path: Path | None, url: Any, there: Mapping[str, Any], joins: bool
) -> tuple[Study, Study]:
    """Return the study of a search, and that of its confirmations."""
    name = SEARCH
    if url is not None:  # where others may keep theirs, too
        name = f"{path.name if path else 'optix'}-{there['token']}"
    store = storage_at(path, url)
    place = int.from_bytes(os.urandom(4), "little") if joins else None
    about = searched, store, url, name, there["token"]
    return open_study(*about, SEARCH, place), open_study(*about, CONFIRM, place)


def _by_names(path: Path, there: Mapping[str, Any]) -> Plan:
    if there["plan"] is None:
        raise RunFolderError(
            f"{path} holds a search that was made from objects; call optix.search with "
            "the same ones and this directory"
        )
    return there["plan"]


def _checked_slots(slots: Any, vectorize: Any, progress: Any) -> int:
    checks.boolean("progress", progress)
    if vectorize is not None:
        checks.boolean("vectorize", vectorize)
    if slots is None:
        in_turn = jax.default_backend() == "cpu" if vectorize is None else not vectorize
        return 1 if in_turn else 8
    return checks.positive_int("slots", slots)


def _some_complete(study: Study) -> None:
    """Raise SearchError if every trial has failed."""
    if study.of_state("COMPLETE"):
        return
    failed = study.of_state("FAIL")
    said = dict.fromkeys(str(trial.user_attrs.get("error")) for trial in failed)
    raise SearchError(
        f"none of {len(study.of_state())} trials was complete, {len(failed)} have "
        f"failed: {'; '.join(list(said)[:3])}; look into the space, or let a trial be "
        "longer (rounds)"
    )


def _result(
    searched: Plan,
    both: tuple[Study, Study],
    path: Path | None,
    paused: str | None,
    began: float,
) -> SearchResult:
    trials = record(*both)
    return SearchResult(
        best=best_of(both[0], trials),
        trials=trials,
        rounds=searched.trials * searched.rounds * searched.seeds,
        directory=path,
        paused=paused,
        seconds=time.monotonic() - began,
    )


def _keep(path: Path, main: Study, result: SearchResult, title: str) -> None:
    """Write what a search came to, and its pictures."""
    assert result.best is not None
    best = result.best._asdict()
    description.write_record(
        path / RESULT, {"format": plans.FORMAT, "message": result.message, "best": best}
    )
    pictures(path, main, result.trials, title)
