"""The host's side of a host agent: weights by slot."""

import functools
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.host.agent import BaseAgent
from optix.types import Policy, PyTree


class HostSlot(NamedTuple):
    """What a host agent's policy is on the device: `Policy.extras`."""

    slot: jax.Array  # [] int32 which weights of the `HostStore`


class HostStore:
    """The weights behind the slots of a host agent's policies: `Learner.host`.

    Weights never change once they have a slot; learning makes a new one. So forks,
    snapshots, rollbacks and stopped seeds are copies of integers, and one agent object
    serves any number of lanes and seeds.

    The weights are files in a temporary folder, just as the agent's own `save_weights`
    writes them, so they take no memory. Which slots a running program still names can
    not be seen from inside it: they pile up on disk, one per window and lane, until
    somebody who holds the state between two programs calls `keep`, as `optix.train`
    does. Slot 0, the weights the agent came with, always stays. Numbers are used once.

    Attributes:
      agent: the agent; its weights are those of whatever slot was needed last.
      error: the last exception raised in the agent or its environment, or None.
    """

    def __init__(self, agent: BaseAgent, directory: str | None = None):
        """Give the agent's present weights slot 0."""
        self.agent = agent
        self.error: BaseException | None = None
        self._directory = directory
        self._folder = self._new_folder()
        self._lock = threading.RLock()  # several devices may call at once
        self._slots: set[int] = set()
        self._next = 0
        self._held: int | None = None  # the slot whose weights the agent has
        self.scores: dict[int, tuple[Any, float]] = {}  # slot: (seeds, score), the last
        self.new_slot()

    @property
    def slots(self) -> frozenset[int]:
        """The slots there are."""
        return frozenset(self._slots)

    def keep(self, state: PyTree) -> None:
        """Drop all weights that a state does not name, but slot 0.

        Args:
          state: of all seeds, or any tree of states and policies still needed.

        Raises:
          ValueError: it names no slot, or one without weights. Nothing is dropped then.
        """
        with self._lock:
            kept = self._named(state) | {0}
            for slot in self._slots - kept:
                shutil.rmtree(self._path(slot).parent)
                self.scores.pop(slot, None)
            self._slots = kept

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return the weights that a tree names, {slot: [n] uint8 of a zip archive}.

        It waits for nobody, not even for an environment that hangs in a callback.

        Raises:
          ValueError: it names no slot, or one without weights.
        """
        return {
            str(slot): np.frombuffer(_pack(self._path(slot).parent), np.uint8)
            for slot in sorted(self._named(tree))
        }

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Add slots from `save`, under their numbers; new ones count on from there.

        No slot ever changes its weights, so states of before stay what they are. Only
        before anything has been learned a checkpoint may bring a slot 0 of its own. A
        resumed run learns what an uninterrupted one would, but the slots that it adds
        may have other numbers.

        Raises:
          ValueError: a slot has other weights here.
        """
        with self._lock:
            untouched = self._next == 1
            weights = {int(slot): np.asarray(a).tobytes() for slot, a in arrays.items()}
            for slot, archive in weights.items():
                folder = self._path(slot).parent
                if slot in self._slots:
                    if archive == _pack(folder):
                        continue
                    if not untouched:
                        raise ValueError(
                            f"slot {slot} has other weights here, of another run; load "
                            "into a learner made anew by host(...)"
                        )
                    self.scores.clear()
                    self.release()
                with zipfile.ZipFile(BytesIO(archive)) as files:
                    shutil.rmtree(folder, ignore_errors=True)
                    files.extractall(folder)
                self._slots.add(slot)
            self._next = max([self._next, *(slot + 1 for slot in weights)])

    def agent_of(self, policy: Policy) -> BaseAgent:
        """Return the agent with the weights of one policy, `state.best.policy` say."""
        with self._lock:
            (slot,) = self._named(policy)
            self.hold(slot)
        return self.agent

    def raise_if_failed(self) -> None:
        """Raise the agent's own exception, once.

        A jitted program raises only `jax.errors.JaxRuntimeError` in its place.
        """
        error, self.error = self.error, None
        if error is not None:
            raise error

    def hold(self, slot: int) -> None:
        """Let the agent have the weights of a slot."""
        self._known([slot])
        if self._held != slot:
            self.release()
            self.agent.load_weights(str(self._path(slot)))
            self._held = slot

    def release(self) -> None:
        """Say that the agent's weights are no longer those of a slot."""
        self._held = None

    def new_slot(self) -> int:
        """Return a new slot for the weights that the agent has now."""
        slot, self._next = self._next, self._next + 1
        path = self._path(slot)
        path.parent.mkdir()
        self.agent.save_weights(str(path))
        if not any(file.is_file() for file in path.parent.rglob("*")):
            raise FileNotFoundError(
                f"{type(self.agent).__name__}.save_weights(path) must write a file at "
                "path, files whose names begin with it, or a folder; it wrote nothing"
            )
        self._slots.add(slot)
        self._held = slot
        return slot

    def guarded(self, function: Callable) -> Callable:
        """Return the function as a callback: one at a time, its exception kept."""

        @functools.wraps(function)
        def call(*args):
            with self._lock:
                try:
                    return function(*args)
                except BaseException as error:
                    self.error = error
                    self.release()
                    raise

        return call

    def _named(self, tree: PyTree) -> set[int]:
        """Return every slot that a state, or any pytree of states, names."""
        nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, HostSlot))
        found = [np.ravel(node.slot) for node in nodes if isinstance(node, HostSlot)]
        if not found:
            raise ValueError(
                f"{type(tree).__name__} names no slot of a host agent; pass the state "
                "of a run whose learner is host(...)"
            )
        return self._known(int(slot) for slot in np.concatenate(found))

    def _known(self, slots: Iterable[int]) -> set[int]:
        wanted = set(slots)
        if unknown := wanted - self._slots:
            raise ValueError(
                f"slots {sorted(unknown)} hold no weights (of {self._next} ever made "
                f"{len(self._slots)} are left): `keep` dropped them, or the state is "
                "from another process and `load` was not called"
            )
        return wanted

    def _path(self, slot: int) -> Path:
        """What the agent takes for a file name, in a folder of its own."""
        return Path(self._folder.name, str(slot), "weights")

    def _new_folder(self) -> tempfile.TemporaryDirectory:
        return tempfile.TemporaryDirectory(prefix="optix-", dir=self._directory)


def _pack(folder: Path) -> bytes:
    """Return a zip archive of a folder; the same files give the same bytes."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                files.writestr(zipfile.ZipInfo(name), file.read_bytes())
    return archive.getvalue()
