"""Leading a search: its folder, its studies, its end. One process leads, others join."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from optix import checks
from optix.files import folder_path
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
from optix.trials.states import FOLDER, States
from optix.trials.storages import SearchError, storage_at
from optix.trials.study import CONFIRM, SEARCH, Study, error_of, open_study
from optix.trials.worker import Worker

RESULT = "search_result.json"
PHASE, LEADER, OVER = "phase", "leader", "over"  # attributes of the study


class Way(NamedTuple):
    """How a search is played, which does not change what is searched."""

    slots: int | None
    vectorize: bool | None
    progress: bool
    max_seconds: float | None
    pause: Pause | None
    workers: int | str | None


def lead(
    searched: Plan,
    directory: str | os.PathLike | None,
    url: Any,
    way: Way,
) -> SearchResult:
    """Play a search to its end: trials, confirmations, and what is kept of them."""
    began, hired = time.monotonic(), checked_workers(way.workers)
    slots = checked_slots(way.slots, way.vectorize, way.progress)
    if hired and (directory is None or not searched.named):
        raise checks.OptionError(
            "workers need a directory and a search that names and numbers say whole: "
            "other processes read it there"
        )
    watch = Watch(way.max_seconds, way.pause)
    made = loops(searched)
    path = None
    if directory is not None:
        path = Path(os.path.abspath(folder_path("directory", directory)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        # before there is a folder, which would keep the name of one that can not be
        new = path is None or not (path / plans.FILE).exists()
        store = storage_at(None, url) if new and url is not None else None
        there = {"token": plans.digest(searched), "storage": None}
        if path is not None:
            there = stack.enter_context(_folder(path, searched, url))
        both = studies(searched, path, url, there, joins=False, store=store)
        main, confirm = both
        stack.enter_context(watch)
        lease = stack.enter_context(Lease(main.inner))
        main.inner.set_user_attr(LEADER, lease.name)
        main.inner.set_user_attr(PHASE, SEARCH)
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
            states = path and States(path, made, searched.confirm, confirm)
            worker = Worker(made, slots, way.vectorize, lease, watch, states, moved)
            play, again = worker.play, worker.confirms
        play(main)
        if watch.reason is None:
            _some_complete(main)
            confirm.mend()
            many = searched.confirm, searched.repeats
            if ask_again(main, confirm, *many, partial(_kept, path)):
                if bar:
                    bar.follow(confirm, f"{searched.title}, confirming")
                main.inner.set_user_attr(PHASE, CONFIRM)
                again(confirm)
        paused = watch.reason if main.unfinished() or confirm.unfinished() else None
        result = result_of(searched, both, path, paused, began)
        if paused is None:
            main.inner.set_user_attr(PHASE, OVER)
        if path is not None and result.best is not None:
            _keep(path, main, result, searched.title)
        return result


def _kept(path: Path | None, number: int) -> bool:
    """Return whether the runs of a trial are there, where there is a folder for them."""
    return path is None or (path / FOLDER / str(number)).exists()


@contextlib.contextmanager
def _folder(path: Path, searched: Plan, url: Any) -> Iterator[dict[str, Any]]:
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


def studies(
    searched: Plan,
    path: Path | None,
    url: Any,
    there: Mapping[str, Any],
    joins: bool,
    store: Any = None,
) -> tuple[Study, Study]:
    """Return the study of a search, and that of its confirmations.

    Args:
        searched: the plan.
        path: of its folder.
        url: of the storage.
        there: what its search.json says.
        joins: whether others have begun it.
        store: the storage, if it is open already.
    """
    name = SEARCH
    if url is not None:  # where others may keep theirs, too
        name = f"{path.name if path else 'optix'}-{there['token']}"
    store = storage_at(path, url) if store is None else store
    place = int.from_bytes(os.urandom(4), "little") if joins else None
    about = searched, store, url, name, there["token"]
    return open_study(*about, SEARCH, place), open_study(*about, CONFIRM, place)


def by_names(path: Path, there: Mapping[str, Any]) -> Plan:
    """Return the plan that a search.json says; RunFolderError if it can not."""
    if there["plan"] is None:
        raise RunFolderError(
            f"{path} holds a search that was made from objects; call optix.search with "
            "the same ones and this directory"
        )
    return there["plan"]


def checked_slots(slots: Any, vectorize: Any, progress: Any) -> int:
    """Return how many slots a worker has, or raise OptionError."""
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
    ends = [f"{n} were pruned"] if (n := len(study.of_state("PRUNED"))) else []
    if failed:
        said = dict.fromkeys(str(error_of(trial)) for trial in failed)
        ends.append(f"{len(failed)} have failed: {'; '.join(list(said)[:3])}")
    raise SearchError(
        f"none of {len(study.of_state())} trials was complete, {', '.join(ends)}; look "
        "into the space and the pruner, or let a trial be longer (rounds)"
    )


def result_of(
    searched: Plan,
    both: tuple[Study, Study],
    path: Path | None,
    paused: str | None,
    began: float,
) -> SearchResult:
    """Return what a search has come to so far."""
    trials = record(*both)
    return SearchResult(
        best=best_of(both[0], trials),
        trials=trials,
        rounds=searched.rounds * searched.seeds,
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
