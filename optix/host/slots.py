"""The host's part of a run: weights by slot, replays by run, environments by stream."""

import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.host.agent import BaseAgent, Pipeline
from optix.host.memories import Memories, Run, name_of
from optix.host.snapshots import snapshots
from optix.host.streams import Stream, Streams
from optix.types import LoopState, Policy, PyTree, StopReason


class HostSlot(NamedTuple):
    """What a host agent's policy is on the device: `Policy.extras`."""

    slot: jax.Array  # [] int32 which weights of the `HostStore`


class HostStore:
    """What the states of a host learner name: `Learner.host`.

    Weights never change once they have a slot; learning makes a new one. So forks,
    snapshots, rollbacks and stopped seeds are copies of integers, and one agent object
    serves any number of lanes and seeds.

    An agent with `state` and `restore` is kept in memory, any other in a temporary
    folder, by the files that its own `save_weights` writes. Which slots a running program
    still names can not be seen from inside it: they pile up, one per window and lane,
    until somebody who holds the state between two programs calls `keep`, as `optix.train`
    does. Slot 0, the weights the agent came with, always stays. Numbers are used once.

    Attributes:
      pipeline: where it plays.
      agent: the agent; its weights are those of whatever slot was needed last.
      error: the last exception raised in the agent or its environment, or None.
      memories: a replay for each run, where the agent makes one.
      streams: the copies of the environments, with the episodes under way.
      masked: whether windows told which actions are allowed, None before the first.
    """

    def __init__(
        self,
        agent: BaseAgent,
        pipeline: Pipeline,
        directory: str | None = None,
        copies: int = 8,
    ):
        """Give the agent's present weights slot 0."""
        self.agent, self.pipeline = agent, pipeline
        self.error: BaseException | None = None
        self.masked: bool | None = None
        self.memories = Memories(agent)
        self.streams = Streams(pipeline, copies)
        self._snapshots = snapshots(agent, directory)
        self._lock = threading.RLock()  # several devices may call at once
        self._slots: set[int] = set()
        self._next = 0
        self._held: int | None = None  # the slot whose weights the agent has
        self.scores: dict[int, tuple[Any, float]] = {}  # slot: (asked with, score)
        self.new_slot()

    @property
    def slots(self) -> frozenset[int]:
        """The slots there are."""
        return frozenset(self._slots)

    def keep(self, state: PyTree) -> None:
        """Drop all that a state does not name: weights but slot 0, replays, environments.

        Args:
          state: of all seeds, or any tree of states and policies still needed. The
            episodes of a seed that has stopped are not.

        Raises:
          ValueError: it names no slot, or one without weights. Nothing is dropped then.
        """
        with self._lock:
            kept = self._named(state) | {0}
            for slot in self._slots - kept:
                self._snapshots.drop(slot)
                self.scores.pop(slot, None)
            self._slots = kept
            self.memories.keep(_runs(state))
            self.streams.keep(_streams(state))

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return what a tree names, {name: [n] uint8}.

        Of weights and replays these are zip archives. The environments can not be saved:
        only the numbers of their streams are.

        It waits for nobody, not even for an environment that hangs in a callback.

        Raises:
          ValueError: it names no slot, or one without weights.
        """
        kind = self._snapshots.kind
        saved = {"agent": type(self.agent).__name__.encode()}
        for slot in sorted(self._named(tree)):
            saved[f"{kind}/{slot}"] = self._snapshots.pack(slot)
        for run in sorted(set(_runs(tree))):
            if (archive := self.memories.pack(run)) is not None:
                saved[f"memory/{run}"] = archive
        if self.masked is not None:
            saved["masked"] = bytes([self.masked])
        if numbers := set(_streams(tree)) - {0}:
            saved["streams"] = np.array(sorted(numbers), "<i8").tobytes()
        return {name: np.frombuffer(data, np.uint8) for name, data in saved.items()}

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Add what `save` returned: slots under their numbers; new ones count on.

        No slot ever changes its weights, so states of before stay what they are. Only
        before anything has been learned a checkpoint may bring a slot 0 of its own. A
        resumed run learns what an uninterrupted one would, but the slots that it adds
        may have other numbers. Where episodes were under way in another process, it
        begins fresh ones, and a warning says so.

        Raises:
          ValueError: it is of another agent, or of another run: a slot has other weights
            here.
        """
        saved = {name: np.asarray(array).tobytes() for name, array in arrays.items()}
        with self._lock:
            self._check_agent(saved.pop("agent", b"nobody").decode())
            numbers = np.frombuffer(saved.pop("streams", b""), "<i8").tolist()
            if flag := saved.pop("masked", b""):
                self.masked = bool(flag[0])
            weights = {}
            for name, archive in saved.items():
                kind, _, number = name.partition("/")
                if kind == "memory":
                    self.memories.unpack(number, archive)
                elif kind == self._snapshots.kind:
                    weights[int(number)] = archive
                else:
                    raise ValueError(
                        f"the checkpoint keeps the weights as {kind}, but "
                        f"{type(self.agent).__name__} keeps them as "
                        f"{self._snapshots.kind} here; use the agent that wrote it, with "
                        "its state and restore if it had them"
                    )
            self._load_slots(weights)
            if not self.streams.adopt(numbers):
                warnings.warn(
                    "the episodes that were under way can not be resumed: the run goes "
                    "on with fresh ones, not bit for bit as without the pause; "
                    "host(..., fresh=True) makes runs whose resume is exact",
                    RuntimeWarning,
                    stacklevel=2,
                )

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
            self._snapshots.restore(slot)
            self._held = slot

    def release(self) -> None:
        """Say that the agent's weights are no longer those of a slot."""
        self._held = None

    def new_slot(self) -> int:
        """Return a new slot for the weights that the agent has now."""
        slot, self._next = self._next, self._next + 1
        self._snapshots.save(slot)
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

    def _check_agent(self, name: str) -> None:
        if name != type(self.agent).__name__:
            raise ValueError(
                f"the checkpoint is of a run whose agent is a {name}, this one is a "
                f"{type(self.agent).__name__}; make the loop with the agent of the run"
            )

    def _load_slots(self, weights: Mapping[int, bytes]) -> None:
        untouched = self._next == 1
        for slot, archive in weights.items():
            if slot in self._slots:
                if archive == self._snapshots.pack(slot):
                    continue
                if not untouched:
                    raise ValueError(
                        f"slot {slot} has other weights here, of another run; load "
                        "into a learner made anew by host(...)"
                    )
                self.scores.clear()
                self.release()
            self._snapshots.unpack(slot, archive)
            self._slots.add(slot)
        self._next = max([self._next, *(slot + 1 for slot in weights)])
        if weights:
            self._try_on(min(weights))  # the others are of the same agent

    def _try_on(self, slot: int) -> None:
        """Raise if the agent can not take the weights of a slot that was loaded."""
        self.release()
        try:
            self._snapshots.try_on(slot)
        except Exception as error:
            raise ValueError(
                f"{type(self.agent).__name__} can not take the weights of the "
                f"checkpoint ({error}); make the loop with the agent of the run"
            ) from error
        self._held = slot

    def _named(self, tree: PyTree) -> set[int]:
        """Return every slot that a state, or any pytree of states, names."""
        found = _nodes(tree, HostSlot)
        if not found:
            raise ValueError(
                f"{type(tree).__name__} names no slot of a host agent; pass the state "
                "of a run whose learner is host(...)"
            )
        slots = np.concatenate([np.ravel(node.slot) for node in found])
        return self._known(map(int, slots))

    def _known(self, slots: Iterable[int]) -> set[int]:
        wanted = set(slots)
        if unknown := wanted - self._slots:
            raise ValueError(
                f"slots {sorted(unknown)} hold no weights (of {self._next} ever made "
                f"{len(self._slots)} are left): `keep` dropped them, or the state is "
                "from another process and `load` was not called"
            )
        return wanted


def _nodes(tree: PyTree, kind: type) -> list[Any]:
    """Return the records of a kind in a tree."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [node for node in nodes if isinstance(node, kind)]


def _runs(tree: PyTree) -> list[str]:
    """Return the names of the runs whose replay a tree names."""
    rows = [np.reshape(node.bits, (-1, 2)) for node in _nodes(tree, Run)]
    return [name_of(bits) for row in rows for bits in row]


def _streams(tree: PyTree) -> list[int]:
    """Return the streams that a tree names, of seeds that go on."""
    is_state = {"is_leaf": lambda node: isinstance(node, LoopState)}
    numbers = []
    for part in jax.tree.leaves(tree, **is_state):
        if isinstance(part, LoopState):
            active = np.asarray(part.stop_reason) == StopReason.RUNNING
            for node in _nodes(part.learner, Stream):
                number = np.asarray(node.number)  # [..., L]
                numbers += number[active].ravel().tolist()
    return numbers + [
        int(number)
        for node in _nodes(jax.tree.map(_without_loop, tree, **is_state), Stream)
        for number in np.ravel(node.number)
    ]


def _without_loop(part: Any) -> Any:
    return None if isinstance(part, LoopState) else part
