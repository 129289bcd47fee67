"""The command line: `optix train ENV`; `resume`, `eval`, `play` and `export` its folder.

`optix search ENV` chooses the hyperparameters of a run before; `optix envs` lists
environments.
"""

import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from optix import checks
from optix.callbacks import tensorboard, wandb
from optix.callbacks.base import LoopCallback
from optix.callbacks.tensorboard import TensorBoardCallback
from optix.callbacks.terminal import Stream, say
from optix.callbacks.wandb import WandbCallback
from optix.checkpoints.registry import CheckpointError
from optix.checks import OptionError
from optix.distributed import hosts, peers
from optix.distributed.devices import devices as found_devices
from optix.distributed.launch import launch
from optix.distributed.mesh import DevicesDifferError
from optix.envs.listing import listing
from optix.make import usual_agent
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolderError
from optix.run.load import load
from optix.run.pause import EXIT_CODES
from optix.run.place import next_directory
from optix.run.play import play
from optix.run.programs import enable_compilation_cache
from optix.run.result import Result
from optix.run.train import resume, train
from optix.trials.command import search_command
from optix.trials.storages import SearchError
from optix.trials.train_from import train_from
from optix.words import parsed

_FLAGS = {
    *inspect.signature(train).parameters,
    "environment",
    "env",
    "tuner",
    "policies",
    "actors",
    "engine",
    "diagnostics",
    "log",
} - {*("drop_stopped", "max_snapshots")}  # what `_train` hands on by itself
_LOGGERS = {"tensorboard": TensorBoardCallback, "wandb": WandbCallback}
_TRACES = {"tensorboard": tensorboard.FOLDER, "wandb": wandb.FILE}  # in a run's folder

_Settings = Annotated[
    tuple[str, ...],
    tyro.conf.arg(name="set", metavar="NAME=VALUE"),
    tyro.conf.UseAppendAction,
]


@dataclass(frozen=True)
class Processes:
    """The processes that a run is spread over; see optix/distributed/README.md."""

    hosts: bool = False
    """Join those that Slurm, Kubernetes or MPI has started."""
    coordinator: str | None = None
    """ADDRESS:PORT of process 0, where nothing else says it."""
    process: int | None = None
    """The number of this one, from 0."""
    processes: int | None = None
    """How many there are."""
    join_seconds: int = 300
    """How long to wait for the others."""
    heartbeat_seconds: int = 30
    """How long a process may be silent before all others end."""


