"""What an environment gives and takes, checked, and copied at the time.

Environments and agents write into their arrays again, so nothing of theirs is recorded
itself. A result of a wrong form is refused by name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from optix.types import PyTree


class Step(NamedTuple):
    """One transition, in the order of `EpisodeData`."""

    observation: PyTree
    action: PyTree
    reward: float
    terminated: bool
    truncated: bool
    next_observation: PyTree
    info: dict[str, Any]


class Recorder(NamedTuple):
    """Copies of what one Gymnasium environment gives and takes.

    name: of the environment, for messages.
    observations, actions: its spaces, None where it has none.
    """

    name: str
    observations: Any
    actions: Any

    def started(self, result: Any) -> PyTree:
        """Return a copy of the first observation from what `reset` returned."""
        observation, _ = self._unpacked("reset", result, "(observation, info)")
        return self._observation(observation, "of reset")

    def stepped(self, observation: PyTree, action: PyTree, result: Any, n: int) -> Step:
        """Return step `n` of an episode; `observation` and `action` are copies already."""
        form = "(observation, reward, terminated, truncated, info)"
        following, reward, terminated, truncated, info = self._unpacked(
            "step", result, form
        )
        when = f"at step {n}"
        return Step(
            observation,
            action,
            self._number("reward", reward, when),
            self._flag("terminated", terminated, when),
            self._flag("truncated", truncated, when),
            self._observation(following, when),
            _copy_info(info),
        )

    def action(self, action: Any) -> PyTree:
        """Return a copy of an action, which the environment may change."""
        return _copy(self.actions, action)

    def _observation(self, value: Any, when: str) -> PyTree:
        copied = _copy(self.observations, value)
        if not _fits(self.observations, copied):
            shapes = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", copied)
            raise self._wrong(
                "the observation", f"of {self.observations}", shapes, when
            )
        return copied

    def _number(self, field: str, value: Any, when: str) -> float:
        array = np.asarray(value)
        if array.shape or array.dtype.kind not in "biuf":
            raise self._wrong(field, "a number", value, when)
        return float(array)

    def _flag(self, field: str, value: Any, when: str) -> bool:
        array = np.asarray(value)
        if array.shape or array.dtype.kind not in "biu" or array not in (0, 1):
            raise self._wrong(field, "True or False", value, when)
        return bool(array)

    def _unpacked(self, function: str, result: Any, form: str) -> tuple:
        count = form.count(",") + 1
        is_tuple = isinstance(result, tuple)
        if is_tuple and len(result) == count and isinstance(result[-1], Mapping):
            return result
        got = "values" if is_tuple else "no tuple but"
        kinds = result if is_tuple else [result]
        got += f" of the types {', '.join(type(value).__name__ for value in kinds)}"
        raise ValueError(
            f"{function} of {self.name} must return {form}, info a dict, got {got}; "
            "mend the environment or its wrapper"
        )

    def _wrong(self, field: str, rule: str, value: Any, when: str) -> ValueError:
        return ValueError(
            f"{field} of {self.name} must be {rule}, got {value!r} {when}; mend the "
            "environment or its wrapper"
        )


def copy_for_agent(observation: PyTree) -> PyTree:
    """Return a copy of a recorded observation, which the agent may change."""
    return jax.tree.map(np.array, observation)


def _copy(space: Any, value: Any) -> PyTree:
    """Copy a value; what the space holds as one array becomes one."""
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(value, Mapping):
        return {key: _copy(space.spaces.get(key), part) for key, part in value.items()}
    if isinstance(space, gymnasium.spaces.Tuple) and isinstance(value, tuple | list):
        inner = list(space.spaces) + [None] * len(value)
        return tuple(_copy(*pair) for pair in zip(inner, value, strict=False))
    if _is_array(space):
        # a list has no dtype of its own
        dtype = space.dtype if isinstance(value, list | tuple) else None
        return np.array(value, dtype)
    return jax.tree.map(np.array, value)


def _fits(space: Any, copied: PyTree) -> bool:
    """Whether a copy has the structure and the shapes of its space."""
    if isinstance(space, gymnasium.spaces.Dict):
        return (
            isinstance(copied, dict)
            and copied.keys() == space.spaces.keys()
            and all(_fits(inner, copied[key]) for key, inner in space.spaces.items())
        )
    if isinstance(space, gymnasium.spaces.Tuple):
        return (
            isinstance(copied, tuple)
            and len(copied) == len(space.spaces)
            and all(map(_fits, space.spaces, copied))
        )
    if _is_array(space):
        return copied.shape == space.shape and copied.dtype.kind in "biuf"
    return True


def _is_array(space: Any) -> bool:
    kinds = gymnasium.spaces
    return isinstance(
        space, kinds.Box | kinds.Discrete | kinds.MultiBinary | kinds.MultiDiscrete
    )


def _copy_info(value: Any) -> Any:
    """Copy arrays and containers; whatever else an environment tells stays its own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copy_info(inner) for key, inner in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_copy_info(inner) for inner in value)
    return value
