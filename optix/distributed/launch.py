"""`optix launch -n N -- train ...`: the processes of a run on this machine, supervised.

They are started as N processes that find each other on loopback. If one dies all are ended
and started again from the last checkpoint, a number of times.
"""

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from optix import checks

_OPTIX = ("-m", "optix")  # what this interpreter runs
_PAUSED = {129, 130, 143}
_FINAL = {0, 1, 2, *_PAUSED}  # it would come to the same again, or was asked for
_GRACE = 10.0  # seconds that processes have to end by themselves
# what `optix resume` takes of what `optix train` was given
_KEPT = ("max-seconds", "checkpoint-seconds", "memory-every", "devices",
         "join-seconds", "heartbeat-seconds")  # fmt: skip
_SWITCHES = ("--progress", "--no-progress")


def launch(arguments: Sequence[str]) -> int:
    """Run the command behind `--` in N processes; return the exit code of the run.

    Raises:
      OptionError: the command is neither train nor resume, or a number is not positive.
    """
    parser = argparse.ArgumentParser(
        prog="optix launch",
        usage="optix launch -n N [--restarts K] -- train ENV --directory DIR ...",
        description="Spread a run over N processes of this machine; start them again "
        "from the last checkpoint if one dies.",
    )
    parser.add_argument("-n", "--processes", type=int, required=True)
    parser.add_argument("--restarts", type=int, default=3, help="at most so many (3)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(list(arguments))
    count = checks.positive_int("-n", given.processes)
    restarts = checks.positive_int("--restarts", given.restarts, 0)
    command = [word for i, word in enumerate(given.command) if i or word != "--"]
    directory = _directory(command)
    for attempt in range(restarts + 1):
        if attempt and (directory / "run.json").exists():
            command = resuming(command, directory)
        code = _together(command, count)
        if code in _FINAL:
            return code
        left = restarts - attempt
        goes_on = f"starting all again ({left} left)" if left else "no restart is left"
        _say(f"a process of the run ended with exit code {code}; {goes_on}")
    return code


def resuming(command: Sequence[str], directory: Path) -> list[str]:
    """Return the command that goes on with a run.

    >>> resuming(["train", "CartPole-v1", "--max-seconds", "9", "--seeds=4"], Path("run"))
    ['resume', 'run', '--max-seconds', '9']
    """
    if command[0] == "resume":
        return list(command)
    found, words = ["resume", str(directory)], iter(command[1:])
    for word in words:
        name, equals, _ = word.removeprefix("--").replace("_", "-").partition("=")
        if word.replace("_", "-") in _SWITCHES or (name in _KEPT and equals):
            found.append(word)
        elif word.startswith("--") and name in _KEPT:
            found += [word, next(words)]
    return found


def free_port() -> int:
    """Return a port of loopback that nothing listens at."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def _directory(command: Sequence[str]) -> Path:
    """Return the folder of the run, without which nobody could start it again."""
    if not command or command[0] not in ("train", "resume"):
        raise checks.OptionError(
            "launch must be followed by -- and a command train or resume, got "
            f"{' '.join(command) or 'nothing'}"
        )
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--directory" and (value or following):
            return Path(value or following)
    if command[0] == "resume" and len(command) > 1:
        return Path(command[1])
    raise checks.OptionError(
        "launch needs the run's --directory DIR, from which it starts a run again whose "
        "process has died"
    )


def _together(command: Sequence[str], count: int) -> int:
    """Run a command in processes that are joined; return what tells how it went.

    That is the code of the first that fails, for the others end because of it.
    """
    where = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(count)]
    start = [sys.executable, *_OPTIX, *command, *where, "--process"]
    processes: list[subprocess.Popen] = []
    with _ending(processes), _passing_on(processes):
        for number in range(count):
            # in a group of its own: a terminal's Ctrl-C comes through `hand_on`, once
            process = subprocess.Popen([*start, str(number)], process_group=0)
            processes.append(process)
        while True:
            codes = [process.poll() for process in processes]
            failed = [code for code in codes if code not in (None, 0)]
            if failed or None not in codes:
                break
            time.sleep(0.1)
        deadline = time.monotonic() + _GRACE
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
    return abs(failed[0]) + 128 * (failed[0] < 0) if failed else 0


@contextlib.contextmanager
def _ending(processes: list[subprocess.Popen]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextlib.contextmanager
def _passing_on(processes: list[subprocess.Popen]) -> Iterator[None]:
    """Hand signals that pause a run on to its processes."""

    def hand_on(number, frame):
        for process in processes:
            with contextlib.suppress(OSError):
                process.send_signal(number)

    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"optix launch: {text}", file=sys.stderr, flush=True)
