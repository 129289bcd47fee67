"""Searching: many short trials, of which the best configuration is confirmed."""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optix import checks
from optix.files import folder_path
from optix.run.pause import Pause, Watch
from optix.trials import plan as plans
from optix.trials.lead import (
    LEADER,
    OVER,
    PHASE,
    Way,
    by_names,
    checked_slots,
    lead,
    result_of,
    studies,
)
from optix.trials.leases import Lease
from optix.trials.loops import loops
from optix.trials.progress import Bar
from optix.trials.record import SearchResult
from optix.trials.samplers import quiet
from optix.trials.states import States
from optix.trials.study import CONFIRM
from optix.trials.worker import POLL, Worker


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
        confirm: how many of the best configurations are trained again; 0 for none. So
            many runs are kept; a search that goes on confirms none that was not.
        repeats: how often, each on `seeds` fresh keys; the best mean is the best one.
        sampler: "tpe", "random", "gp" (needs torch), "qmc", "cmaes" (needs the package of
            that name), or a sampler of Optuna's.
        pruner: "median" of what any trial has reported at that round, never in the first
            fifth, "asha", "none", or a pruner of Optuna's.
        directory: where the search is kept: study.journal, which optuna-dashboard opens,
            the runs of the best trials, pictures. None keeps nothing.
        storage: a URL in place of the journal: sqlite:///..., redis://..., grpc://...; or
            a storage of Optuna's. Without a directory, searches that differ are apart.
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
    way = Way(slots, vectorize, progress, max_seconds, pause, workers)
    return lead(searched, directory, storage, way)


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
    path = folder_path("directory", directory)
    there = plans.read(path)
    searched = by_names(path, there)
    if trials is not None:
        minimum = searched.trials
        trials = checks.positive_int("trials of a search that goes on", trials, minimum)
        searched = searched._replace(trials=trials)
    way = Way(slots, vectorize, progress, max_seconds, pause, workers)
    return lead(searched, directory, there["storage"], way)


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
    path, began = folder_path("directory", directory), time.monotonic()
    path = Path(os.path.abspath(path))
    there = plans.read(path)
    searched = by_names(path, there)
    made = loops(searched)
    slots = checked_slots(slots, vectorize, progress)
    watch = Watch(max_seconds, pause)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        both = studies(searched, path, there["storage"], there, joins=True)
        main, confirm = both
        stack.enter_context(watch)
        lease = stack.enter_context(Lease(main.inner))
        bar = stack.enter_context(Bar(searched.title, main)) if progress else None
        states = States(path, made, searched.confirm, confirm)
        worker = Worker(
            *(made, slots, vectorize, lease, watch, states),
            moved=bar.moved if bar else lambda: None,
        )
        while watch.reason is None:
            worker.play(main)
            phase = main.inner.user_attrs.get(PHASE)
            if phase == CONFIRM:
                worker.confirms(confirm)
            gone = lease.dead(main.inner.user_attrs.get(LEADER), LEADER)
            if phase == OVER or (gone and not main.unfinished()):
                break
            time.sleep(POLL)
        return result_of(searched, both, path, watch.reason, began)
