"""Runs over two processes of this machine, as over two machines."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointRegistry
from optix.checks import OptionError
from optix.cli import main
from optix.distributed import launch
from optix.distributed.hosts import LOST, HostsError, join
from optix.run.train import resume, train
from tests.supervised import supervised

ROOT = Path(__file__).parents[2]
PATIENCE = 540  # seconds until a process of a test is ended


@contextlib.contextmanager
def processes(what, directory, count=2, there=2, **environment):
    """Yield processes of `worker_hosts.py`, none of which is left behind."""
    where = (
        [[]] if there == 0 else [[str(launch.free_port()), str(i)] for i in range(2)]
    )
    if there:
        port = where[0][0]
        where = [[port, str(i)] for i in range(count)]
    command = [sys.executable, "-m", "tests.distributed.worker_hosts", what]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    started = []
    try:
        for own in where:
            started.append(
                subprocess.Popen(
                    [*command, str(directory), *own],
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


def lines(said):
    """What `equal` tells."""
    words = ("data ", "resumed ")
    return [line for line in said.splitlines() if line.startswith(words)]


def test_two_processes_are_one_with_two_devices_bit_for_bit(tmp_path):
    """The data of one seed, which meets in each update; seeds of their own are below."""
    with processes("equal", tmp_path / "one", there=0) as alone:
        _, (one,) = ended(alone)
    (tmp_path / "two").mkdir()
    with processes("equal", tmp_path / "two") as both:
        codes, said = ended(both)
    assert codes == [0, 0], said
    assert len(lines(one)) == 2, one
    assert lines(said[0]) == lines(said[1]) == lines(one)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, {143, 0}), (signal.SIGKILL, {LOST, -6})]
)
def test_what_ends_one_process_ends_all_and_the_run_goes_on(tmp_path, number, code):
    """A pause is agreed; a loss is noticed. One process then goes on, bit for bit."""
    directory = tmp_path / "run"
    with processes("slowly", directory) as both:
        until(lambda: "\n" in text(directory / "log.jsonl"), both)
        both[1].send_signal(number)
        codes, said = ended(both)
    assert codes[0] in code, said
    if number == signal.SIGTERM:
        assert codes[1] == codes[0] and "paused SIGTERM" in said[0], said
    elif codes[0] == LOST:
        assert "another process of the run has ended" in said[0]
    last = CheckpointRegistry(directory / "checkpoints").latest
    assert last is not None
    more = {"max_rounds": max(last.metadata["rounds"]) + 5}
    given = {"progress": False, "devices": 1, **more}
    ours = resume(directory, supervised(max_rounds=10**6), **given)
    whole = train(supervised(**more), seeds=2, progress=False)
    for a, b in zip(*(jax.tree.leaves(policy(x)) for x in (ours, whole)), strict=True):
        np.testing.assert_array_equal(a, b)


def policy(result):
    return result.state.learner.policy, result.state.history


def until(there, started):
    """Wait for something that a process does."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert all(process.poll() is None for process in started), ended(started)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def text(path):
    return path.read_text() if path.exists() else ""


def test_all_refuse_what_one_can_not_do(tmp_path):
    """Other seeds, a folder in use, a full disk and a wish to leave, in two processes."""
    with processes("unlike", tmp_path) as both:
        codes, said = ended(both)
    assert codes == [7, 7], said
    for words in said:
        assert "must have the same run: process 0 has {'seed': 0}, process 1" in words
        assert "holds something else" in words
    assert "full True [5, 5]" in said[0] and "full False [5, 5]" in said[1]
    assert (tmp_path / "left" / "checkpoints").exists()


def test_another_version_is_refused(tmp_path):
    with processes("old", tmp_path) as both:
        _, said = ended(both)
    for words in said:
        assert "refused: all processes of a run must have the same version" in words
        assert "process 1 has {'optix': '0.0.1'}" in words


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_never_comes_is_told(tmp_path, process):
    with processes("old", tmp_path, PATIENCE="4") as both:
        both[1 - process].kill()
        both[1 - process].wait()
        code = both[process].wait(PATIENCE)
        said = both[process].stdout.read()
    assert code == LOST and "must come together at 127.0.0.1" in said, said


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
    monkeypatch.setattr(launch, "_START", f"CODES = {codes}\n{FAKE}")
    monkeypatch.setattr(launch, "_GRACE", 0.5)
    run = tmp_path / "run"
    command = ["train", "X", "--seeds=2", "--max-seconds", "9", "--directory", str(run)]
    assert main(["launch", "-n", "2", "--restarts", "2", "--", *command]) == code
    said = (run / "said1").read_text().splitlines()
    assert len(said) == times and said[0].startswith(" ".join(command))
    for line in said[1:]:
        assert line.startswith(f"resume {run} --max-seconds 9 --coordinator 127.0.0.1:")
        assert line.endswith("--processes 2 --process 1")


def test_launch_refuses_what_it_can_not_start_again(capsys):
    for command in (["eval", "run"], ["train", "CartPole-v1"], []):
        assert main(["launch", "-n", "2", "--", *command]) == 2
    said = capsys.readouterr().err
    assert "must be followed by -- and a command" in said and "--directory DIR" in said
