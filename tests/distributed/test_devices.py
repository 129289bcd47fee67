"""One run over many devices; what needs eight of them is in `eight_devices.py`."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from optix.checks import OptionError
from optix.distributed.devices import devices
from optix.distributed.mesh import split
from optix.registry import ALGORITHMS
from optix.run.sharing import divided, resumed
from optix.run.train import resume, train
from tests.devices import STEADY
from tests.supervised import supervised

ROOT = Path(__file__).parents[2]


def run(arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:optix", *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_on_eight_devices():
    flags = f"{STEADY} --xla_force_host_platform_device_count=8"
    there = Path(__file__).with_name("eight_devices.py")
    done = run(["-m", "pytest", "-q", str(there)], XLA_FLAGS=flags)
    assert done.returncode == 0, done.stdout + done.stderr


MADE = """
    import os, signal, sys
    from optix.callbacks.base import LoopCallback
    from optix.cli import main
    from optix.run.train import train
    from tests.supervised import supervised

    directory, killed = sys.argv[1:]
    sizes = dict(num_steps=8, evaluation_episodes=2, final_scores=1, hidden=(4,))
    small = [x for pair in sizes.items() for x in ("--set", "%s=%s" % pair)]
    command = ["train", "CartPole-v1", "--devices", "4", "--seeds", "2", "--num-envs", "4"]
    quiet = ["--max-rounds", "2", "--no-progress", "--directory", directory]
    assert main([*command, *quiet, *small]) == 0

    class Kill(LoopCallback):
        def on_episode_end(self, number, metrics):
            if number == 20:
                os.kill(os.getpid(), signal.SIGKILL)

    train(supervised(), seeds=4, devices=4, directory=killed, callbacks=[Kill()],
          progress=False, checkpoint_seconds=0.0, memory_every=1)
"""


def test_the_command_makes_devices_and_a_killed_run_goes_on_elsewhere(tmp_path):
    """Seeds and data over 2 x 2 of them, and then four seeds go on on one device."""
    script = textwrap.dedent(MADE).strip()
    folders = [str(tmp_path / name) for name in ("shared", "killed")]
    done = run(["-c", script, *folders])
    assert done.returncode == -9 and "budget of rounds is spent" in done.stdout, done
    about = json.loads((tmp_path / "shared" / "run.json").read_text())
    assert (about["devices"], about["data_devices"]) == (4, 2)
    result = resume(folders[1], supervised(), devices=1, progress=False)
    whole = train(supervised(), seeds=4, progress=False)
    ends = [jax.tree.leaves(x.state._replace(key=0)) for x in (result, whole)]
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_seeds_come_before_data():
    shared = [tuple(split(seeds, count)) for seeds, count in [(8, 4), (6, 4), (3, 8)]]
    assert shared == [(4, 1), (2, 2), (1, 8)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_devices_together_have_what_one_has(name):
    """By the defaults of every algorithm, on as many devices as a machine has."""
    each = divided(name, {"network": None}, 8)
    assert each["axis_name"] == "data" and each["evaluation_episodes"] == 2
    row = ALGORITHMS[name]
    defaults = {**row.learner.__kwdefaults__, **row.options}
    for size in {"num_envs", "batch_size", "capacity"} & set(defaults):
        assert 8 * each[size] == defaults[size]
    assert divided(name, {"num_steps": 4}, 1) == {"num_steps": 4}


@pytest.mark.parametrize(
    ("config", "count", "allowed"),
    [
        ({"seeds": 6}, 4, "1, 2, 3, 6 for a run of 6 seeds that began with 1 device "),
        ({"seeds": 1, "data_devices": 4}, 2, "4 for a run of 1 seed "),
        ({"seeds": 2, "data_devices": 2}, 8, "2, 4 for"),
    ],
)
def test_a_run_goes_on_on_devices_that_its_seeds_divide(config, count, allowed):
    with pytest.raises(OptionError, match=f"must be one of {allowed}"):
        resumed(config, count)
    assert tuple(resumed({"seeds": 6, "devices": 3}, None)) == (3, 1)
    assert tuple(resumed({"seeds": 2, "data_devices": 2, "devices": 2}, 4)) == (2, 2)


def test_more_devices_than_there_are_is_an_error():
    too_many = len(jax.devices()) + 1
    with pytest.raises(OptionError, match=f"got {too_many}; more are made only before"):
        devices(too_many)
    with pytest.raises(OptionError, match="devices must be an integer >= 1, got 0"):
        train("CartPole-v1", devices=0)
