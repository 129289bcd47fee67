"""An actor: environments side by side and the agent that acts in them."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.envs.actions import action_decoder
from optix.envs.source import Source
from optix.envs.vectors import Vector
from optix.trees import select_rows
from optix.types import Agent, PyTree


def versions() -> tuple[str, str]:
    """Return the versions of optix and JAX that are here."""
    try:
        return metadata.version("tensor-optix-jax"), jax.__version__
    except metadata.PackageNotFoundError:  # run from its source
        return "source", jax.__version__


class Play(NamedTuple):
    """What an actor plays; sent to each.

    version: of optix and JAX, which must be the same everywhere.
    """

    agent: Agent
    source: Source
    num_envs: int
    num_steps: int
    deterministic: bool
    version: tuple[str, str]


class Rollout(NamedTuple):
    """A part of a window, [T, B, ...] of NumPy arrays; observations as they came."""

    obs: Any  # [T, B, ...]
    action: PyTree
    reward: Any  # [T, B] float32
    terminated: Any  # [T, B] bool
    truncated: Any  # [T, B] bool
    next_obs: Any  # [T, B, ...]
    extras: dict[str, Any]


class _Place(NamedTuple):
    """Where the episodes of one stream stand."""

    vector: Vector
    obs: PyTree
    carry: PyTree
    ended: np.ndarray  # [B] bool, in the last step
    discounted: np.ndarray  # [B] float32
    undiscounted: np.ndarray  # [B] float32
    key: jax.Array
    step: int


class Actor:
    """Plays windows and evaluations; one job at a time."""

    def __init__(self, play: Play, index: int, generation: int):
        """Make it; `generation` counts those before it that have failed."""
        if versions() != play.version:
            raise RuntimeError(
                f"actor {index} has optix and jax {versions()}, the learner "
                f"{play.version}; install the same versions on all machines"
            )
        self._play, self._index, self._generation = play, index, generation
        self._device = jax.local_devices(backend="cpu")[0]
        self._places: dict[int, _Place] = {}
        self._act = {explore: _acting(play, explore) for explore in (True, False)}

    def rollout(
        self, stream: int, live: tuple[int, ...], seed: int, shared: PyTree
    ) -> Rollout:
        """Play a part of a window of a stream, with fresh episodes if it has none here.

        Args:
          stream: whose.
          live: those that still go on; others are closed.
          seed: of fresh episodes.
          shared: (policy, hyperparams).
        """
        for other in set(self._places) - {*live, stream}:
            self._places.pop(other).vector.close()
        with jax.default_device(self._device):
            # what fails leaves nothing behind that is in the middle of a step
            place = self._places.pop(stream, None) or self._open(seed)
            with _closed_if_it_fails(place.vector):
                place, rollout = self._window(place, *self._placed(shared))
        self._places[stream] = place
        return rollout

    def evaluate(self, seed: int, episodes: int, shared: PyTree) -> np.ndarray:
        """Return the returns [episodes] of whole episodes."""
        play, (policy, hyperparams) = self._play, self._placed(shared)
        act = self._act[not play.deterministic]
        vector = play.source.open(episodes)
        try:
            with jax.default_device(self._device):
                key, carry = jax.random.key(seed), play.agent.initial_carry(episodes)
                obs = vector.reset(seed)
                total, alive = np.zeros(episodes, np.float32), np.ones(episodes, bool)
                none = np.zeros(episodes, bool)
                for step in range(play.source.time_limit):
                    carry, _, action, _ = act(
                        policy, carry, none, obs, hyperparams, key, step
                    )
                    stepped = vector.step(np.asarray(action), False)
                    total += np.where(alive, stepped.reward, 0)
                    alive &= ~(stepped.terminated | stepped.truncated)
                    if not alive.any():
                        break
                    obs = stepped.final
        finally:
            vector.close()
        return total

    def close(self) -> None:
        """Close the environments, as far as they let themselves be."""
        while self._places:
            with contextlib.suppress(Exception):
                self._places.popitem()[1].vector.close()

    def _placed(self, shared: PyTree) -> PyTree:
        """Return it on the device, once for all steps; Ray hands in NumPy arrays."""
        return jax.device_put(shared, self._device)

    def _open(self, seed: int) -> _Place:
        count = self._play.num_envs
        entropy = np.random.SeedSequence([seed, self._index, self._generation])
        own = int(entropy.generate_state(1)[0] >> 2)
        vector = self._play.source.open(count)
        with _closed_if_it_fails(vector):
            obs = jax.tree.map(np.array, vector.reset(own))
        zeros = np.zeros(count, np.float32)
        return _Place(
            vector,
            obs,
            self._play.agent.initial_carry(count),
            np.zeros(count, bool),
            zeros,
            zeros,
            jax.random.key(own),
            0,
        )

    def _window(self, place, policy, hyperparams):
        rows, discount = [], np.float32(hyperparams["discount"])
        vector, obs, carry, ended, discounted, undiscounted, key, step = place
        for _ in range(self._play.num_steps):
            carry, action, decoded, extras = self._act[True](
                policy, carry, ended, obs, hyperparams, key, step
            )
            stepped = vector.step(np.asarray(decoded), True)
            stepped = jax.tree.map(np.array, stepped)  # the next step writes into them
            discounted = stepped.reward + discount * discounted
            undiscounted = stepped.reward + undiscounted
            returns = {
                "discounted_return": discounted,
                "episode_return": undiscounted,
            }
            rows.append(
                Rollout(
                    obs,
                    action,
                    stepped.reward,
                    stepped.terminated,
                    stepped.truncated,
                    stepped.final,
                    {**extras, **returns},
                )
            )
            ended = stepped.terminated | stepped.truncated
            discounted = np.where(ended, np.float32(0), discounted)
            undiscounted = np.where(ended, np.float32(0), undiscounted)
            obs, step = stepped.obs, step + 1
        rollout = jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *rows)
        place = _Place(vector, obs, carry, ended, discounted, undiscounted, key, step)
        return place, rollout


@contextlib.contextmanager
def _closed_if_it_fails(vector: Vector) -> Iterator[None]:
    """Close environments that nobody plays on in, as far as they let themselves be."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            vector.close()
        raise


