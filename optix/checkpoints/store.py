"""One snapshot on disk: arrays and a JSON record in a folder that orbax makes whole.

Orbax writes under a temporary name and renames when complete. A run has a hundred arrays
and most of them are tiny: those go into one array of bytes, for orbax starts a thread
for each, and saving them one by one took three times as long.

Orbax takes a path for a pattern (`*`, `[x]`) and tensorstore takes one for an address
(`gs://`, `\\`): where a user's path holds anything but plain characters, they are given
a link to it.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a folder that is being written
_SMALL = 2**20  # bytes
_PLAIN = re.compile(r"[A-Za-z0-9_/. =,+@-]*")  # means nothing but itself to anyone


def write(path: Path, arrays: list[np.ndarray], record: dict[str, Any]) -> None:
    """Write a snapshot; `path` appears when it is complete."""
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer, _plain(path) as plain_path:
        checkpointer.save(
            plain_path,
            args=ocp.args.Composite(
                arrays=ocp.args.PyTreeSave(_pack(arrays)),
                record=ocp.args.JsonSave(record),
            ),
        )


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a snapshot."""
    import orbax.checkpoint as ocp

    arguments = ocp.args.Composite(record=ocp.args.JsonRestore())
    with _checkpointer() as checkpointer, _plain(path) as plain_path:
        return checkpointer.restore(plain_path, args=arguments)["record"]


def read_arrays(path: Path, like: list[np.ndarray]) -> list[np.ndarray]:
    """Return the arrays of a snapshot, which have the shapes and dtypes of `like`."""
    import orbax.checkpoint as ocp

    wanted = _pack(like)
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in wanted}
    arguments = ocp.args.Composite(
        arrays=ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy)
    )
    with _checkpointer() as checkpointer, _plain(path) as plain_path:
        stored = checkpointer.restore(plain_path, args=arguments)["arrays"]
    return _unpack(stored, like)


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    import orbax.checkpoint as ocp

    alone: dict[str, Any] = {}
    composite: dict[str, Any] = {}
    if jax.process_count() > 1:  # orbax would wait for all processes; one writes
        one = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=one, active_processes={one}, barrier_sync_key_prefix="optix"
        )
        alone["multiprocessing_options"] = options
        composite = {
            "composite_options": ocp.CompositeOptions(**alone),
            "arrays": ocp.PyTreeCheckpointHandler(**alone),
            "record": ocp.JsonCheckpointHandler(**alone),
        }
    handler = ocp.CompositeCheckpointHandler(**composite)
    checkpointer = ocp.Checkpointer(handler, **alone)
    try:
        yield checkpointer
    finally:
        checkpointer.close()


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """Yield an absolute path of plain characters to the same place; its name is plain."""
    path = path.absolute()
    if _PLAIN.fullmatch(str(path)):
        yield path
        return
    candidates = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    folder = next((name for name in candidates if _PLAIN.fullmatch(name)), None)
    with tempfile.TemporaryDirectory(prefix="optix-", dir=folder) as temporary:
        link = Path(temporary, "link")
        link.symlink_to(path.parent, target_is_directory=True)
        yield link / path.name


def _pack(arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the large arrays by number, and the bytes of all others in a row."""
    packed = {str(i): array for i, array in enumerate(arrays) if array.nbytes > _SMALL}
    small = [_bytes(array) for array in arrays if array.nbytes <= _SMALL]
    # orbax refuses arrays of no bytes
    packed["small"] = np.concatenate([np.zeros(1, np.uint8), *small])
    return packed


def _unpack(packed: dict[str, np.ndarray], like: list[np.ndarray]) -> list[np.ndarray]:
    arrays, at = [], 1
    for i, array in enumerate(like):
        if array.nbytes > _SMALL:
            arrays.append(packed[str(i)])
        else:
            raw = packed["small"][at : at + array.nbytes]
            arrays.append(raw.copy().view(array.dtype).reshape(array.shape))
            at += array.nbytes
    return arrays


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
