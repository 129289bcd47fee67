"""A run that is killed at random times and goes on, each time on other devices.

Three kills; OPTIX_KILLS=10 is for whoever has changed what is written, and when, and
OPTIX_KILL_FLAGS= compiles as users do.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.devices import STEADY

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("OPTIX_KILLS", "3"))
ROUNDS = 1000 * (KILLS + 1)
GOES_ON = f"""
import sys
import jax, numpy as np
from optix.distributed.devices import devices
devices(4)  # before JAX computes
from optix.run.train import resume, train
from pathlib import Path
from tests.supervised import supervised

directory, count, last = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "last"
loop, quiet = supervised(max_rounds={ROUNDS}), dict(progress=False)
given = dict(devices=count, checkpoint_seconds=0.0, memory_every=1, **quiet)
print("begins", flush=True)
if (directory / "run.json").exists():
    result = resume(directory, loop, **given)
else:
    result = train(loop, seeds=4, directory=directory, **given)
if last:
    whole = train(loop, seeds=4, **quiet)
    for ours, theirs in zip(*(jax.tree.leaves(x.state._replace(key=0))
                              for x in (result, whole)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
"""


def play(directory, devices, seconds):
    """Play on so many devices, for so long; None plays to the end."""
    flags = os.environ.get("OPTIX_KILL_FLAGS", STEADY)
    command = [sys.executable, "-W", "ignore", "-c", GOES_ON]
    started = subprocess.Popen(
        [*command, str(directory), str(devices), "goes on" if seconds else "last"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None and started.stdout.readline()
        if seconds is None:
            started.wait(300)
        else:
            log = directory / "log.jsonl"
            size, deadline = written(log), time.monotonic() + 300
            while seconds > 0 and written(log) == size and started.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(abs(seconds))
    finally:
        started.kill()
        started.wait()
    return started.returncode


def written(path):
    return path.stat().st_size if path.exists() else 0


def test_a_run_that_is_killed_at_random_times_is_the_run_without(tmp_path):
    """Most kills come while it plays and saves, some before it is compiled."""
    directory, chance = tmp_path / "run", random.Random()
    told = []
    for _ in range(KILLS):
        # seconds after the first rounds; negative: after the start
        seconds = chance.uniform(-1.5, 2.0)
        devices = chance.choice([1, 2, 4])
        told.append((seconds, devices, play(directory, devices, seconds)))
    print(told)
    assert any(code == -9 for *_, code in told), told
    assert play(directory, chance.choice([1, 2, 4]), None) == 0, told
