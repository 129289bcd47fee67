"""What the processes of a run do together before it is played: its folder, its state.

Process 0 has the folder. What it reads all are given, so the others need no disk.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optix.checkpoints.registry import CheckpointError
from optix.distributed.peers import Peers
from optix.files import folder_path
from optix.run import description
from optix.run.folder import RunFolder, RunFolderError, without_memory
from optix.run.programs import Programs
from optix.types import Loop, LoopState, PyTree


def must_be_alike(peers: Peers, config: dict[str, Any]) -> None:
    """Raise HostsError unless all processes were asked for the same run."""
    peers.must_agree("run", description.encoded(config))


def compiled(peers: Peers, run: Programs, target: PyTree) -> None:
    """Compile the rounds in each process before they meet in one.

    Connecting there gives up after 30 s, and one may compile for longer than another.

    Args:
        peers: the processes.
        run: the programs of the run.
        target: the shapes of a state, placed.
    """
    if peers.count > 1:
        run.advance.lower(target, np.int32(1)).compile()  # type: ignore[attr-defined]
        peers.meet()


def described(peers: Peers, directory: str | os.PathLike) -> dict[str, Any]:
    """Return the description of the run in the directory of process 0.

    Raises:
        RunFolderError: as of `RunFolder.open`, in all processes.
    """
    path = folder_path("directory", directory)
    found = peers.on_first(lambda: RunFolder.open(path, write=False), RunFolderError)
    config = None if found is None else description.encoded(found.config)
    return description.decoded(peers.first(config))


def taken(
    peers: Peers,
    take: Callable[[], RunFolder],
    directory: str | os.PathLike,
    config: Any,
) -> RunFolder:
    """Return the locked folder of process 0; for the others what stands for it."""
    folder = peers.on_first(take, RunFolderError)
    return RunFolder(Path(directory), config) if folder is None else folder


def loaded(
    peers: Peers, folder: RunFolder, target: PyTree, loop: Loop
) -> LoopState | None:
    """Return the latest state of a folder, of several processes on the host of each.

    Raises:
        RunFolderError, CheckpointError: as of `RunFolder.load_state`, in all processes.
    """
    if peers.count == 1:
        return folder.load_state(target, loop)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), target)
    found = peers.on_first(
        lambda: folder.load_state(shapes, loop), RunFolderError, CheckpointError
    )
    same = found is not None and jax.tree.structure(found) == jax.tree.structure(shapes)
    there, complete = peers.first((found is not None, same))
    if not there:
        return None
    like = shapes if complete else without_memory(shapes)
    return peers.spread(jax.tree.map(_empty, like) if found is None else found)


def _empty(leaf: Any) -> Any:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        keys = jax.random.split(jax.random.key(0), leaf.size)
        return keys.reshape(leaf.shape)
    return np.zeros(leaf.shape, leaf.dtype)
