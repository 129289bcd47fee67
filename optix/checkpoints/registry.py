"""Snapshots of pytrees on disk: atomic, verified on load, the best one kept.

Layout: one folder per step, written by orbax under a temporary name and renamed when
complete. Each holds the arrays and a JSON record with the score, the caller's metadata
and a checksum of every leaf. Nothing in it is executed on load, and no path in it is
needed, so that a folder can be moved.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optix.checkpoints import store
from optix.checkpoints.index import checksum, difference, from_arrays, to_arrays
from optix.checks import positive_int
from optix.types import PyTree

_FORMAT = 1
_TRASH = ".trash-"


class CheckpointError(Exception):
    """A snapshot can not be written or read; the message names path and remedy."""


class CorruptCheckpointError(CheckpointError):
    """A snapshot is damaged: truncated, altered or incomplete."""


class Snapshot(NamedTuple):
    """What is known of a snapshot without its arrays."""

    step: int
    score: float | None  # None where none was given or it was not finite
    metadata: dict[str, Any]
    path: Path


Target = PyTree | Callable[[Snapshot], PyTree]


class CheckpointRegistry:
    """Snapshots in one folder, of which the best and the latest are never pruned.

    Reading changes nothing on disk, so another process may look into a live folder;
    only one process may write (see `optix.train`, which holds a lock).

    Args:
        directory: the folder; it is made by the first `save`.
        max_snapshots: how many are kept, at least 2: the latest, and the best others.
            Snapshots without a finite score rank by their step, below all scores.
        protect: the latest snapshot of which it holds is not pruned either.

    Example:
        >>> import jax.numpy as jnp, tempfile
        >>> registry = CheckpointRegistry(tempfile.mkdtemp(), max_snapshots=2)
        >>> for step, score in enumerate([9.0, 1.0, 2.0]):
        ...     _ = registry.save(step, {"w": jnp.full(2, step)}, score)
        >>> registry.steps(), registry.best.score
        ([0, 2], 9.0)
        >>> tree, snapshot = registry.load_best({"w": jnp.zeros(2, jnp.int32)})
        >>> tree["w"].tolist(), snapshot.step
        ([0, 0], 0)
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        max_snapshots: int = 10,
        protect: Callable[[Snapshot], bool] = lambda snapshot: False,
    ):
        """See the class."""
        self.directory, self._protect = Path(directory), protect
        self.max_snapshots = positive_int("max_snapshots", max_snapshots, minimum=2)
        self._known: dict[int, Snapshot] = {}

    def save(
        self,
        step: int,
        tree: PyTree,
        score: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """Write a snapshot, then prune. A snapshot of the same step is replaced.

        Args:
            step: what orders the snapshots, >= 0.
            tree: arrays and typed PRNG keys on any device.
            score: what `best` ranks by, higher is better.
            metadata: JSON values that travel with the snapshot.

        Raises:
            CheckpointError: the folder can not be written to.
        """
        step = positive_int("step", step, minimum=0)
        arrays, index = to_arrays(tree)
        record = {
            "format": _FORMAT,
            "step": step,
            "score": _finite(score),
            "metadata": dict(metadata or {}),
            "leaves": index,
        }
        record = json.loads(json.dumps(record, allow_nan=False))
        record["sha256"] = _digest(record)
        path = self._path(step)
        self._known.pop(step, None)
        try:
            self._remove(self._leftovers())
            self._remove([path] if path.exists() else [])
            store.write(path, arrays, record)
            self._prune()
        except Exception as error:  # tensorstore has many names for a full disk
            raise CheckpointError(
                f"can not write a checkpoint to {self.directory} "
                f"({_first_line(error)}); choose a folder that you may write to, on a "
                "disk with space left"
            ) from error
        self._known[step] = self._snapshot(record)
        return self._known[step]

    def load(self, step: int, target: Target) -> tuple[PyTree, Snapshot]:
        """Return the tree of one step and its snapshot.

        Args:
            step: one of `steps()`.
            target: a tree of arrays or `jax.ShapeDtypeStruct` with the structure,
                shapes, dtypes and shardings wanted, or a function from the Snapshot
                to it.

        Raises:
            CheckpointError: no such step, or a tree unlike `target`.
            CorruptCheckpointError: the snapshot is damaged.
        """
        record = self._record(step)
        snapshot = self._snapshot(record)
        if callable(target):
            target = target(snapshot)
        unlike = difference(record["leaves"], target)
        if unlike is not None:
            raise CheckpointError(
                f"{snapshot.path} was saved by another configuration: {unlike}; "
                "load it with the configuration that saved it"
            )
        arrays = self._arrays(snapshot.path, record["leaves"])
        return from_arrays(arrays, record["leaves"], target), snapshot

    def load_latest(self, target: Target) -> tuple[PyTree, Snapshot]:
        """Return the latest intact snapshot; warn about damaged ones on the way."""
        return self._first_intact(reversed(self.steps()), target)

    def load_best(self, target: Target) -> tuple[PyTree, Snapshot]:
        """Return the intact snapshot with the highest score, see `load_latest`."""
        scored = [s for s in self._snapshots() if s.score is not None]
        ranked = sorted(scored, key=_rank, reverse=True)
        return self._first_intact((s.step for s in ranked), target)

    @property
    def latest(self) -> Snapshot | None:
        """The snapshot with the highest step whose record is readable."""
        return next(self._snapshots(), None)

    @property
    def best(self) -> Snapshot | None:
        """The snapshot with the highest finite score; of equal ones the latest."""
        scored = [s for s in self._snapshots() if s.score is not None]
        return max(scored, key=_rank, default=None)

    def steps(self) -> list[int]:
        """Return the steps on disk, ascending; unfinished saves are not among them."""
        if not self.directory.is_dir():
            return []
        names = (entry.name for entry in os.scandir(self.directory) if entry.is_dir())
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def discard_after(self, step: int) -> None:
        """Remove the snapshots later than `step`: another past is gone on with."""
        self._remove(self._path(later) for later in self.steps() if later > step)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _record(self, step: int) -> dict[str, Any]:
        """Return the verified JSON record of a step."""
        path = self._path(step)
        if not path.is_dir():
            known = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"no checkpoint at {path} (steps there: {known})")
        try:
            record = store.read_record(path)
            found = record.pop("sha256")
        except Exception as error:
            raise _corrupt(path, _first_line(error)) from error
        if found != _digest(record):
            raise _corrupt(path, "its record fails the checksum")
        if record["format"] != _FORMAT:
            raise CheckpointError(
                f"{path} has format {record['format']}, this version of optix reads "
                f"format {_FORMAT}; use the version that saved it"
            )
        return record

    def _arrays(self, path: Path, index: list[dict[str, Any]]) -> list[np.ndarray]:
        """Return the arrays of a snapshot, every one compared with its checksum."""
        empty = [np.empty(e["stored_shape"], e["stored_dtype"]) for e in index]
        try:
            arrays = store.read_arrays(path, empty)
        except Exception as error:
            raise _corrupt(path, _first_line(error)) from error
        for array, entry in zip(arrays, index, strict=True):
            if checksum(array) != entry["crc32"]:
                raise _corrupt(path, f"{entry['path']} fails its checksum")
        return arrays

    def _snapshot(self, record: dict[str, Any]) -> Snapshot:
        step = record["step"]
        return Snapshot(step, record["score"], record["metadata"], self._path(step))

    def _snapshots(self) -> Iterator[Snapshot]:
        """Yield the snapshots with a readable record, the latest first."""
        for step in reversed(self.steps()):
            if step not in self._known:
                try:
                    self._known[step] = self._snapshot(self._record(step))
                except CheckpointError:
                    continue  # loading it says what is wrong with it
            yield self._known[step]

    def _first_intact(
        self, steps: Iterable[int], target: Target
    ) -> tuple[PyTree, Snapshot]:
        damaged = None
        for step in steps:
            try:
                return self.load(step, target)
            except CorruptCheckpointError as error:
                warnings.warn(f"{error}; trying the one before", stacklevel=3)
                damaged = error
        raise CheckpointError(
            f"no intact checkpoint in {self.directory}; "
            "start a new run, or restore the folder from a copy"
        ) from damaged

    def _prune(self) -> None:
        """Keep the latest, the latest protected one and, of the others, the best."""
        *others, _ = self.steps()
        protected = next((s.step for s in self._snapshots() if self._protect(s)), None)
        ranks = {s.step: _rank(s) for s in self._snapshots()}
        others.sort(key=lambda step: ranks.get(step, (-math.inf, -1)))
        others.sort(key=lambda step: step == protected)  # the last to be removed
        excess = len(others) - (self.max_snapshots - 1)
        self._remove(self._path(step) for step in others[: max(excess, 0)])

    def _leftovers(self) -> list[Path]:
        """Return what a save or a removal that was killed has left behind."""
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory.glob(f"*{store.UNFINISHED}*")
        return [*unfinished, *self.directory.glob(f"{_TRASH}*")]

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove folders such that no step is ever seen half removed."""
        for path in list(paths):
            trash = self.directory / f"{_TRASH}{path.name.removeprefix(_TRASH)}"
            if trash != path:
                shutil.rmtree(trash, ignore_errors=True)
                path.rename(trash)
            shutil.rmtree(trash)


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _finite(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else float(score)


def _rank(snapshot: Snapshot) -> tuple[float, int]:
    score = -math.inf if snapshot.score is None else snapshot.score
    return score, snapshot.step


def _corrupt(path: Path, what: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{path} is damaged ({what}); remove it, or restore it from a copy"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    )