_Processes = Annotated[Processes, tyro.conf.arg(name="")]
_ALONE = Processes()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0: the run has ended, or --max-seconds are over. 1: devices that share one policy hold
    different ones. 2: a mistake in what was asked for.
    75: another process of the run is gone or never came, which `optix launch` answers by
    starting all of them again; JAX may notice first and end the process by SIGABRT (134).
    129, 130 and 143: paused and saved after SIGHUP, SIGINT (Ctrl-C) or SIGTERM.
    """
    try:
        return _run(arguments)
    finally:
        _let_go(sys.stdout)


def _run(arguments: Sequence[str] | None) -> int:
    enable_compilation_cache()
    commands = {
        "train": _train,
        "resume": _resume,
        "eval": _eval,
        "play": _play,
        "export": _export,
        "search": search_command,
        "envs": _envs,
        "launch": _launch,
    }
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["launch"]:  # what follows is a command of its own
            return launch(arguments[1:])
        return tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="optix",
            description="Train sequential learning models that stop by themselves.",
            args=arguments,
        )
    except (CheckpointError, RunFolderError, OptionError, SearchError) as error:
        return _mistake(error)
    except peers.PeerLostError as error:
        print(f"optix: {error}", file=sys.stderr)
        hosts.leave_at_once(hosts.LOST)
        raise AssertionError from error  # never
    except peers.HostsError as error:
        return _mistake(error)
    except DevicesDifferError as error:
        print(f"optix: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped at once; `optix resume` goes on from the last checkpoint")
        return EXIT_CODES["SIGINT"]


def _train(
    environment: tyro.conf.Positional[str | None] = None,
    agent: str | None = None,
    network: str | None = None,
    tuner: str | None = None,
    policies: int | None = None,
    diagnostics: bool = False,
    seeds: int = 1,
    seed: int = 0,
    num_envs: int | None = None,
    async_envs: Annotated[bool, tyro.conf.arg(name="async")] = False,
    directory: Path | None = None,
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    max_rounds: int | None = None,
    max_env_steps: int | None = None,
    target_score: float | None = None,
    max_seconds: float | None = None,
    checkpoint_seconds: float = 30.0,
    memory_every: int = 10,
    vectorize: bool | None = None,
    devices: int | None = None,
    processes: _Processes = _ALONE,
    actors: int | None = None,
    engine: str | None = None,
    log: str | None = None,
    progress: bool = True,
    settings: _Settings = (),
) -> int:
    """Train until every seed has stopped by itself; Ctrl-C pauses and saves.

    Args:
        environment: name of the environment, such as CartPole-v1: of gymnax, or else of
            Gymnasium, which gymnasium:CartPole-v1 forces.
        agent: the algorithm; by default ppo where actions are discrete, else sac, and
            impala of actors.
        network: graph, for a network of neurons that can grow; by default the agent's.
        tuner: of the hyperparameters during the run: fixed, trust (PPO), spsa, momentum,
            backoff, adaptive or pbt; by default trust for PPO whose learning rate is not
            set, else fixed.
        policies: places of a population: where one run has gone dormant another one is
            spawned from the best, first near to it and then further out.
        diagnostics: detect loss spikes, entropy collapse, divergence that is too high and
            stale exploration, and act against them.
        seeds: independent runs side by side.
        seed: of the random numbers.
        num_envs: environments side by side; by default the algorithm's number.
        async_envs: step environments of Gymnasium in processes of their own.
        directory: where the run is kept, by default the next runs/ENV-AGENT-N.
        start: a search, or a run: go on from its best trial, or from its end, in a folder
            of its own. It says environment, agent and options; budgets are new ones.
        max_rounds: budget of rounds.
        max_env_steps: budget of environment steps.
        target_score: score at which the run is done.
        max_seconds: wall clock after which the run is paused.
        checkpoint_seconds: time between two checkpoints.
        memory_every: of so many checkpoints one holds the replay of an agent that has one.
        vectorize: map over the seeds all at once; by default except on a CPU.
        devices: how many to use, by default one, or all of several processes: seeds are
            spread over them as far as they divide, and the devices of a seed share its
            environments and its replay; on a CPU they are made.
        processes: the other ones that this run is spread over.
        actors: how many play environments of Gymnasium, apart from the learner.
        engine: where they do: inline (the default), threads or ray.
        log: tensorboard, wandb, or both with a comma: where to log beside log.jsonl.
        progress: show a progress bar.
        settings: a hyperparameter or size, such as learning_rate=1e-3 or num_envs=128;
            may be given several times.
    """
    _join(processes, devices)
    if not peers.joined():
        found_devices(1 if devices is None else devices)  # before anything is computed
    callbacks = _loggers(log)
    budgets = _budgets(max_rounds, max_env_steps, target_score)
    session: dict[str, Any] = {
        "max_seconds": max_seconds,
        "checkpoint_seconds": checkpoint_seconds,
        "memory_every": memory_every,
        "callbacks": callbacks,
        "progress": progress,
    }
    if start is not None:
        given = (environment, agent, network, num_envs, vectorize, policies, actors)
        given += (engine, *settings)
        switched = diagnostics or async_envs or devices not in (None, 1)
        if tuner is not None or seeds != 1 or seed or switched or any(given):
            raise OptionError(
                "--from takes environment, agent, seeds and options from the run that it "
                "goes on from; leave them out (budgets and --directory may be new)"
            )
        into = directory or next_directory("from", start.resolve().name)
        return _present(train_from(start, into, **session, **budgets))
    if environment is None:
        raise OptionError(
            "train needs an environment, such as CartPole-v1, or --from DIR"
        )
    options = _parsed(settings) | budgets
    if network is not None:
        options["network"] = network
    if policies is not None:
        options["policies"] = policies
    if num_envs is not None:
        options["num_envs"] = num_envs
    if engine is not None and actors is None:
        raise OptionError("--engine is where actors play; say --actors N beside it")
    if actors is not None:
        options |= {"actors": actors, **({"engine": engine} if engine else {})}
    if async_envs:
        options["async_envs"] = True
    if diagnostics:
        options["diagnostics"] = True
    agent = agent or usual_agent(environment, **options)
    result = train(
        environment,
        agent=agent,
        seeds=seeds,
        seed=seed,
        directory=directory or next_directory(environment, agent),
        vectorize=vectorize,
        devices=devices,
        tuner=tuner,
        **session,
        **options,
    )
    return _present(result)


def _resume(
    directory: tyro.conf.Positional[Path],
    max_rounds: int | None = None,
    max_env_steps: int | None = None,
    target_score: float | None = None,
    max_seconds: float | None = None,
    checkpoint_seconds: float = 30.0,
    memory_every: int = 10,
    devices: int | None = None,
    processes: _Processes = _ALONE,
    progress: bool = True,
) -> int:
    """Continue a run from its last checkpoint, as if it had never been paused.

    It logs where it did before.

    Args:
        directory: of the run.
        max_rounds: new budget of rounds.
        max_env_steps: new budget of environment steps.
        target_score: new score at which the run is done.
        max_seconds: wall clock after which the run is paused again.
        checkpoint_seconds: time between two checkpoints.
        memory_every: of so many checkpoints one holds the replay of an agent that has one.
        devices: how many to go on with, by default as many as before, or all of several
            processes.
        processes: the other ones that this run is spread over.
        progress: show a progress bar.
    """
    _join(processes, devices)
    result = resume(
        directory,
        callbacks=_loggers_of(directory),
        max_seconds=max_seconds,
        checkpoint_seconds=checkpoint_seconds,
        memory_every=memory_every,
        devices=devices,
        progress=progress,
        **_budgets(max_rounds, max_env_steps, target_score),
    )
    return _present(result)


def _join(given: Processes, devices: int | None) -> None:
    """Join the other processes of a run, if there are any."""
    where = (given.coordinator, given.process, given.processes)
    if given.hosts or any(x is not None for x in where):
        hosts.join(
            *where,
            devices=devices,
            join_seconds=given.join_seconds,
            heartbeat_seconds=given.heartbeat_seconds,
        )


def _launch() -> int:
    """Run a command in processes of this machine, started again if one dies: launch -h."""
    return launch(["-h"])


def _eval(
    directory: tyro.conf.Positional[Path],
    episodes: int = 100,
    seed: int = 0,
    ensemble: int | None = None,
) -> int:
    """Play the best policy of a run on fresh random numbers.

    Args:
        directory: of the run, which may still be under way.
        episodes: how many to play.
        seed: of the random numbers of these episodes.
        ensemble: let so many of the best policies act as one; by default the best alone.
    """
    played = evaluate(directory, episodes, seed=seed, ensemble=ensemble)
    say(played.message, sys.stdout)
    return 0


def _play(
    directory: tyro.conf.Positional[Path],
    path: tyro.conf.Positional[Path | None] = None,
    episodes: int = 1,
    seed: int = 0,
    fps: int = 20,
    ensemble: int | None = None,
    progress: bool = True,
) -> int:
    """Play the best policy of a run and write what it looks like.

    Args:
        directory: of the run, which may still be under way.
        path: of the file, replaced if it is there: .gif, .mp4, .png (numbered pictures)
            or, of Brax, .html; by default episode.gif in the folder of the run.
        episodes: how many, one after another.
        seed: of the random numbers of these episodes, which eval plays too.
        fps: pictures a second.
        ensemble: let so many of the best policies act as one; by default the best alone.
        progress: show how far it is, in a terminal.
    """
    played = play(
        directory,
        path,
        episodes=episodes,
        seed=seed,
        fps=fps,
        ensemble=ensemble,
        progress=progress,
    )
    say(played.message, sys.stdout)
    return 0


def _export(
    directory: tyro.conf.Positional[Path], path: tyro.conf.Positional[Path]
) -> int:
    """Write the best policy of a run as an ONNX file; needs the package onnx.

    Args:
        directory: of the run, which may still be under way.
        path: of the file, such as policy.onnx; one that is there is replaced.
    """
    try:
        load(directory).export_onnx(path)
    except (ImportError, NotImplementedError) as error:
        return _mistake(error)
    say(f"{path}: the best policy of {directory}", sys.stdout)
    return 0


def _envs(word: tyro.conf.Positional[str] = "") -> int:
    """List the environments that are known here, of all families that are installed.

    Where a word leaves few of them, their observations, actions and time limits too.

    Args:
        word: a part of the name, such as MinAtar, or a family with a colon, as brax:.
    """
    found, absent = listing(word)
    widths = [max(len(row[i]) for row in found) for i in range(len(found[0]))]
    for row in found:
        cells = zip(row, widths, strict=True)
        say("  ".join(cell.ljust(width) for cell, width in cells).rstrip(), sys.stdout)
    for family in absent:
        say(f"not installed: {family}", sys.stderr)
    return 0


def _present(result: Result) -> int:
    """Print what a run came to and return the exit code."""
    if not peers.peers().leads:
        return EXIT_CODES.get(result.paused or "", 0)
    from rich.console import Console

    # names of users are data: no markup in them, and no ":smile:"
    stream: Any = Stream(sys.stdout)
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    console.print(result.table())
    if result.paused is None:
        console.print(result.message, soft_wrap=True)
    duration = f"{result.seconds:.1f} s"
    if result.steps_per_second > 0:  # not if all rounds were in one dispatch
        duration += f", {result.steps_per_second:,.0f} environment steps/s"
    console.print(duration, soft_wrap=True)
    if result.directory is not None:
        console.print(f"learning curve: {result.curve}", soft_wrap=True)
        if result.hyperparams is not None:
            console.print(f"hyperparameters: {result.hyperparams}", soft_wrap=True)
        console.print(
            f"checkpoints: {result.directory / 'checkpoints'}", soft_wrap=True
        )
    return EXIT_CODES.get(result.paused or "", 0)


def _loggers(log: str | None) -> list[LoopCallback]:
    """Return the callbacks that --log names."""
    names = [] if log is None else [name.strip() for name in log.split(",")]
    checks.known_names("logger", names, _LOGGERS)
    try:
        return [_LOGGERS[name]() for name in dict.fromkeys(names)]
    except ImportError as error:
        raise OptionError(f"--log {log}: {error}") from error


def _loggers_of(directory: Path) -> list[LoopCallback]:
    """Return the callbacks that have logged a run; one that is absent is a warning."""
    found: list[LoopCallback] = []
    for name, trace in _TRACES.items():
        if (directory / trace).exists():
            try:
                found.append(_LOGGERS[name]())
            except ImportError as error:
                say(f"optix: {error}; the run goes on without it", sys.stderr)
    return found


def _budgets(
    max_rounds: int | None, max_env_steps: int | None, target_score: float | None
) -> dict[str, Any]:
    given = {
        "max_rounds": max_rounds,
        "max_env_steps": max_env_steps,
        "target_score": target_score,
    }
    return {name: value for name, value in given.items() if value is not None}


def _parsed(settings: Sequence[str]) -> dict[str, Any]:
    return parsed(settings, _FLAGS, "train")


def _let_go(stream: Any) -> None:
    """Flush a stream; if its reader is gone, spare Python the attempt at its end."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (AttributeError, ValueError):  # None, or closed
        pass


def _mistake(error: Exception) -> int:
    print(f"optix: {error}", file=sys.stderr)
    return 2