def _acting(play: Play, explore: bool) -> Callable:
    """Return the compiled choice of actions, carries begun anew where episodes ended."""
    agent, source = play.agent, play.source
    encode = source.shown.encode
    decode = jax.vmap(action_decoder(source.name, source.actions))
    bounded = hasattr(source.actions, "low")

    def act(policy, carry, ended, obs, hyperparams, key, step):
        carry = select_rows(ended, agent.initial_carry(len(ended)), carry)
        key = jax.random.fold_in(key, step)
        carry_after, action, extras = agent.act(
            policy, carry, encode(obs), hyperparams, key, explore
        )
        asked = jax.numpy.nan_to_num(action) if bounded else action
        return carry_after, action, decode(asked), dict(extras)

    return jax.jit(act)


def shapes(play: Play, num_envs: int) -> Rollout:
    """Return the form of a `Rollout` of so many environments."""
    agent, shown, steps = play.agent, play.source.shown, play.num_steps
    of = jax.ShapeDtypeStruct
    obs = shown.form(num_envs)

    def act(key, obs):
        carry, policy = agent.initial_carry(num_envs), agent.init(key)
        asked = agent.act(
            policy, carry, shown.encode(obs), agent.hyperparams, key, True
        )
        return asked[1], dict(asked[2])

    action, extras = jax.eval_shape(act, jax.random.key(0), obs)
    number, flag = (of((num_envs,), kind) for kind in (np.float32, np.bool_))
    extras = {**extras, "discounted_return": number, "episode_return": number}
    row = Rollout(obs, action, number, flag, flag, obs, extras)
    return jax.tree.map(partial(_timed, steps), row)


def _timed(steps: int, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((steps, *leaf.shape), leaf.dtype)


def fault(rollout: Any, expected: Rollout) -> str | None:
    """Return what is wrong with a rollout, None if nothing is."""
    if jax.tree.structure(rollout) != jax.tree.structure(expected):
        return f"a {type(rollout).__name__} in place of the parts of a window"
    paths, _ = jax.tree.flatten_with_path(rollout)
    for (path, leaf), form in zip(paths, jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path)
        if leaf.shape != form.shape:
            return f"{name} of shape {leaf.shape}, expected {form.shape}"
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            return f"NaN or infinity in {name}"
    return None
