"""One of the processes of a run; `test_hosts.py` starts them.

python worker_hosts.py WHAT DIRECTORY [PORT PROCESS]   (without a port: two devices, alone)
"""

import hashlib
import os
import resource
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

from optix.callbacks.base import LoopCallback
from optix.distributed import hosts
from optix.distributed.devices import devices
from optix.distributed.hosts import HostsError
from optix.run.folder import RunFolderError
from optix.run.train import resume, train
from tests.supervised import supervised

QUIET = {"progress": False, "checkpoint_seconds": 0.0, "memory_every": 1}
TINY = {
    **{"num_envs": 4, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 4},
    **{"num_epochs": 1, "num_minibatches": 1, "max_rounds": 2, "final_scores": 1},
}


def told(result):
    """A checksum of all that a run came to."""
    leaves = [
        np.asarray(
            jax.random.key_data(x)
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves(result.state)
    ]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


def equal(directory, process):
    """The data of one seed on both devices, and a resume."""
    given = {"agent": "ppo", "directory": directory / "data", "devices": 2}
    print("data", told(train("CartPole-v1", **given, **TINY, **QUIET)))
    print("resumed", told(resume(directory / "data", max_rounds=3, **QUIET)))


def slowly(directory, process):
    """A run that only a signal or the loss of a process ends."""
    loop = supervised(max_rounds=10**6)
    try:
        result = train(loop, seeds=2, devices=2, directory=directory, **QUIET)
    except hosts.PeerLostError as error:
        print(error)
        hosts.leave_at_once(hosts.LOST)
    print("paused", result.paused)


def unlike(directory, process):
    """What all processes refuse, and a disk that is full where process 0 writes."""
    try:
        train(supervised(), seeds=2, seed=process, progress=False)
    except HostsError as error:
        print(error)
    taken = directory / "taken"
    if process == 0:
        taken.mkdir()
        (taken / "something").touch()
    try:
        train(supervised(), seeds=2, directory=taken, progress=False)
    except RunFolderError as error:
        print(type(error).__name__, error)

    class Fill(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))

    loop, full = supervised(max_rounds=5), directory / "full"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(loop, seeds=2, directory=full, callbacks=[Fill()], **QUIET)
    lost = [w for w in caught if "can not write a checkpoint" in str(w.message)]
    rounds = np.asarray(result.state.round).tolist()
    print("full", bool(lost), rounds)

    class Leave(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            sys.exit(7)

    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))  # without a limit
    left = directory / "left"
    train(supervised(), seeds=2, directory=left, callbacks=[Leave()], **QUIET)


def old(directory, process):
    """Joined by a process whose optix is another one."""


def main():
    what, directory, *where = sys.argv[1:]
    process = 0
    if where:
        port, process = map(int, where)
        if what == "old" and process == 1:
            now = hosts.versions()
            hosts.versions = lambda: {**now, "optix": "0.0.1"}
        patience = int(os.environ.get("PATIENCE", "120"))
        address = f"127.0.0.1:{port}"
        try:
            hosts.join(address, process, 2, join_seconds=patience, heartbeat_seconds=10)
        except HostsError as error:
            print("refused:", error)
            return
    else:
        devices(2)
    globals()[what](Path(directory), process)


if __name__ == "__main__":
    main()
