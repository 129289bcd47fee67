"""Snapshots of pytrees on disk: atomic, verified on load, the best one kept.

Layout: one folder per step, written by orbax under a temporary name and renamed when
complete. Each holds the arrays and a JSON record with the score, the caller's metadata
and a checksum of every leaf. Nothing in it is executed on load, and no path in it is
needed, so that a folder can be moved.
"""

import math
import os
import shutil
import warnings
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any

import numpy as np

from optix.checkpoints import store
from optix.checkpoints.index import (
    checksum,
    difference,
    from_arrays,
    to_arrays,
)
from optix.checkpoints.record import (
    CheckpointError,
    CorruptCheckpointError,
    ForeignFormatError,
    Snapshot,
    check_keys,
    corrupt,
    first_line,
    make_record,
    read_record,
)
from optix.checks import function, positive_int, within
from optix.files import folder_path
from optix.types import PyTree

_TRASH, _FRESH = ".trash-", ".new-"


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
        function("protect", protect, "it takes a Snapshot and gives a bool")
        self.directory, self._protect = folder_path("directory", directory), protect
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
            CheckpointError: the folder can not be written to, or the tree holds a key
                that could not be restored.
        """
        step = positive_int("step", step, 0, 2**63 - 1)
        arrays, index = to_arrays(tree)
        check_keys(index, self._path(step))
        record = make_record(step, score, metadata, index)
        path = self._path(step)
        self._known.pop(step, None)
        try:
            self._remove(self._leftovers())
            if os.path.lexists(path):  # the old one stays until the new one is whole
                fresh = self.directory / f"{_FRESH}{step}"
                store.write(fresh, arrays, record)
                path.rename(self.directory / f"{_TRASH}{step}")
                fresh.rename(path)
                self._remove(self._leftovers())
            else:
                store.write(path, arrays, record)
            self._known[step] = self._snapshot(record)  # pruning needs not read it
            self._prune()
        except Exception as error:  # tensorstore has many names for a full disk
            raise CheckpointError(
                f"can not write a checkpoint to {self.directory} "
                f"({first_line(error)}); choose a folder that you may write to, on a "
                "disk with space left"
            ) from error
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
        check_keys(record["leaves"], snapshot.path)
        arrays = self._arrays(snapshot.path, record["leaves"])
        return from_arrays(arrays, record["leaves"], target), snapshot

    def load_latest(self, target: Target) -> tuple[PyTree, Snapshot]:
        """Return the latest intact snapshot; warn about damaged ones on the way.

        Raises:
            CheckpointError: none is intact, or a later one is of another format: to go
                on from an earlier one would be to lose it.
        """
        return self._first_intact(reversed(self.steps()), target)

    def load_best(
        self, target: Target, prefer: Callable[[Snapshot], bool] = lambda s: False
    ) -> tuple[PyTree, Snapshot]:
        """Return the intact snapshot with the highest score, see `load_latest`.

        Args:
            target: as for `load`.
            prefer: those of which it holds come before all others.

        Raises:
            CheckpointError: none with a score is intact.
        """
        faults, ranked = self._ranked(prefer)
        return self._first_intact((s.step for s in ranked), target, faults)

    def load_ensemble(
        self,
        target: Target,
        top_k: int = 3,
        score_band: float = 0.1,
        *,
        prefer: Callable[[Snapshot], bool] = lambda s: False,
        same: Callable[[PyTree, Snapshot], Hashable] = lambda tree, s: s.step,
    ) -> list[tuple[PyTree, Snapshot]]:
        """Return the best intact snapshots within a band of scores, the best one first.

        Args:
            target: as for `load`.
            top_k: how many at most.
            score_band: how far below the score of the first another one's may be, in
                parts of its size; infinity takes all.
            prefer: as for `load_best`.
            same: `(tree, snapshot)`; of those that it says the same of only the first is
                taken.

        Raises:
            CheckpointError: none with a score is intact.
        """
        positive_int("top_k", top_k)
        band = within("score_band", score_band, 0.0, math.inf)
        faults, ranked = self._ranked(prefer)
        found: dict[Hashable, tuple[PyTree, Snapshot]] = {}
        lowest = -math.inf
        for snapshot in ranked:
            if len(found) == top_k:
                break
            if (snapshot.score or 0.0) < lowest:
                continue
            try:
                pair = self.load(snapshot.step, target)
                found.setdefault(same(*pair), pair)
            except CorruptCheckpointError as error:
                warnings.warn(f"{error}; it is left out", stacklevel=2)
                faults = [*faults, error]
                continue
            if len(found) == 1 and math.isfinite(band):
                best = snapshot.score or 0.0
                lowest = best - band * abs(best)
        if not found:
            return [self._first_intact((), target, faults)]  # which says why
        return list(found.values())

    def _ranked(
        self, prefer: Callable[[Snapshot], bool]
    ) -> tuple[list[CheckpointError], list[Snapshot]]:
        """Return what is damaged, with a warning each, and the others, the best first."""
        faults = self.faults()
        for fault in faults:
            warnings.warn(
                f"{fault}; it may have been the best: taking the best of the others",
                stacklevel=3,
            )
        scored = [s for s in self._snapshots() if s.score is not None]
        scored.sort(key=lambda s: (prefer(s), *_rank(s)), reverse=True)
        return faults, scored

    def faults(self) -> list[CheckpointError]:
        """Return what is wrong with the records that can not be read."""
        found = []
        for step in self.steps():
            self._known.pop(step, None)
            try:
                self._known[step] = self._snapshot(self._record(step))
            except CheckpointError as error:
                if os.path.lexists(self._path(step)):  # else pruned by a live run
                    found.append(error)
        return found

    @property
    def latest(self) -> Snapshot | None:
        """The snapshot with the highest step whose record is readable."""
        return next(self._snapshots(), None)

    @property
    def best(self) -> Snapshot | None:
        """The snapshot with the highest finite score; of equal ones the latest."""
        scored = [s for s in self._snapshots() if s.score is not None]
        return max(scored, key=_rank, default=None)

    def snapshots(self) -> list[Snapshot]:
        """Return those with a readable record, the latest first."""
        return list(self._snapshots())

    def steps(self) -> list[int]:
        """Return the steps on disk, ascending; unfinished saves are not among them.

        Raises:
            CheckpointError: the folder is something else, or may not be read.
        """
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"{self.directory} can not be read as a folder of checkpoints "
                f"({error}); restore it from a copy"
            ) from error
        # a step that is no folder is damaged: reading it says so
        return sorted(int(name) for name in names if _is_step(name))

    def discard_after(self, step: int) -> None:
        """Remove the snapshots later than `step`, from which the caller goes on."""
        self._remove(self._path(later) for later in self.steps() if later > step)

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _record(self, step: int) -> dict[str, Any]:
        """Return the verified JSON record of a step."""
        path = self._path(step)
        if not os.path.lexists(path):
            known = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"no checkpoint at {path} (steps there: {known})")
        return read_record(path, step)

    def _arrays(self, path: Path, index: list[dict[str, Any]]) -> list[np.ndarray]:
        """Return the arrays of a snapshot, every one compared with its checksum."""
        empty = [np.empty(e["stored_shape"], e["stored_dtype"]) for e in index]
        try:
            arrays = store.read_arrays(path, empty)
        except Exception as error:
            raise corrupt(path, first_line(error)) from error
        for array, entry in zip(arrays, index, strict=True):
            if checksum(array) != entry["crc32"]:
                raise corrupt(path, f"{entry['path']} fails its checksum")
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
        self,
        steps: Iterable[int],
        target: Target,
        faults: Sequence[CheckpointError] = (),
    ) -> tuple[PyTree, Snapshot]:
        damaged = faults[-1] if faults else None
        for step in steps:
            try:
                return self.load(step, target)
            except CorruptCheckpointError as error:
                warnings.warn(f"{error}; trying the one before", stacklevel=3)
                damaged = error
        reason = "" if damaged is None else f" ({damaged})"
        raise CheckpointError(
            f"no intact checkpoint in {self.directory}{reason}; "
            "start a new run, or restore the folder from a copy"
        ) from damaged

    def _prune(self) -> None:
        """Keep the latest, the latest protected one and, of the others, the best.

        Those of another format count among the kept: they may be read elsewhere.
        """
        *others, _ = self.steps()
        protected = next((s.step for s in self._snapshots() if self._protect(s)), None)
        ranks = {s.step: _rank(s) for s in self._snapshots()}
        others.sort(key=lambda step: ranks.get(step, (-math.inf, -1)))
        others.sort(key=lambda step: step == protected)  # the last to be removed
        excess = max(len(others) - (self.max_snapshots - 1), 0)
        self._remove(self._path(s) for s in others[:excess] if not self.is_foreign(s))

    def is_foreign(self, step: int) -> bool:
        """Return whether another version wrote the snapshot of a step."""
        if step in self._known or not os.path.lexists(self._path(step)):
            return False
        try:
            self._record(step)
        except CheckpointError as error:
            return isinstance(error, ForeignFormatError)
        return False

    def _leftovers(self) -> list[Path]:
        """Return what a save or a removal that was killed has left behind."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return [
            self.directory / name
            for name in os.listdir(self.directory)
            if store.UNFINISHED in name or name.startswith((_TRASH, _FRESH))
        ]

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove folders such that no step is ever seen half removed."""
        for path in list(paths):
            trash = self.directory / f"{_TRASH}{path.name.removeprefix(_TRASH)}"
            if trash != path:
                _delete(trash)
                path.rename(trash)
            _delete(trash)


def _delete(path: Path) -> None:
    """Remove whatever is there: a folder, or a file or link in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name))


def _rank(snapshot: Snapshot) -> tuple[float, int]:
    score = -math.inf if snapshot.score is None else snapshot.score
    return score, snapshot.step
