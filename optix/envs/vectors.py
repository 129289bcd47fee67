"""Gymnasium environments side by side: one call steps them all.

An environment that ends is begun anew in the same step, and what it showed at its end is
kept apart: `final`. Observations come in arrays that the next call writes into again.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from optix import checks
from optix.envs.kinds import is_a
from optix.envs.shown import Shown
from optix.types import PyTree


class Stepped(NamedTuple):
    """What a step of B environments gave; observations are rows of `Shown`."""

    obs: PyTree  # [B, ...] to act on next: of a fresh episode after an end
    reward: np.ndarray  # [B] float32
    terminated: np.ndarray  # [B] bool
    truncated: np.ndarray  # [B] bool
    final: PyTree  # [B, ...] before any reset


class Vector(Protocol):
    """B environments."""

    def reset(self, seed: int) -> PyTree:
        """Begin an episode in each and return the observations [B, ...]."""
        ...

    def step(self, actions: np.ndarray, replace: bool) -> Stepped:
        """Step each; without `replace` one that has ended need not go on."""
        ...

    def picture(self) -> Any:
        """Return what the first one looks like, None where only its observation tells."""
        ...

    def close(self) -> None:
        """Free them."""
        ...


class Stage(NamedTuple):
    """One environment that can be seen."""

    vector: Vector
    encode: Callable[[Any], Any]  # (observations [B, ...]) -> as agents see them


class Rows:
    """Environments of this process, one after another.

    Less is done for a step than `gymnasium.vector.SyncVectorEnv` does: observations are
    written once, into an array of the type that the device takes, nothing is merged of
    what `info` tells, and in an evaluation nobody steps what has ended.
    """

    def __init__(self, shown: Shown, envs: Sequence[Any], actions: Any):
        """Take the environments; the space is of the actions of each."""
        self._name, self._envs, self._shown = shown.name, envs, shown
        # None where actions are numbers
        self._actions = None if is_a(actions, "Discrete") else actions.dtype
        count = len(envs)
        self._obs, self._final = shown.zeros(count), shown.zeros(count)
        self._reward = np.zeros(count, np.float32)
        self._ended = np.zeros((2, count), bool)
        self._running = list(range(count))

    def reset(self, seed: int) -> PyTree:
        """Begin an episode in each, with seeds that count up from `seed`."""
        self._running = list(range(len(self._envs)))
        for i, env in enumerate(self._envs):
            self._begin(i, env.reset(seed=seed + i))
        return self._obs

    def step(self, actions: np.ndarray, replace: bool) -> Stepped:
        """Step each; without `replace` one that has ended is left alone."""
        if self._actions is None:
            each = actions.tolist()
        else:  # a copy: an environment may keep its action, and write into it
            each = list(np.array(actions, self._actions))
        ended = self._ended
        ended[:] = False
        over = []
        for i in self._running:
            result = self._envs[i].step(each[i])
            try:
                obs, reward, terminated, truncated, info = result
                self._reward[i] = float(reward)
                terminated, truncated = _flag(terminated), _flag(truncated)
            except (TypeError, ValueError) as error:
                raise self._wrong("step", result) from error
            over_now = terminated or truncated
            self._shown.write(self._obs, i, obs, info, over_now)
            if over_now:
                ended[:, i] = terminated, truncated
                over.append(i)
        final = self._obs
        if over:
            final = self._final
            jax.tree.map(np.copyto, final, self._obs)
            for i in over:
                if replace:
                    self._begin(i, self._envs[i].reset())
                else:
                    self._running.remove(i)
        return Stepped(self._obs, self._reward, ended[0], ended[1], final)

    def picture(self) -> Any:
        """Return what the first one renders.

        Raises:
          ValueError: it was not made to.
        """
        env = self._envs[0]
        if env.render_mode != "rgb_array":
            raise checks.OptionError(
                f"{self._name} must have render_mode='rgb_array' to be seen, got "
                f"{env.render_mode!r}; make it so in the function that makes it"
            )
        return env.render()

    def close(self) -> None:
        """Close each, whatever another one raises."""
        with contextlib.ExitStack() as closing:
            for env in self._envs:
                closing.callback(env.close)

    def _begin(self, i: int, result: Any) -> None:
        """Write what a reset gave where the device reads it."""
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._wrong("reset", result)
        self._shown.write(self._obs, i, *result, False)

    def _wrong(self, function: str, result: Any) -> ValueError:
        forms = {
            "reset": "(observation, info)",
            "step": "(observation, reward: number, terminated: bool, truncated: bool, "
            "info)",
        }
        return ValueError(
            f"{function} of {self._name} must return {forms[function]}, got {result!r}; "
            "mend the environment or its wrapper"
        )


def _flag(value: Any) -> bool:
    """Return a flag, or raise ValueError: to Python almost anything is one."""
    if type(value) in (bool, np.bool_) or (
        np.shape(value) == () and np.asarray(value).dtype.kind in "biu"
    ):
        return bool(value)
    raise ValueError(f"{value!r} is no flag")


class SameStep:
    """A vector environment of Gymnasium that begins an ended episode in the same step."""

    def __init__(self, name: str, envs: Any, masked: bool = False):
        """Take it; `masked` says whether it tells which actions are allowed.

        Raises:
          ValueError: it is none, or begins an ended episode one step late.
        """
        import gymnasium
        from gymnasium.vector import AutoresetMode

        if not isinstance(envs, gymnasium.vector.VectorEnv):
            raise checks.OptionError(
                f"vector of {name} must make a gymnasium.vector.VectorEnv, got a "
                f"{type(envs).__name__}"
            )
        mode = autoreset_mode(envs)
        if mode != AutoresetMode.SAME_STEP:
            envs.close()
            raise checks.OptionError(
                f"the vector environment of {name} must have "
                f"autoreset_mode=AutoresetMode.SAME_STEP, got {mode}, whose steps after "
                "an end are none; make it so, as in gymnasium.make_vec(name, "
                "vectorization_mode='sync', vector_kwargs={'autoreset_mode': "
                "AutoresetMode.SAME_STEP})"
            )
        self.envs, self._name = envs, name
        spaces = envs.single_observation_space, envs.single_action_space
        try:
            self._shown = Shown(name, *spaces, masked)
        except ValueError:
            envs.close()
            raise
        self._actions = envs.single_action_space.dtype

    def reset(self, seed: int) -> PyTree:
        """Begin an episode in each, with seeds made of `seed`."""
        obs, info = self._called(self.envs.reset, seed=seed)
        return self._shown.batch(obs, info, np.zeros(self.envs.num_envs, bool))

    def step(self, actions: np.ndarray, replace: bool) -> Stepped:
        """Step each; all go on, `replace` or not."""
        del replace
        obs, reward, terminated, truncated, info = self._called(
            self.envs.step, np.array(actions, self._actions)
        )
        rows = self._shown.batch(obs, info, np.zeros(len(terminated), bool))
        final, ended = rows, np.asarray(terminated | truncated)
        if ended.any():
            final = jax.tree.map(np.copy, rows)
            for i in np.flatnonzero(ended).tolist():
                self._shown.final(final, i, info)
        return Stepped(
            rows, np.asarray(reward, np.float32), terminated, truncated, final
        )

    def picture(self) -> None:
        """Return None: its environments are not here."""

    def close(self) -> None:
        """Close it."""
        close_vector(self.envs)

    @property
    def _processes(self) -> Sequence[Any]:
        return getattr(self.envs.unwrapped, "processes", ())

    def _called(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (EOFError, ConnectionError) as error:
            if not self._processes:
                raise
            for process in self._processes:  # its end is known before its code
                process.join(1.0 / len(self._processes))
            codes = [process.exitcode for process in self._processes]
            raise RuntimeError(
                f"a process of the {len(codes)} that {self._name} runs in has ended, "
                f"exit codes {codes}; what it printed says why, and without async_envs "
                "its exception arrives here"
            ) from error


def autoreset_mode(envs: Any) -> Any:
    """Return when a vector of Gymnasium resets an environment whose episode has ended."""
    # of several vectors the last one made writes into the metadata that they share
    known = envs.metadata.get("autoreset_mode")
    return getattr(envs.unwrapped, "autoreset_mode", known)


def close_vector(envs: Any) -> None:
    """Close a vector of Gymnasium, also one whose processes have died.

    What is waited for there would never come, so then they are ended.
    """
    from gymnasium.vector import AsyncVectorEnv

    base = envs.unwrapped
    if not isinstance(base, AsyncVectorEnv):
        envs.close()
        return
    idle = base._state.value == "default"
    if not base.closed and idle and all(p.is_alive() for p in base.processes):
        with contextlib.suppress(EOFError, OSError):
            envs.close()
    if not base.closed:
        for process in base.processes:
            process.kill()
            process.join()
        base.closed = True
