"""Agents outside the device in the jitted loop: the device holds the number of a slot."""

import contextlib
import functools
import math
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from optix import checks
from optix.base_agent import BaseAgent, EpisodeData, HyperparamSet, Pipeline
from optix.types import Learner, LearnerState, Policy, PyTree, Report


class HostSlot(NamedTuple):
    """What a host agent's policy is on the device: `Policy.extras`."""

    slot: jax.Array  # [] int32 which weights of the `HostStore`


class HostStore:
    """The weights behind the slots of a host agent's policies: `Learner.host`.

    Weights never change once they have a slot; learning makes a new one. So forks,
    snapshots, rollbacks and seeds that have stopped are copies of integers, and one agent
    object serves any number of lanes and seeds.

    The weights are files in a temporary folder, just as the agent's own `save_weights`
    writes them, so they take no memory. Which slots a running program still names can not
    be seen from inside it: they pile up on disk, one per window and lane, until somebody
    who holds the state between two programs calls `retain`, as the driver does. Slot 0,
    the weights the agent came with, always stays. No number is used twice.

    Attributes:
      agent: the agent; its weights are those of whatever slot was needed last.
      error: the last exception raised in the agent or its environment, or None.
    """

    def __init__(self, agent: BaseAgent, directory: str | None = None):
        self.agent = agent
        self.error: BaseException | None = None
        self._directory = directory
        self._folder = self._new_folder()
        self._lock = threading.RLock()  # several devices may call at once
        self._slots: set[int] = set()
        self._next = 0
        self._held: int | None = None  # the slot whose weights the agent has
        self.scores: dict[int, tuple[Any, float]] = {}  # slot: (seeds, score), the last
        self.save()

    @property
    def slots(self) -> frozenset[int]:
        """The slots there are."""
        return frozenset(self._slots)

    def slots_in(self, tree: PyTree) -> set[int]:
        """Return every slot that a state, or any pytree of states, names.

        Raises:
          ValueError: it names none, so it is not a state of a host agent.
        """
        nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, HostSlot))
        found = [np.ravel(node.slot) for node in nodes if isinstance(node, HostSlot)]
        if not found:
            raise ValueError(
                f"{type(tree).__name__} names no slot of a host agent; pass the state "
                "of a run whose learner is host(...)"
            )
        return {int(slot) for slot in np.concatenate(found)}

    def retain(self, slots: Iterable[int]) -> None:
        """Drop all weights but these and slot 0.

        Raises:
          ValueError: a slot is unknown. Nothing is dropped then.
        """
        with self._lock:
            kept = self._known(slots) | {0}
            for slot in self._slots - kept:
                shutil.rmtree(self._path(slot).parent)
                self.scores.pop(slot, None)
            self._slots = kept

    def export(self, slots: Iterable[int]) -> dict[int, bytes]:
        """Return the files of each slot as a zip archive, for a checkpoint.

        Raises:
          ValueError: a slot is unknown.
        """
        with self._lock:
            return {s: _pack(self._path(s).parent) for s in sorted(self._known(slots))}

    def restore(self, weights: Mapping[int, bytes]) -> None:
        """Hold exactly these slots, from `export`, and slot 0; count on from there.

        Slot 0 stays what it is where `weights` does not name it. States of before that
        name other slots are lost.
        """
        with self._lock:
            folder = self._new_folder()
            weights = {**self.export([0]), **weights}
            for slot, archive in weights.items():
                with zipfile.ZipFile(BytesIO(archive)) as files:
                    files.extractall(Path(folder.name, str(slot)))
            self._folder.cleanup()
            self._folder, self._slots, self._held = folder, set(weights), None
            self._next = max(self._next, max(weights) + 1)
            self.scores.clear()

    def load(self, policy: Policy) -> BaseAgent:
        """Return the agent with the weights of one policy, `state.best.policy` say."""
        (slot,) = self.slots_in(policy)
        with self._lock:
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

    def save(self) -> int:
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

    def _known(self, slots: Iterable[int]) -> set[int]:
        wanted = set(slots)
        if unknown := wanted - self._slots:
            raise ValueError(
                f"slots {sorted(unknown)} hold no weights (there are {len(self._slots)} "
                f"slots, the next is {self._next}): `retain` dropped them, or the state "
                "is from another process and its weights were not restored"
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


def host(
    agent: BaseAgent,
    pipeline: Pipeline,
    *,
    evaluation_episodes: int = 8,
    validation: Pipeline | None = None,
    metrics: Sequence[str] = (),
    directory: str | None = None,
) -> Learner:
    """Return a learner around an agent that lives outside the device.

    One callback per window and one per evaluation. A window loads the weights of its
    policy's slot if the agent has others, sets the hyperparameters, seeds the agent,
    collects, learns and puts the new weights into a new slot. Where an observation, an
    action, a reward or a number that `learn` returns is not finite, the policy keeps the
    old one. A resumed run is as exact as the agent's `save_weights` and `seed` are.

    It runs under jit, vmap and scan, in a process with one local device. An agent that
    itself computes with JAX may block inside a callback.

    Args:
      agent: its float hyperparameters become the learner's, others stay as they are.
      pipeline: collects the windows.
      evaluation_episodes: whole episodes per score.
      validation: plays the evaluations in place of `pipeline`, or scores in another way.
      metrics: which of the numbers that `learn` returns to report, beside
        "window_return" and "window_episodes"; NaN where a window has none of that name.
      directory: where the temporary folder of weights is made, or None for the system's
        place.

    Raises:
      TypeError: `agent` is not a `BaseAgent`.
      ValueError: `evaluation_episodes` is not a positive integer.
    """
    if not isinstance(agent, BaseAgent):
        raise TypeError(
            "agent must derive from optix.base_agent.BaseAgent and define its six "
            f"methods, got {type(agent).__name__}"
        )
    checks.positive_int("evaluation_episodes", evaluation_episodes)
    store = HostStore(agent, directory)
    initial = agent.get_hyperparams().copy()
    tunable = {
        name: float(value)
        for name, value in initial.params.items()
        if isinstance(value, float | np.floating)
    }
    reported = ("window_return", "window_episodes", *metrics)
    train = store.guarded(_trainer(store, pipeline, initial, tuple(tunable), reported))
    play = store.guarded(_player(store, validation or pipeline, evaluation_episodes))
    outcome = (
        HostSlot(jax.ShapeDtypeStruct((), jnp.int32)),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.bool_),
        jax.ShapeDtypeStruct((len(reported),), jnp.float32),
    )

    def init(key):
        del key  # the agent is there already
        return LearnerState(Policy(params=(), extras=HostSlot(jnp.int32(0))))

    def begin(policy, key):
        del policy, key  # every window begins with a fresh episode
        return ()

    def step(state, hyperparams, key, active):
        values = [jnp.asarray(hyperparams[name], jnp.float32) for name in tunable]
        slot, env_steps, finite, numbers = io_callback(
            train,
            outcome,
            state.policy.extras.slot,
            jnp.stack(values) if values else jnp.zeros(0),
            _seeds(key),
            active,
        )
        policy = state.policy._replace(extras=slot)
        report = Report(env_steps, finite, dict(zip(reported, numbers, strict=True)))
        return state._replace(policy=policy), report

    def evaluate(policy, key):
        score = jax.ShapeDtypeStruct((), jnp.float32)
        return io_callback(play, score, policy.extras.slot, _seeds(key))

    return Learner(init, begin, step, evaluate, tunable, store)


