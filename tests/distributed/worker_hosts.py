"""One of the processes of a run; `test_hosts.py` starts them.

python worker_hosts.py WHAT DIRECTORY [PORT PROCESS COUNT]

Without a port it is alone, with two devices.
"""

import hashlib
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np

from optix.callbacks.base import LoopCallback
from optix.checkpoints.registry import CheckpointRegistry
from optix.checks import OptionError
from optix.distributed import hosts
from optix.distributed.devices import devices
from optix.distributed.peers import HostsError, PeerLostError, lost_peers, peers
from optix.run.folder import RunFolderError
from optix.run.train import resume, train
from tests.population.members import regression
from tests.supervised import supervised

QUIET = {"progress": False, "checkpoint_seconds": 0.0, "memory_every": 1}
TINY = {
    **{"num_envs": 4, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 4},
    **{"max_rounds": 2, "final_scores": 1, "devices": 2},
}
REPLAY = {"batch_size": 8, "capacity": 64, "learning_starts": 8, "gradient_steps": 1}
DQN = {"agent": "dqn", **REPLAY, **TINY}


def told(name, tree):
    """Print a checksum of all of a tree."""
    leaves = [
        np.asarray(
            jax.random.key_data(x)
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves(tree)
    ]
    total = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
    print("equal", name, total, flush=True)


def equal(own, other):
    """What two processes come to, one with two devices, and each with the other's run."""
    train("CartPole-v1", directory=own / "run", **DQN, **QUIET)
    told("replay", resume(own / "run", max_rounds=3, **QUIET).state)
    given = {"seeds": 2, "devices": 2, "directory": own / "members"}
    told("population", train(regression(), **given, **QUIET).state)
    peers().on_first((own / "done").touch)
    peers().on_first(lambda: until((other / "done").exists))
    told("moved", resume(other / "run", max_rounds=4, **QUIET).state)


def until(there):
    """Wait for what the test or another process does."""
    deadline = time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(directory, process):
    """What all must refuse: other seeds, a mistake of one, a folder in use."""
    try:
        train(supervised(), seeds=2, seed=process, progress=False)
    except HostsError as error:
        print(error)
    try:
        train("CartPole-v1", progress=False, num_envs=2 * process)
    except (OptionError, HostsError) as error:
        print(error)
    taken = directory / "taken"
    if process == 0:
        taken.mkdir()
        (taken / "something").touch()
    try:
        train(supervised(), seeds=2, directory=taken, progress=False)
    except RunFolderError as error:
        print(type(error).__name__, error)


def full(directory):
    """A disk that is full where process 0 writes, and then its callback leaves."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class Fill(LoopCallback):
            def on_episode_end(self, episode_id, eval_metrics):
                missed = any(
                    "can not write a checkpoint" in str(w.message) for w in caught
                )
                resource.setrlimit(resource.RLIMIT_FSIZE, (-1 if missed else 500, -1))
                if missed:
                    sys.exit(7)

        try:
            loop = supervised(max_rounds=5000)
            train(loop, seeds=2, directory=directory, callbacks=[Fill()], **QUIET)
        except SystemExit as error:
            print("left", error.code)


def endless(directory):
    """A run that only a signal or the loss of a process ends."""
    loop = supervised(max_rounds=10**6)
    return train(loop, seeds=2, devices=2, directory=directory, **QUIET)


def two(directory, process):
    """All that two processes do together, one thing after another."""
    equal(directory / "two", directory / "one")
    refused(directory, process)
    full(directory / "full")
    print("paused", endless(directory / "paused").paused, flush=True)
    try:
        endless(directory / "killed")
    except PeerLostError as error:
        print(error)
        hosts.leave_at_once(hosts.LOST)


def one(directory, process):
    """The same in one process with two devices."""
    equal(directory / "one", directory / "two")


def three(directory, process):
    """A run of three seeds whose process 0 the test kills."""
    loop = supervised(max_rounds=10**6)
    try:
        train(loop, seeds=3, directory=directory / "led", **QUIET)
    except PeerLostError as error:
        print(error)
        hosts.leave_at_once(hosts.LOST)


def on(directory, process):
    """What was ended goes on a little on one device; beside it a run without an end."""
    for name in ("paused", "killed"):
        last = CheckpointRegistry(directory / name / "checkpoints").latest
        assert last is not None
        rounds = max(last.metadata["rounds"]) + 5
        given = {"devices": 1, "max_rounds": rounds, "progress": False}
        runs = (
            resume(directory / name, supervised(max_rounds=10**6), **given),
            train(supervised(max_rounds=rounds), seeds=2, progress=False),
        )
        for result in runs:
            kept = result.state.learner.policy, result.state.history, result.state.best
            told(name, kept)


def old(directory, process):
    """Joined by a process whose optix is another one."""


def many(directory, process):
    """Joined by a process that was told of one more."""


def slow(directory, process):
    """Process 0 has still to do when the other is done."""
    time.sleep(6 * (process == 0))
    print("done")


def failing(directory, process):
    """Process 1 fails where the other waits for it."""
    if process == 1:
        raise ValueError("only here")
    with lost_peers(peers()):
        peers().meet()


def main():
    what, directory, *where = sys.argv[1:]
    process = 0
    if where:
        port, process, count = map(int, where)
        if what == "old" and process == 1:
            now = hosts.versions()
            hosts.versions = lambda: {**now, "optix": "0.0.1"}
        count += what == "many" and process == 1
        given = {"join_seconds": int(os.environ.get("PATIENCE", "120"))}
        given["heartbeat_seconds"] = int(os.environ.get("HEARTBEAT", "20"))
        try:
            hosts.join(f"127.0.0.1:{port}", process, count, **given)
        except HostsError as error:
            print("refused:", error)
            return None
    else:
        devices(2)
    return globals()[what](Path(directory), process)


if __name__ == "__main__":
    main()
