"""Runs over two processes of this machine, as over two machines."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointRegistry
from optix.checks import OptionError
from optix.cli import main
from optix.distributed import launch
from optix.distributed.hosts import LOST, join
from optix.distributed.peers import HostsError
from optix.run.train import resume, train
from tests.devices import STEADY
from tests.supervised import supervised

ROOT = Path(__file__).parents[2]
PATIENCE = 540  # seconds until a process of a test is ended


@contextlib.contextmanager
def processes(what, directory, numbers=(0, 1), count=2, **environment):
    """Yield processes of `worker_hosts.py`, none of which is left behind.

    With None for a number there is one alone, with two devices.
    """
    command = [sys.executable, "-m", "tests.distributed.worker_hosts", what]
    steady = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": STEADY}
    environment = {**os.environ, **steady, **environment}
    port, started = str(launch.free_port()), []
    try:
        for number in numbers:
            where = [] if number is None else [port, str(number), str(count)]
            started.append(
                subprocess.Popen(
                    [*command, str(directory), *where],
                    env=environment,
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def ended(started):
    """The exit codes and what was said."""
    said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    return [process.returncode for process in started], said


def until(there, started):
    """Wait for something that a process does."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert all(process.poll() is None for process in started), ended(started)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def played(directory):
    """Whether a run has logged its first rounds."""
    log = directory / "log.jsonl"
    return log.exists() and "\n" in log.read_text()


class Story(NamedTuple):
    """What became of two processes that did everything together, and of one alone."""

    directory: Path
    codes: list[int]  # of the two
    said: list[str]
    alone: str


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One start for all that needs no other: `two` and `one` of the worker."""
    directory = tmp_path_factory.mktemp("hosts")
    for name in ("one", "two"):
        (directory / name).mkdir()

    with (
        processes("two", directory) as both,
        processes("one", directory, [None]) as alone,
    ):
        until(lambda: played(directory / "paused"), both)
        both[1].send_signal(signal.SIGTERM)
        until(lambda: played(directory / "killed"), both)
        both[1].kill()
        return Story(directory, *ended(both), ended(alone)[1][0])


def equal(said):
    return [line for line in said.splitlines() if line.startswith("equal ")]


def test_two_processes_are_one_with_two_devices_bit_for_bit(story):
    """Data of one seed and its replay, resumed, moved; the seeds of a population."""
    whole = equal(story.alone)
    names = [line.split()[1] for line in whole]
    assert names == ["replay", "population", "moved"], story.alone
    assert equal(story.said[0]) == equal(story.said[1]) == whole, story.said


def test_all_refuse_what_one_can_not_do(story):
    for words in story.said:
        assert "must have the same run: process 0 has {'seed': 0}, process 1" in words
        assert "holds something else" in words
        assert "num_envs must be" in words
    assert "process 0 can not take part: num_envs" in story.said[1]


def test_all_survive_a_full_disk_of_the_first_and_leave_with_its_callback(story):
    for words in story.said:
        assert "left 7" in words
    assert saved(story.directory / "full") > [1, 1]


def test_what_ends_one_process_ends_all_and_the_run_goes_on(story):
    """A pause is agreed; a loss is noticed. One process then goes on, bit for bit."""
    assert all("paused SIGTERM" in words for words in story.said), story.said
    assert story.codes[0] in (LOST, -signal.SIGABRT), story.said
    if story.codes[0] == LOST:
        assert "another process of the run has ended" in story.said[0]
    with processes("on", story.directory, [None]) as alone:
        codes, (words,) = ended(alone)
    paused, paused_whole, killed, killed_whole = equal(words)
    assert codes == [0] and paused == paused_whole and killed == killed_whole, words


def test_the_first_of_three_is_killed_and_the_run_goes_on(tmp_path):
    """Who writes and coordinates is gone; the others end soon, and not by a time limit."""
    run = tmp_path / "led"
    with processes("three", tmp_path, (0, 1, 2), 3, HEARTBEAT="5") as all_three:
        until(lambda: played(run), all_three)
        all_three[0].kill()
        began = time.monotonic()
        codes, said = ended(all_three)
    assert codes[0] == -signal.SIGKILL
    for code, words in zip(codes[1:], said[1:], strict=True):
        assert code in (LOST, -signal.SIGABRT), words
        if code == LOST:
            assert "another process of the run has ended" in words
    assert time.monotonic() - began < 90  # the runtime itself would wait for 100 s
    rounds = max(saved(run)) + 5
    assert rounds < 10**5  # it is played again, from its start
    given = {"max_rounds": rounds, "progress": False}
    ours = resume(run, supervised(max_rounds=10**6), devices=1, **given)
    assert_same(ours, train(supervised(max_rounds=rounds), seeds=3, progress=False))


def assert_same(ours, whole):
    """Compare what two runs have learned, and their whole story."""
    kept = [
        jax.tree.leaves((x.learner.policy, x.history, x.best))
        for x in (ours.state, whole.state)
    ]
    for a, b in zip(*kept, strict=True):
        np.testing.assert_array_equal(a, b)


def saved(directory):
    """The rounds of the last checkpoint."""
    last = CheckpointRegistry(directory / "checkpoints").latest
    assert last is not None
    return last.metadata["rounds"]


def test_a_start_that_fails_ends_all(tmp_path):
    """Other versions, other numbers, one of two that never comes; all at once."""
    with (
        processes("old", tmp_path) as old,
        processes("many", tmp_path) as many,
        processes("old", tmp_path, [0], PATIENCE="4") as first,
        processes("old", tmp_path, [1], PATIENCE="4") as second,
    ):
        for words in ended(old)[1]:
            assert "all processes of a run must have the same version" in words
            assert "process 1 has {'optix': '0.0.1'}" in words
        for words in ended(many)[1]:
            assert "same number of processes: process 0 has 2, process 1 has 3" in words
        for (code,), (words,) in map(ended, (first, second)):
            assert code == LOST and "must come together at 127.0.0.1" in words


def test_an_end_waits_for_the_slow_and_not_for_the_failed(tmp_path):
    """Who is done waits for longer than a heartbeat; a failure ends the other soon."""
    with (
        processes("slow", tmp_path, HEARTBEAT="3") as slow,
        processes("failing", tmp_path, HEARTBEAT="3") as failing,
    ):
        codes, said = ended(slow)
        assert codes == [0, 0], said
        codes, said = ended(failing)
        assert codes[1] == 1 and "only here" in said[1], said
        assert codes[0] in (LOST, -signal.SIGABRT), said


def test_a_port_in_use_is_told():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(HostsError, match=f"can not listen at {address}"):
            join(address, 0, 2)


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ((None, 0, 2), "must be given together"),
        (("here", 0, 2), "must be ADDRESS:PORT"),
        (("h:70000", 0, 2), "must be ADDRESS:PORT"),
        (("h:7000", 2, 2), "process must be at most 1"),
    ],
)
def test_half_an_address_is_refused(where, rule):
    with pytest.raises(OptionError, match=rule):
        join(*where)


# ------------------------------------------------------------------------------ launch


def test_three_processes_of_which_one_is_killed_are_one(tmp_path, monkeypatch):
    """The command itself, as users call it, starts all again from a checkpoint."""
    run, started = tmp_path / "run", []

    def popen(*arguments, **options):
        started.append(subprocess.Popen(*arguments, **options))
        return started[-1]

    def kill():
        until(lambda: played(run), [])
        started[0].kill()

    late = subprocess.TimeoutExpired
    together = mock.Mock(wraps=subprocess, Popen=popen, TimeoutExpired=late)
    monkeypatch.setattr(launch, "subprocess", together)
    sizes = {"num_envs": 2, "num_steps": 8, "evaluation_episodes": 2, "final_scores": 1}
    sizes |= {"hidden": (4,), "num_epochs": 1, "num_minibatches": 1}
    sizes |= {"windows_per_round": 1}
    sets = [x for pair in sizes.items() for x in ("--set", f"{pair[0]}={pair[1]}")]
    command = ["train", "CartPole-v1", "--seeds", "3", "--directory", str(run)]
    command += ["--tuner", "fixed", "--max-rounds", "200", "--no-progress"]
    command += ["--checkpoint-seconds", "0"]
    threading.Thread(target=kill, daemon=True).start()
    assert main(["launch", "-n", "3", "--", *command, *sets]) == 0
    assert len(started) == 6 and started[0].returncode == -signal.SIGKILL
    given = {"seeds": 3, "progress": False, "tuner": "fixed", **sizes}
    whole = train("CartPole-v1", **given, max_rounds=202)
    assert_same(resume(run, devices=1, max_rounds=202, progress=False), whole)


FAKE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--directory") + 1]
                      if "--directory" in sys.argv else sys.argv[2])
folder.mkdir(exist_ok=True)
(folder / "run.json").touch()
process = sys.argv[-1]
with open(folder / ("said" + process), "a") as file:
    print(*sys.argv[1:], file=file)
times = len((folder / ("said" + process)).read_text().splitlines())
if process == "1":
    sys.exit(CODES[min(times, len(CODES)) - 1])
time.sleep(0 if CODES[min(times, len(CODES)) - 1] in (0, 143) else 60)
"""


