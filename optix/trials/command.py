"""`optix search`, as typed."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from optix.callbacks.terminal import Stream
from optix.checks import OptionError
from optix.run.pause import EXIT_CODES
from optix.run.place import next_directory
from optix.trials.record import SearchResult
from optix.trials.samplers import optuna
from optix.trials.search import join_search, resume_search, search
from optix.trials.storages import SearchError
from optix.words import parsed, value_of

_FLAGS = {*inspect.signature(search).parameters, "env", "resume", "join"} - {"options"}
_Space = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="NAME=KIND:VALUE:..."),
    tyro.conf.UseAppendAction,
]
_Settings = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="set", metavar="NAME=VALUE"),
    tyro.conf.UseAppendAction,
]


def search_command(
    environment: tyro.conf.Positional[str | None] = None,
    agent: str | None = None,
    space: _Space = (),
    trials: int | None = None,
    rounds: int = 50,
    slots: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    report_every: int | None = None,
    confirm: int = 3,
    repeats: int = 3,
    sampler: str = "tpe",
    pruner: str = "median",
    directory: Path | None = None,
    storage: str | None = None,
    workers: str | None = None,
    resume: Path | None = None,
    join: Path | None = None,
    vectorize: bool | None = None,
    max_seconds: float | None = None,
    progress: bool = True,
    settings: _Settings = (),
) -> int:
    """Try configurations in short trials; the best ones are trained again to confirm.

    `optix train --from DIR` goes on from the best trial. Ctrl-C pauses; trials that were
    under way are played again by --resume, with their parameters and keys. A trial's keys
    depend on its number only; the order in which the sampler sees results depends on the
    workers, and so do the configurations that it chooses.

    Args:
        environment: as for train.
        agent: as for train.
        space: what to choose, as learning_rate=log_float:1e-5:1e-2, num_envs=int:8:64 or
            hidden=categorical:(32,):(64,64); may be given several times. By default the
            agent's usual hyperparameters within their usual bounds.
        trials: how many, by default 20.
        rounds: of each trial.
        slots: trials under way at once in a process; by default 1 on a CPU, else 8.
        seeds: runs of each trial, whose mean is its score.
        seed: of the random numbers.
        report_every: rounds between two reports; by default a tenth of them.
        confirm: so many of the best configurations are trained again; 0 for none.
        repeats: so often, each on fresh keys.
        sampler: tpe, random, gp (needs torch), qmc or cmaes (needs the package cmaes).
        pruner: median (of what any trial has reported at that round), asha or none.
        directory: where the search is kept, by default the next runs/ENV-search-N.
        storage: a URL in place of its journal: sqlite:///..., redis://..., grpc://...
        workers: so many processes here; or ray, or ray:N.
        resume: the folder of a search, to go on with it; --trials may be more.
        join: the folder of a search, to play trials of it beside its other workers.
        vectorize: map over slots and seeds at once; by default except on a CPU.
        max_seconds: wall clock after which the search is paused.
        progress: show a progress bar.
        settings: of all trials, as for train; may be given several times.
    """
    try:
        optuna()
    except ModuleNotFoundError as error:
        raise SearchError(str(error)) from error
    shared: dict[str, Any] = {
        "slots": slots,
        "vectorize": vectorize,
        "max_seconds": max_seconds,
        "progress": progress,
    }
    chosen: dict[str, Any] = {
        "rounds": rounds,
        "seeds": seeds,
        "seed": seed,
        "report_every": report_every,
        "confirm": confirm,
        "repeats": repeats,
        "sampler": sampler,
        "pruner": pruner,
    }
    if sum(given is not None for given in (environment, resume, join)) != 1:
        raise OptionError(
            "search takes one of an environment, --resume DIR and --join DIR"
        )
    if environment is None:
        said = {"agent": agent, "space": space, **chosen, "settings": settings}
        _must_be_left_out(**said, directory=directory, storage=storage)
    if join is not None:
        if trials is not None or workers is not None:
            raise OptionError("--join takes neither --trials nor --workers")
        return _present(join_search(join, **shared))
    shared["workers"] = workers
    if resume is not None:
        return _present(resume_search(resume, trials, **shared))
    assert environment is not None
    result = search(
        environment,
        parsed_space(space) or None,
        20 if trials is None else trials,
        agent=agent,
        directory=directory or next_directory(environment, "search"),
        storage=storage,
        **chosen,
        **shared,
        **parsed(settings, _FLAGS, "search"),
    )
    return _present(result)


def _must_be_left_out(**given: Any) -> None:
    """Raise OptionError for what the folder of a search says, if it is said anew."""
    parameters = inspect.signature(search_command).parameters
    for name, value in given.items():
        if value != parameters[name].default:
            said = "set" if name == "settings" else name.replace("_", "-")
            raise OptionError(
                f"--resume and --join take --{said} from the search, got {value!r}; "
                "leave it out"
            )


def parsed_space(entries: Sequence[str]) -> dict[str, tuple]:
    """Return the space that --space says.

    >>> parsed_space(["learning_rate=log_float:1e-4:1e-2", "agent=categorical:ppo:dqn"])
    {'learning_rate': ('log_float', 0.0001, 0.01), 'agent': ('categorical', 'ppo', 'dqn')}
    """
    space = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        kind, colon, values = text.partition(":")
        if not (name and equals and kind and colon):
            raise OptionError(f"--space takes NAME=KIND:VALUE:VALUE, got {entry!r}")
        space[name] = (kind, *map(value_of, values.split(":")))
    return space


def _present(result: SearchResult) -> int:
    """Print what a search came to and return the exit code."""
    from rich.console import Console

    stream: Any = Stream(sys.stdout)
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    console.print(result.table())
    console.print(result.message, soft_wrap=True)
    if result.saved > 0 and result.paused is None:
        console.print(f"pruning has saved {result.saved:.0%} of the rounds")
    if result.best is not None and result.paused is None:
        console.print(
            f"go on with `optix train --from {result.directory}`", soft_wrap=True
        )
    return EXIT_CODES.get(result.paused or "", 0)
