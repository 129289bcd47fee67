"""Actors on Ray: as in turn, what kills them, what ends with the learner."""

import contextlib
import functools
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.distributed import ActorsFailedError
from optix.distributed.acting import engines
from optix.distributed.cluster import joined_ray
from tests.distributed.acting.playing import SAID, STEPS, Played, Telling

if importlib.util.find_spec("ray") is None:  # imported it would be too soon
    pytest.skip("Ray is not installed", allow_module_level=True)

MARK = "OPTIX_TEST_MARK"  # in the environment of all that a learner starts
LEARNER = """
import sys, optix
from tests.distributed.acting.playing import TINY
optix.train("CartPole-v1", agent="impala", actors=1, engine="ray", progress=False,
            directory=sys.argv[1], checkpoint_seconds=0, **TINY | {"max_rounds": 9999})
"""
ANOTHER = """
from concurrent.futures import ThreadPoolExecutor
from optix.distributed.cluster import joined_ray

class Asked:
    def answer(self):
        return 1

one, other = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
for joining in (one, other):
    cluster = joined_ray("the test", 1)
    ray = joining.submit(cluster.__enter__).result()
    asked = joining.submit(lambda: ray.remote(num_cpus=0)(Asked).remote()).result()
    kept = []
    def ask():
        kept.extend(asked.answer.remote() for _ in range(9))
    for asking in (one, other):
        asking.submit(ask).result()
    print(sum(ray.get(kept)))
    joining.submit(cluster.__exit__, None, None, None).result()
"""


@pytest.fixture(scope="module")
def cluster():
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("a pause"))
    try:
        with joined_ray("the tests", 2) as ray:
            os.kill(os.getpid(), signal.SIGTERM)  # Ray would take it
            assert told == ["a pause"]
            yield ray
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_process_has_a_cluster_after_another_whichever_threads_ask():
    command = [sys.executable, "-c", ANOTHER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["18", "18"], done.stderr[-2000:]


def test_windows_are_those_of_actors_in_turn_bit_for_bit(cluster, tmp_path):
    class Local(Telling):  # which no other process can import
        def _seen(self):
            return np.array([7, self.count], np.float32)

        def close(self):
            (tmp_path / str(os.getpid())).touch()

    with (
        Played(Local, "inline", lockstep=2) as here,
        Played(Local, "ray", lockstep=2) as there,
    ):
        for _ in range(4):
            jax.tree.map(np.testing.assert_array_equal, here.window(), there.window())
        assert here.score() == there.score()
        for mark in tmp_path.iterdir():  # of scores
            mark.unlink()
    assert len(list(tmp_path.iterdir())) == 3  # closed here and in both processes


def test_too_few_processors_for_the_actors_are_told(cluster, monkeypatch):
    monkeypatch.setattr(engines, "_GRACE", 0.1)
    with pytest.warns(
        RuntimeWarning, match="has 2 processors, and each of the 3 actors"
    ):
        engine = engines.Ray(lambda index, generation: None, 3)
    engine.close()


def test_whoever_fails_or_is_killed_is_replaced(cluster, tmp_path):
    ways = ["raises", "shape", "nan", "hangs"]
    env = functools.partial(Telling, tmp_path, ways)
    with Played(env, "ray", deadline=5.0, max_restarts=6) as played:
        with pytest.warns(RuntimeWarning) as told:
            played.until(restarts=4)
        said = "".join(str(one.message) for one in told)
        for way in ways:
            assert SAID[way].replace("\\", "") in said, way
        first = played.processes()
        assert os.getpid() not in first
        for process in first:
            os.kill(process, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="ActorDiedError"):
            played.until(restarts=6)
        assert not played.processes() & first
        assert played.crew.told()["dropped"].sum() >= 6 * STEPS


def test_what_raises_alike_in_fresh_actors_is_tried_once_more_only(cluster):
    class Broken(Telling):
        def step(self, action):
            raise RuntimeError("never works")

    with (
        Played(Broken, "ray") as played,
        pytest.warns(RuntimeWarning, match="never works") as told,
        pytest.raises(ActorsFailedError, match="(?s)never works.*so did the one in"),
    ):
        played.window()
    assert len(told) <= 2


def test_what_ray_can_not_send_is_named_and_its_cluster_left(cluster, monkeypatch):
    left, lock = [], threading.Lock()

    @contextlib.contextmanager
    def joined(*_):
        try:
            yield cluster
        finally:
            left.append(True)

    monkeypatch.setattr(engines, "joined_ray", joined)
    with pytest.raises(OptionError, match=r"can send.*_thread\.lock.*engine='threads'"):
        engines.Ray(lambda index, generation: lock, 1)
    assert left


def _marked(mark):
    """Return the processes that something started with this mark in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass  # another's, or gone
    return found


def _listening(processes):
    """Return the addresses at which processes listen."""
    sockets = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(file).removeprefix("socket:[").rstrip("]"))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                last = bytes.fromhex(fields[1].split(":")[0][-8:])[::-1]
                found.append(".".join(map(str, last)))
    assert found
    return found


def _saved(run):
    """Return the rounds of the whole checkpoints, not of one that was being written."""
    names = [one.name for one in run.glob("checkpoints/*")]
    return [int(name) for name in names if name.isdigit() and int(name) > 0]


def _until(true, seconds, what):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, what
        time.sleep(0.1)


def _raylets(processes):
    """Return those processes that are Ray's on a machine of a cluster."""
    commands = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in processes}
    return [one for one, told in commands.items() if b"/raylet\0" in told]


@pytest.fixture
def learner(tmp_path):
    """Give a run in a process of its own, its folder, and the mark of what it starts."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    run, mark = tmp_path / "run", tmp_path.name + str(os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-c", LEARNER, str(run)],
        env={**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _until(lambda: _saved(run) or process.poll() is not None, 240, "no checkpoint")
        assert process.poll() is None, process.communicate()[1]
        yield process, run, mark
        _until(lambda: not _marked(mark), 60, "processes that nobody ended")
    finally:
        process.kill()
        for other in _marked(mark):
            os.kill(other, signal.SIGKILL)


def _goes_on(run):
    saved = max(_saved(run))
    with pytest.warns(RuntimeWarning, match="goes on with fresh episodes"):
        result = optix.resume(run, max_rounds=saved + 2, progress=False)
    assert result.state.round.tolist() == [saved + 2]


def test_nothing_outlives_a_learner_that_is_killed_and_the_run_goes_on(learner):
    process, run, mark = learner
    marked = _marked(mark)
    assert len(marked) > 4  # the learner, what holds the cluster, an actor
    assert all(address.startswith("127.") for address in _listening(marked))
    process.kill()
    told = process.communicate()[1]
    assert "fork" not in told and "gone away" not in told
    _until(lambda: not _marked(mark), 60, "processes that nobody ended")
    _goes_on(run)


def test_a_run_says_that_its_cluster_took_it_along(learner):
    process, run, mark = learner
    for raylet in _raylets(_marked(mark)):
        os.kill(raylet, signal.SIGKILL)
    told = process.communicate(timeout=90)[1]
    assert process.returncode == 1
    assert "has gone away, and Ray has ended this run with it" in told
    _until(lambda: not _marked(mark), 60, "processes that nobody ended")
    _goes_on(run)