@pytest.mark.parametrize(
    ("codes", "code", "times"), [([9, 0], 0, 2), ([9], 9, 3), ([2], 2, 1), ([143], 143, 1)]
)  # fmt: skip
def test_launch_starts_all_again_a_number_of_times(
    tmp_path, monkeypatch, codes, code, times
):
    monkeypatch.setattr(launch, "_OPTIX", ("-c", f"CODES = {codes}\n{FAKE}"))
    monkeypatch.setattr(launch, "_GRACE", 0.5)
    run = tmp_path / "run"
    command = ["train", "X", "--seeds=2", "--max-seconds", "9", "--directory", str(run)]
    assert main(["launch", "-n", "2", "--restarts", "2", "--", *command]) == code
    said = (run / "said1").read_text().splitlines()
    assert len(said) == times and said[0].startswith(" ".join(command))
    for line in said[1:]:
        assert line.startswith(f"resume {run} --max-seconds 9 --coordinator 127.0.0.1:")
        assert line.endswith("--processes 2 --process 1")


PATIENT = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--directory") + 1])
try:
    (folder / sys.argv[-1]).touch()
    time.sleep(30)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(2)
"""


def test_an_interrupt_of_launch_alone_reaches_all_of_them_once(tmp_path, monkeypatch):
    """As from a supervisor, not from a terminal, which would tell them too."""
    monkeypatch.setattr(launch, "_OPTIX", ("-c", PATIENT))

    def interrupt():
        until(lambda: len(list(tmp_path.iterdir())) == 2, [])
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    command = ["train", "X", "--directory", str(tmp_path)]
    assert main(["launch", "-n", "2", "--", *command]) == 130


def test_launch_refuses_what_it_can_not_start_again(capsys):
    for command in (["eval", "run"], ["train", "CartPole-v1"], []):
        assert main(["launch", "-n", "2", "--", *command]) == 2
    said = capsys.readouterr().err
    assert "must be followed by -- and a command" in said and "--directory DIR" in said
