"""How the weights of slots are kept: in memory, or as the agent's own files."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from optix import checks
from optix.host.agent import BaseAgent
from optix.host.packed import (
    arrays_of,
    bytes_of_arrays,
    bytes_of_folder,
    checked_arrays,
    unpack_folder,
)

IN_MEMORY = 2**29  # bytes of arrays; what is older goes into files


class Snapshots(Protocol):
    """Weights of one agent by slot.

    kind: the first part of their names in a checkpoint.
    """

    kind: str

    def save(self, slot: int) -> None:
        """Keep the weights that the agent has now."""
        ...

    def restore(self, slot: int) -> None:
        """Give the agent the weights of a slot."""
        ...

    def drop(self, slot: int) -> None:
        """Forget a slot."""
        ...

    def pack(self, slot: int) -> bytes:
        """Return a slot for a checkpoint; the same weights give the same bytes."""
        ...

    def unpack(self, slot: int, archive: bytes) -> None:
        """Take back what `pack` returned, in place of what the slot held."""
        ...

    def try_on(self, slot: int) -> None:
        """Give the agent weights that were unpacked; raise if it does not take them."""
        ...


def snapshots(agent: BaseAgent, directory: str | None) -> Snapshots:
    """Return the way in which the agent can be kept.

    Raises:
      TypeError: it overrides one of `state` and `restore` without the other.
      ValueError: `state` returns something else than copies of arrays.
    """
    overridden = [
        name
        for name in ("state", "restore")
        if getattr(type(agent), name) is not getattr(BaseAgent, name)
    ]
    if len(overridden) == 1:
        raise TypeError(
            f"{type(agent).__name__} must override both state and restore or neither, "
            f"but overrides only {overridden[0]}"
        )
    if not overridden:
        return Files(agent, directory)
    what = f"state of {type(agent).__name__}"
    first, second = (checked_arrays(what, agent.state()) for _ in range(2))
    both = first.keys() & second.keys()
    shared = sorted(n for n in both if np.may_share_memory(first[n], second[n]))
    if shared:
        raise checks.OptionError(
            f"{what} must return copies, but {shared[0]!r} is the agent's own array; "
            "copy it, or learning changes what is kept"
        )
    return Arrays(agent, directory)


class Arrays:
    """Weights in memory, {name: array}.

    A program in which nobody can say what is still needed makes more and more of them:
    the oldest go into files when they take more than `limit` bytes.
    """

    kind = "arrays"

    def __init__(
        self, agent: BaseAgent, directory: str | None = None, limit: int = IN_MEMORY
    ):
        """Keep nothing yet."""
        self._agent, self._directory, self._limit = agent, directory, limit
        self._kept: dict[int, Mapping[str, np.ndarray]] = {}  # the oldest first
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory | None = None

    def save(self, slot: int) -> None:
        """Keep the weights that the agent has now."""
        what = f"state of {type(self._agent).__name__}"
        self._put(slot, checked_arrays(what, self._agent.state()))

    def restore(self, slot: int) -> None:
        """Give the agent the weights of a slot."""
        kept = slot in self._kept
        self._agent.restore(self._kept[slot] if kept else arrays_of(self.pack(slot)))

    def drop(self, slot: int) -> None:
        """Forget a slot."""
        if slot in self._kept:
            self._bytes -= _size(self._kept.pop(slot))
        elif self._folder is not None:
            self._file(slot).unlink(missing_ok=True)

    def pack(self, slot: int) -> bytes:
        """Return a slot for a checkpoint."""
        if slot in self._kept:
            return bytes_of_arrays(self._kept[slot])
        return self._file(slot).read_bytes()

    def unpack(self, slot: int, archive: bytes) -> None:
        """Take back what `pack` returned."""
        self.drop(slot)
        self._put(slot, arrays_of(archive))

    def try_on(self, slot: int) -> None:
        """Give the agent weights that were unpacked; raise if it has others then."""
        self.restore(slot)
        wanted, found = arrays_of(self.pack(slot)), self._agent.state()
        for name in sorted(wanted.keys() | found.keys()):
            kinds = [
                f"{np.asarray(arrays[name]).dtype}{list(np.shape(arrays[name]))}"
                if name in arrays
                else "nothing"
                for arrays in (wanted, found)
            ]
            if kinds[0] != kinds[1]:
                raise ValueError(f"{name!r} is {kinds[0]} there and {kinds[1]} here")

    def _put(self, slot: int, arrays: Mapping[str, np.ndarray]) -> None:
        self._kept[slot] = arrays
        self._bytes += _size(arrays)
        while self._bytes > self._limit and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._file(oldest).write_bytes(bytes_of_arrays(self._kept[oldest]))
            self._bytes -= _size(self._kept.pop(oldest))

    def _file(self, slot: int) -> Path:
        if self._folder is None:
            self._folder = _new_folder(self._directory)
        return Path(self._folder.name, str(slot))


class Files:
    """Weights as files in a temporary folder, just as `save_weights` writes them."""

    kind = "files"

    def __init__(self, agent: BaseAgent, directory: str | None = None):
        """Make the folder."""
        self._agent, self._folder = agent, _new_folder(directory)

    def save(self, slot: int) -> None:
        """Let the agent write the weights that it has now."""
        path = self._path(slot)
        path.parent.mkdir()
        self._agent.save_weights(str(path))
        if not any(file.is_file() for file in path.parent.rglob("*")):
            raise FileNotFoundError(
                f"{type(self._agent).__name__}.save_weights(path) must write a file at "
                "path, files whose names begin with it, or a folder; it wrote nothing"
            )

    def restore(self, slot: int) -> None:
        """Let the agent read the weights of a slot."""
        self._agent.load_weights(str(self._path(slot)))

    def drop(self, slot: int) -> None:
        """Remove the files of a slot."""
        shutil.rmtree(self._path(slot).parent)

    def pack(self, slot: int) -> bytes:
        """Return the files of a slot for a checkpoint."""
        return bytes_of_folder(self._path(slot).parent)

    def unpack(self, slot: int, archive: bytes) -> None:
        """Write the files that `pack` returned."""
        folder = self._path(slot).parent
        shutil.rmtree(folder, ignore_errors=True)
        unpack_folder(archive, folder)

    def try_on(self, slot: int) -> None:
        """Let the agent read weights that were unpacked, or raise."""
        self.restore(slot)

    def _path(self, slot: int) -> Path:
        """Return what the agent takes for a file name, in a folder of its own."""
        return Path(self._folder.name, str(slot), "weights")


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _new_folder(directory: str | None) -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="optix-", dir=directory)