def _seeds(key: jax.Array) -> jax.Array:
    """Return the seeds of environment and agent, [2] uint32."""
    return jax.random.bits(key, (2,), jnp.uint32)


def _trainer(
    store: HostStore,
    pipeline: Pipeline,
    initial: HyperparamSet,
    tunable: Sequence[str],
    reported: Sequence[str],
) -> Callable:
    """Return the callback of a window."""

    def train(slot, values, seeds, active):
        slot = int(slot)
        if not active:
            nothing = np.zeros(len(reported), np.float32)
            return HostSlot(np.int32(slot)), np.int32(0), np.True_, nothing
        given = dict(zip(tunable, np.asarray(values).tolist(), strict=True))
        env_seed, agent_seed = np.asarray(seeds).tolist()
        store.hold(slot)
        store.agent.set_hyperparams(HyperparamSet({**initial.params, **given}))
        store.agent.seed(agent_seed)
        data = pipeline.collect(store.agent, env_seed)
        numbers, finite = {}, _finite(data)
        if finite:
            store.release()
            numbers = _numbers(store.agent.learn(data))
            finite = all(map(math.isfinite, numbers.values()))
        episodes = data.rewards[0].size + data.dones[:-1].sum()
        numbers["window_return"] = data.total_reward / episodes
        numbers["window_episodes"] = episodes
        row = [numbers.get(name, math.nan) for name in reported]
        return (
            HostSlot(np.int32(store.save() if finite else slot)),
            np.int32(data.length),
            np.bool_(finite),
            np.asarray(row, np.float32),
        )

    return train


def _player(store: HostStore, pipeline: Pipeline, episodes: int) -> Callable:
    """Return the callback of an evaluation."""

    def play(slot, seeds):
        slot, seeds = int(slot), np.asarray(seeds).tolist()
        # a stopped seed asks for the same score in every round of the others
        if store.scores.get(slot, (None,))[0] != seeds:
            env_seed, agent_seed = seeds
            store.hold(slot)
            store.agent.seed(agent_seed)
            score = float(pipeline.evaluate(store.agent, env_seed, episodes))
            store.scores[slot] = seeds, score
        return np.float32(store.scores[slot][1])

    return play


def _finite(data: EpisodeData) -> bool:
    """Return whether observations, actions and rewards are finite."""
    leaves = jax.tree.leaves(
        (data.observations, data.actions, data.rewards, data.next_observations)
    )
    floats = [x for x in leaves if np.issubdtype(x.dtype, np.floating)]
    return all(np.isfinite(leaf).all() for leaf in floats)


def _numbers(info: Any) -> dict[str, float]:
    """Return what is a number in what `learn` returned."""
    if not isinstance(info, Mapping):
        raise TypeError(
            f"learn must return {{name: number}}, got {type(info).__name__}; return {{}} "
            "if there is nothing to tell"
        )
    numbers = {}
    for name, value in info.items():
        with contextlib.suppress(TypeError, ValueError):
            numbers[name] = float(value)
    return numbers
