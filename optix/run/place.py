"""What a place on the disk must be to become, or to go on as, the folder of a run."""

import os
import re
import shutil
from pathlib import Path

import numpy as np

from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.run.description import RunFolderError

RUN, LOCK, _TRIAL = "run.json", ".lock", ".trial"


def must_be_empty(path: Path) -> None:
    """Raise RunFolderError if a folder holds a run, or anything else."""
    names = {entry.name for entry in os.scandir(path)} - {LOCK, _TRIAL, f"{RUN}.tmp"}
    if RUN in names:
        raise RunFolderError(
            f"{path} holds a run already; continue it with `optix resume {path}` or "
            "choose another folder"
        )
    if names:
        raise RunFolderError(
            f"{path} holds something else ({sorted(names)[0]}); choose an empty folder"
        )


def must_hold_checkpoints(path: Path) -> None:
    """Raise RunFolderError unless what is written to a folder can be read back."""
    trial = CheckpointRegistry(path / _TRIAL)
    tree = {"trial": np.arange(3, dtype=np.uint8)}
    try:
        trial.save(0, tree)
        trial.load(0, tree)
    except CheckpointError as error:
        raise RunFolderError(f"{path} can not hold checkpoints: {error}") from error
    finally:
        shutil.rmtree(trial.directory, ignore_errors=True)


def next_directory(environment: str, agent: str) -> Path:
    """Return the first runs/ENV-AGENT-N that is free behind all others."""
    name = f"{re.sub('[/:]', '-', environment)}-{agent}-"
    there = os.listdir("runs") if os.path.isdir("runs") else []
    taken = [other.removeprefix(name) for other in there if other.startswith(name)]
    numbers = [int(n) for n in taken if n.isascii() and n.isdigit()]
    return Path("runs") / f"{name}{max(numbers, default=0) + 1}"
