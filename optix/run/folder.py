"""The folder of a run: what it is, its lock, its checkpoints and its best policies."""

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optix.checkpoints.registry import (
    CheckpointError,
    CheckpointRegistry,
    Snapshot,
)
from optix.trees import take
from optix.types import Loop, LoopState, PyTree

_FORMAT = 1
_RUN, _LOCK = "run.json", ".lock"
_STATES_KEPT, _POLICIES_KEPT = 3, 5
_held: set[int] = set()  # descriptors of locks of this process


class RunFolderError(Exception):
    """A folder can not be used for what was asked; the message says what to do."""


class RunFolder:
    """A folder that belongs to one run, locked while it is open for writing.

    run.json        how to rebuild the loop, written once
    checkpoints/    the states of all seeds, the latest ones and the latest with a replay
    best/           the best policy over all seeds, the best ones
    log.jsonl       one line per round and seed
    curve.png       the learning curve

    Made by `create` and `open`; it is a context manager that gives the lock back.
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        """See the class."""
        self.path, self.config = path, config
        self.states = CheckpointRegistry(
            path / "checkpoints", _STATES_KEPT, protect=_has_memory
        )
        self.best = CheckpointRegistry(path / "best", _POLICIES_KEPT)
        self.log, self.curve = path / "log.jsonl", path / "curve.png"
        self._lock: int | None = None

    @classmethod
    def create(
        cls, directory: str | os.PathLike, config: dict[str, Any]
    ) -> "RunFolder":
        """Return the locked folder of a new run.

        Raises:
            RunFolderError: it holds a run or something else, or can not be written.
        """
        path = Path(directory)
        config = {"format": _FORMAT, **config}
        try:
            if not path.exists():
                # appears with its description in it, so that no kill comes in between
                fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                fresh.mkdir(parents=True)
                _write_json(fresh / _RUN, config)
                fresh.rename(path)
                folder = cls(path, config)
                folder._take_lock()
                return folder
            if not path.is_dir():
                raise RunFolderError(f"{path} is a file; choose a folder for the run")
            _must_be_empty(path)
            folder = cls(path, config)
            folder._take_lock()
            try:
                _must_be_empty(path)  # by now another one may have begun
                _write_json(path / _RUN, config)
            except BaseException:
                folder.close()
                raise
            return folder
        except OSError as error:
            raise RunFolderError(
                f"can not write to {path} ({error}); choose a folder that you may "
                "write to"
            ) from error

    @classmethod
    def open(cls, directory: str | os.PathLike, write: bool) -> "RunFolder":
        """Return the folder of a run, locked if it is to be written to.

        Raises:
            RunFolderError: it holds no run, or one that is under way.
        """
        path = Path(directory)
        try:
            config = json.loads((path / _RUN).read_text(encoding="utf-8"))
            version = config["format"]
        except FileNotFoundError:
            raise RunFolderError(
                f"{path} holds no run of optix; start one with "
                f"`optix train ENV --directory {path}`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{path / _RUN} can not be read ({error}); restore it from a copy"
            ) from error
        if version != _FORMAT:
            raise RunFolderError(
                f"{path / _RUN} has format {version}, this version of optix reads "
                f"format {_FORMAT}; use the version that wrote it"
            )
        folder = cls(path, config)
        if write:
            folder._take_lock()
        return folder

    def __enter__(self) -> "RunFolder":
        """Return the folder."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the lock back."""
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            _held.discard(self._lock)
            os.close(self._lock)
            self._lock = None

    def configure(self, **changes: Any) -> None:
        """Change what run.json says, atomically."""
        self.config |= changes
        _write_json(self.path / _RUN, self.config)

    def save(
        self, state: LoopState, loop: Loop, leader: int, memory: bool = True
    ) -> None:
        """Write a checkpoint, and the best policy of seed `leader` if it is a new one.

        Without `memory` the replay is left out, and the checkpoint says so.

        Raises:
            CheckpointError: the folder can not be written to.
        """
        rounds = np.asarray(state.round)
        step = int(rounds.sum())
        about = {"environment": self.config["environment"], "rounds": rounds.tolist()}
        kept = state if memory else without_memory(state)
        tree, metadata = _with_host(kept, loop, about | {"memory": memory})
        self.states.save(step, tree, metadata=metadata)
        score = float(state.best.score[leader])
        found = {"seed": leader, "round": int(state.best.round[leader])}
        latest = self.best.latest
        known = latest is not None and found.items() <= latest.metadata.items()
        if np.isfinite(score) and not known:
            tree, metadata = _with_host(take(state.best, leader), loop, about | found)
            self.best.save(step, tree, score, metadata)

    def load_state(self, target: PyTree, loop: Loop) -> LoopState | None:
        """Return the latest intact state; None if there has been no checkpoint yet.

        Its memory is () if that checkpoint was saved without. The latest is preferred to
        an earlier one with its memory: experience is gathered again sooner than skill.
        Later snapshots, which are damaged, are removed: the run goes on from before.
        """
        if not self.states.steps():
            return None
        tree, snapshot = self.states.load_latest(self._target(target))
        for registry in (self.states, self.best):
            registry.discard_after(snapshot.step)
        return _without_host(tree, loop)

    def load_best(self, target: PyTree, loop: Loop) -> tuple[PyTree, Snapshot]:
        """Return the `Best` with the highest score over all seeds, and its snapshot."""
        if self.best.best is None:
            raise RunFolderError(
                f"{self.path} has no policy with a finite score yet; let it train first"
            )
        tree, snapshot = self.best.load_best(self._target(target))
        return _without_host(tree, loop), snapshot

    def _target(self, target: PyTree) -> Any:
        """Return what a snapshot must look like, which depends on what it says."""
        ours = self.config["environment"]

        def of(snapshot: Snapshot) -> PyTree:
            theirs = snapshot.metadata.get("environment")
            if theirs != ours:
                raise CheckpointError(
                    f"{snapshot.path} is from a run in the environment {theirs}, this "
                    f"run is in {ours}; put the checkpoints of this run back"
                )
            sizes = snapshot.metadata["host"].items()
            outside = {n: jax.ShapeDtypeStruct((size,), np.uint8) for n, size in sizes}
            tree = target if _has_memory(snapshot) else without_memory(target)
            return {"tree": tree, "host": outside}

        return of

    def _take_lock(self) -> None:
        """Take the lock, which the system gives back however the process ends."""
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise RunFolderError(
                f"{self.path} is in use by another run (process {owner}); wait for its "
                "end or choose another folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        _held.add(lock)
        self._lock = lock


def without_memory(state: LoopState) -> LoopState:
    """Return the state without its replay."""
    return state._replace(learner=state.learner._replace(memory=()))


def _has_memory(snapshot: Snapshot) -> bool:
    return snapshot.metadata.get("memory", True)


def _close_inherited() -> None:
    """Keep a forked child, such as an environment's worker, from holding the locks."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)


def _must_be_empty(path: Path) -> None:
    names = {entry.name for entry in os.scandir(path)} - {_LOCK, f"{_RUN}.tmp"}
    if _RUN in names:
        raise RunFolderError(
            f"{path} holds a run already; continue it with `optix resume {path}` or "
            "choose another folder"
        )
    if names:
        raise RunFolderError(
            f"{path} holds something else ({sorted(names)[0]}); choose an empty folder"
        )


def _with_host(
    tree: PyTree, loop: Loop, metadata: dict[str, Any]
) -> tuple[PyTree, dict[str, Any]]:
    """Return what to save: the tree, and what it names outside the device."""
    host = loop.learner.host
    outside = {} if host is None else host.save(tree)
    sizes = {name: array.size for name, array in outside.items()}
    return {"tree": tree, "host": outside}, {**metadata, "host": sizes}


def _without_host(saved: PyTree, loop: Loop) -> PyTree:
    """Give the host back what the tree names there, and return the tree."""
    if loop.learner.host is not None:
        loop.learner.host.load(saved["host"])
    return saved["tree"]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
