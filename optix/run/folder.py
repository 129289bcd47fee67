"""The folder of a run: what it is, its lock, its checkpoints and its best policies."""

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from optix.callbacks.jsonl import JsonlLog, read_log
from optix.callbacks.members import MembersLog
from optix.callbacks.records import Log
from optix.checkpoints.registry import (
    CheckpointError,
    CheckpointRegistry,
    Snapshot,
)
from optix.files import folder_path
from optix.population.state import PopulationState
from optix.run import description, lock, place
from optix.run.description import RunFolderError
from optix.trees import take
from optix.types import Loop, LoopState, PyTree

_STATES_KEPT, POLICIES_KEPT = 3, 5


class RunFolder:
    """A folder that belongs to one run, locked while it is open for writing.

    run.json        how to rebuild the loop, and the budgets; replaced as a whole
    checkpoints/    the states of all seeds, the latest ones and the latest with a replay
    best/           the best policy over all seeds, the best ones; after the end of the
                    run the one that was reported, until a later session plays on
    result.json     what was reported at the last end of the run
    log.jsonl       one line per round and seed
    members.jsonl   of a population: one line per member that trained, and per decision
    curve.png       the learning curve
    hyperparams.png the hyperparameters, where one has changed

    Made by `create` and `open`; it is a context manager that gives the lock back.
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        """See the class."""
        self.path, self.config = path, config
        self.states = CheckpointRegistry(
            path / "checkpoints", _STATES_KEPT, protect=_has_memory
        )
        kept = config.get("max_snapshots", POLICIES_KEPT)
        self.best = CheckpointRegistry(path / "best", kept, protect=_is_final)
        self.log, self.curve = path / "log.jsonl", path / "curve.png"
        self.members = path / "members.jsonl"
        self.hyperparams = path / "hyperparams.png"
        self.result = path / "result.json"
        self._lock: int | None = None

    @classmethod
    def create(
        cls, directory: str | os.PathLike, config: dict[str, Any]
    ) -> "RunFolder":
        """Return the locked folder of a new run, which can hold checkpoints.

        Raises:
            RunFolderError: it holds a run or something else, or can not be written, or
                what is written there can not be read back.
        """
        path = folder_path("directory", directory)
        config = {"format": description.FORMAT, **config}
        try:
            made = not os.path.lexists(path)
            if made:
                # appears with its description in it, so that no kill comes in between
                fresh = path.with_name(f".optix-{secrets.token_hex(8)}")
                fresh.mkdir(parents=True)
                try:
                    description.write(fresh / place.RUN, config)
                    fresh.rename(path)
                except BaseException:
                    shutil.rmtree(fresh, ignore_errors=True)
                    raise
            elif not path.is_dir():
                raise RunFolderError(f"{path} is a file; choose a folder for the run")
            else:
                place.must_be_empty(path)
            folder = cls(path, config)
            folder._take_lock()
            try:
                if not made:
                    place.must_be_empty(path)  # by now another one may have begun
                    description.write(path / place.RUN, config)
            except BaseException:
                folder.close()
                raise
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise RunFolderError(
                f"can not write to {path} ({error}); choose a folder that you may "
                "write to"
            ) from error
        try:
            place.must_hold_checkpoints(path)
        except BaseException:
            folder._undo(made)
            raise
        return folder

    @classmethod
    def open(cls, directory: str | os.PathLike, write: bool) -> "RunFolder":
        """Return the folder of a run, locked if it is to be written to.

        Raises:
            RunFolderError: it holds no run, or one that is under way, or it is damaged.
        """
        path = folder_path("directory", directory)
        try:
            config = description.read(path / place.RUN)
        except (FileNotFoundError, NotADirectoryError):
            raise RunFolderError(
                f"{path} holds no run of optix; start one with "
                f"`optix train ENV --directory {path}`"
            ) from None
        folder = cls(path, config)
        if write:
            try:
                folder._take_lock()
            except OSError as error:
                raise RunFolderError(
                    f"{path / place.LOCK} can not be locked ({error}); remove it, or "
                    "choose a folder that you may write to"
                ) from error
            try:
                place.must_hold_checkpoints(path)
            except BaseException:
                folder.close()
                raise
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
            lock.release(self._lock)
            self._lock = None

    def configure(self, **changes: Any) -> None:
        """Change what run.json says, atomically."""
        self.config |= changes
        description.write(self.path / place.RUN, self.config)

    def logs(self, state: LoopState, rounds: Sequence[int] | None = None) -> list[Log]:
        """Return the logs of a run; of `rounds` a seed lines are kept, None begins anew.

        Raises:
            OptionError: one of them is a folder.
        """
        logs: list[Log] = [JsonlLog(self.log, rounds)]
        if isinstance(state, PopulationState):
            logs.append(MembersLog(self.members, rounds))
        return logs

    def save(
        self,
        state: LoopState,
        loop: Loop,
        leader: int,
        memory: bool = True,
        checksums: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Write a checkpoint, and the best policy of seed `leader` if it is a new one.

        Without `memory` the replay is left out, and the checkpoint says so. It holds the
        `checksums` [S, D] of several devices.

        Raises:
            CheckpointError: the folder can not be written to.
        """
        rounds = np.asarray(state.round)
        step = int(rounds.sum())
        about = {"environment": self.config["environment"], "rounds": rounds.tolist()}
        if checksums is not None:
            about["checksums"] = checksums
        kept = state if memory else without_memory(state)
        tree, metadata = _with_host(kept, loop, about | {"memory": memory})
        self.states.save(step, tree, metadata=metadata)
        self.save_best(state, loop, leader)

    def save_best(
        self, state: LoopState, loop: Loop, leader: int, final: bool = False
    ) -> None:
        """Write the best policy of seed `leader` if it is a new one.

        The `final` one is that of a finished state: it is what the run reports.

        Raises:
            CheckpointError: the folder can not be written to.
        """
        score = float(state.best.score[leader])
        found = {"seed": leader, "round": int(state.best.round[leader]), "final": final}
        known = any(
            snapshot.score == score and found.items() <= snapshot.metadata.items()
            for snapshot in self.best.snapshots()
        )
        # the final one is written again whatever is there: that may be damaged
        if np.isfinite(score) and (final or not known):
            rounds = np.asarray(state.round)
            about = {
                "environment": self.config["environment"],
                "rounds": rounds.tolist(),
            }
            tree, metadata = _with_host(take(state.best, leader), loop, about | found)
            step = int(rounds.sum())
            reported = {s.step for s in self.best.snapshots() if _is_final(s)}
            if not final and step in reported:
                return  # nothing but the next report takes the place of a reported one
            while self.best.is_foreign(step):  # it is intact, if not for this version
                step += 1
            self.best.save(step, tree, score, metadata)

    def load_state(self, target: PyTree, loop: Loop) -> LoopState | None:
        """Return the latest intact state; None if there has been no checkpoint yet.

        Its memory is () if that checkpoint was saved without. The latest is preferred to
        an earlier one with its memory: experience is gathered again sooner than skill.
        Later snapshots, which are damaged, are removed: the run goes on from before.

        Raises:
            RunFolderError: rounds were played, but there is no checkpoint left.
            CheckpointError: none is intact, or one of another configuration.
        """
        if self.log.is_dir():
            raise RunFolderError(
                f"{self.log} is a folder, not a log; move it out of the way"
            )
        faults = self.best.faults()
        if not self.states.steps():
            self._must_be_new()
            return None
        tree, snapshot = self.states.load_latest(self._target(target))
        for fault in faults:
            warnings.warn(f"{fault}; the run goes on without it", stacklevel=3)
        self.states.discard_after(snapshot.step)
        return _without_host(tree, loop)

    def load_best(self, target: PyTree, loop: Loop) -> tuple[PyTree, Snapshot]:
        """Return the policy that the run reported, and its snapshot.

        If it has not ended, that is the `Best` with the highest score over all seeds.
        """
        prefer = self._reported()
        tree, snapshot = self.best.load_best(self._target(target), prefer=prefer)
        return _without_host(tree, loop), snapshot

    def load_ensemble(
        self, target: PyTree, loop: Loop, top_k: int, score_band: float
    ) -> list[tuple[PyTree, Snapshot]]:
        """Return the best policies, each once, as `CheckpointRegistry.load_ensemble`.

        The first is that of `load_best`.
        """
        found = self.best.load_ensemble(
            self._target(target),
            top_k,
            score_band,
            prefer=self._reported(),
            # the one that was reported may have been found before
            same=lambda tree, s: _bits(tree["tree"].policy.params),
        )
        return [(_without_host(tree, loop), snapshot) for tree, snapshot in found]

    def _reported(self) -> Callable[[Snapshot], bool]:
        """Return what tells the policy that the run reported.

        Raises:
            RunFolderError: there is no policy at all.
        """
        if not self.best.steps():
            if self._has_scores():
                raise RunFolderError(
                    f"{self.best.directory} holds no policy, although {self.log} shows "
                    f"scores; `optix resume {self.path}` writes it anew, or restore it "
                    "from a copy"
                )
            raise RunFolderError(
                f"{self.path} has no policy with a finite score yet; let it train first"
            )
        last = 0
        with contextlib.suppress(CheckpointError):  # only the best is asked for
            last = max(self.states.steps(), default=0)
        finals = [s.step for s in self.best.snapshots() if _is_final(s)]
        # later ones are of rounds that were lost and played again
        reported = min((s for s in finals if s >= last), default=None)
        if not last:  # no checkpoint tells
            reported = max(finals, default=None)
        return lambda snapshot: snapshot.step == reported

    def _has_scores(self) -> bool:
        try:
            return any(
                record["best_score"] is not None for record in read_log(self.log)
            )
        except OSError:
            return False

    def _must_be_new(self) -> None:
        """Raise if there were rounds: whoever starts anew would lose what is left."""
        left = [
            path
            for path in (self.log, self.best.directory, self.result)
            if path.exists() and (any(path.iterdir()) if path.is_dir() else _size(path))
        ]
        if left:
            raise RunFolderError(
                f"{self.states.directory} holds no checkpoint, although "
                f"{left[0].name} shows that rounds were played; restore it from a copy, "
                "or start a new run in another folder"
            )

    def _undo(self, made: bool) -> None:
        """Remove what `create` has made."""
        self.close()
        with contextlib.suppress(OSError):
            for name in (place.RUN, place.LOCK):
                (self.path / name).unlink(missing_ok=True)
            if made:
                self.path.rmdir()

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
        self._lock = lock.take(self.path / place.LOCK, self.path)


def _bits(tree: PyTree) -> tuple[bytes, ...]:
    return tuple(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))


def without_memory(state: LoopState) -> LoopState:
    """Return the state without its replay."""
    return state._replace(learner=state.learner._replace(memory=()))


def _has_memory(snapshot: Snapshot) -> bool:
    return snapshot.metadata.get("memory", True)


def _is_final(snapshot: Snapshot) -> bool:
    """Return whether it is the policy that a run reported at its end."""
    return snapshot.metadata.get("final", False)


def _size(path: Path) -> int:
    return path.stat().st_size


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
