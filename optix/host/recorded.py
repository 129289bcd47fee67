"""What an environment gives and takes, checked, and copied at the time.

Environments and agents write into their arrays again, so nothing of theirs is recorded
itself. A result of a wrong form is refused by name.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

from optix.envs.actions import action_space
from optix.envs.kinds import holds, is_a
from optix.envs.telling import ToldMasks, has_masks, holds_masks, told
from optix.types import Masked, Numbered, PyTree


class Stepped(NamedTuple):
    """What a step gave; of a vector environment every field has an axis [B] in front."""

    observation: PyTree
    reward: Any  # a float, or [B] float64
    terminated: Any  # a bool, or [B] bool
    truncated: Any
    info: dict[str, Any]


class Recorder(NamedTuple):
    """Copies of what a Gymnasium environment gives and takes.

    Where the environment tells which actions are allowed, and someone reads it,
    observations are `Masked`.

    name: of the environment, for messages.
    observations, actions: the spaces of one environment, None where it has none.
    lead: () of one environment, (B,) of a vector of them.
    masks: that it tells; None where nobody reads them.
    """

    name: str
    observations: Any
    actions: Any
    lead: tuple[int, ...] = ()
    masks: "Masks | None" = None

    def shown_to(self, agent: Any) -> "Recorder":
        """Return the recorder of what an agent is shown."""
        return self if agent.takes_masks else self._replace(masks=None)

    def goes_on(self, observation: PyTree) -> bool:
        """Whether an episode can be gone on with, whose last observation is given."""
        if observation is None:
            return False
        masked = False if self.masks is None else self.masks.there
        return isinstance(observation, Masked) is masked

    def tells_masks(self, env: Any) -> bool:
        """Whether `env` tells masks; it is reset where nobody knows yet."""
        if self.masks is None:
            return False
        if self.masks.there is None:
            self.masks.look(env.reset()[1], env)
        return bool(self.masks.there)

    def started(self, result: Any, env: Any) -> PyTree:
        """Return a copy of the first observation from what `reset` of `env` returned."""
        observation, info = self._unpacked("reset", result, "(observation, info)")
        copied = self.observation(observation, "of reset")
        if self.masks is not None:
            self.masks.look(info, env)
        return self._masked(copied, info, env, False)

    def step(self, env: Any, action: Any, agent: Any, n: int) -> tuple[PyTree, Stepped]:
        """Take step `n` of `env`; return copies of the action and of what it gave."""
        taken = self.action(action, agent)
        try:
            result = env.step(action)
        except Exception as error:
            self.check_actions(taken, agent, error)
            raise
        return taken, self._stepped(result, n, env)

    def check_actions(
        self, taken: PyTree, agent: Any, cause: BaseException | None = None
    ) -> None:
        """Raise ValueError where actions [...] are not among those of the environment.

        Or where the agent knows that it chooses among more or fewer. It is asked once a
        window, and where an environment has raised.
        """
        space, number = self.actions, agent.number_of_actions
        if not has_masks(space):  # real ones may be beyond their bounds
            return
        kind = type(agent).__name__
        if number is not None and is_a(space, "Discrete") and number != space.n:
            raise ValueError(
                f"{kind} must choose among the actions of {self.name}, which are "
                f"{space}, but it chooses among {number}; give its network one output "
                "for each"
            ) from cause
        if not holds(space, taken):
            raise ValueError(
                f"an action of {kind} in {self.name} must be of {space}, got "
                f"{_beyond(space, taken)}; mend act, or take an agent for these actions"
            ) from cause

    def _stepped(self, result: Any, n: int, env: Any) -> Stepped:
        """Return copies of what step `n` of `env` gave."""
        form = "(observation, reward, terminated, truncated, info)"
        following, reward, terminated, truncated, info = self._unpacked(
            "step", result, form
        )
        when = f"at step {n}"
        step = Stepped(
            self.observation(following, when),
            self._number("reward", reward, when),
            self._flag("terminated", terminated, when),
            self._flag("truncated", truncated, when),
            _copy_info(info),
        )
        # of a vector, which has begun another episode in the same step, nothing is over
        over = not self.lead and (step.terminated or step.truncated)
        shown = self._masked(step.observation, step.info, env, over)
        return step._replace(observation=shown)

    def final(self, value: Any, info: Mapping[str, Any], row: int) -> PyTree:
        """Return a copy of what environment `row` of a vector showed at its end."""
        copied = self._replace(lead=()).observation(value, "at the end of an episode")
        if self.masks is None or not self.masks.there:
            return copied
        return Masked(copied, self.masks.told.final(info, row))

    def observation(self, value: Any, when: str) -> PyTree:
        """Return a copy of an observation, which the environment may change."""
        copied = _copy(self.observations, value)
        if not _fits(self.observations, copied, self.lead):
            raise self._wrong(
                "the observation", self._rule(self.observations), _kinds(copied), when
            )
        return copied

    def action(self, value: Any, agent: Any) -> PyTree:
        """Return a copy of an action, which the environment may change."""
        copied = _copy(self.actions, value)
        if not _fits(self.actions, copied, self.lead, taken=True):
            raise ValueError(
                f"an action of {type(agent).__name__} in {self.name} must be "
                f"{self._rule(self.actions)}, got {_kinds(copied)}; mend act, or take an "
                "agent for these actions"
            )
        return copied

    def _masked(self, copied: PyTree, info: Any, env: Any, over: bool) -> PyTree:
        """Return an observation with the mask that `info` or `env` tells, if any does."""
        if self.masks is None or not self.masks.there:
            return copied
        if self.lead:
            mask = self.masks.told.rows(info, np.zeros(self.lead, bool))
        else:
            mask = self.masks.told.row(told(env, info), over)
        return Masked(copied, mask)

    def _rule(self, space: Any) -> str:
        return f"{list(self.lead)} of {space}" if self.lead else f"of {space}"

    def _number(self, field: str, value: Any, when: str) -> Any:
        if type(value) is float and not self.lead:
            return value
        array = np.asarray(value)
        if array.shape != self.lead or array.dtype.kind not in "biuf":
            rule = f"{self.lead[0]} numbers" if self.lead else "a number"
            raise self._wrong(field, rule, value, when)
        return np.array(array, np.float64) if self.lead else float(array)

    def _flag(self, field: str, value: Any, when: str) -> Any:
        if type(value) is bool and not self.lead:
            return value
        array = np.asarray(value)
        known = array.shape == self.lead and array.dtype.kind in "biu"
        if not known or not (array.dtype == bool or np.isin(array, (0, 1)).all()):
            rule = f"{self.lead[0]} flags" if self.lead else "True or False"
            raise self._wrong(field, rule, value, when)
        return np.array(array, bool) if self.lead else bool(array)

    def _unpacked(self, function: str, result: Any, form: str) -> tuple:
        count = form.count(",") + 1
        is_tuple = isinstance(result, tuple)
        if is_tuple and len(result) == count:
            info = result[-1]
            if type(info) is dict or isinstance(info, Mapping):
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


class Masks:
    """Whether an environment tells masks, and those that it tells.

    Nobody knows before its first reset, which decides.

    there: None before it.
    """

    def __init__(self, name: str, actions: Any):
        """Know nothing but the space of actions."""
        numbered = has_masks(actions)
        self.there: bool | None = None if numbered else False
        space = action_space(name, actions) if numbered else None
        sizes = space.sizes if isinstance(space, Numbered) else ()
        self.told = ToldMasks(name, sizes)

    def look(self, info: Mapping[str, Any], env: Any) -> None:
        """Find out from the `info` of a first reset of `env`, one or a vector."""
        if self.there is None:
            single = isinstance(env, gymnasium.Env)
            self.there = told(env, info) is not None if single else holds_masks(info)


def recorder(env: Any, name: str) -> Recorder:
    """Return the recorder of an environment, or of a vector of them."""
    vector = isinstance(env, gymnasium.vector.VectorEnv)
    prefix = "single_" if vector else ""
    actions = getattr(env, f"{prefix}action_space", None)
    return Recorder(
        name,
        getattr(env, f"{prefix}observation_space", None),
        actions,
        (env.num_envs,) if vector else (),
        Masks(name, actions),
    )


def each(function: Callable, *trees: PyTree) -> PyTree:
    """Return `jax.tree.map(function, *trees)`, which costs more than arrays alone need."""
    if type(trees[0]) is np.ndarray:
        return function(*trees)
    return jax.tree.map(function, *trees)


def _copy(space: Any, value: Any) -> PyTree:
    """Copy a value; what the space holds as one array becomes one."""
    if _is_array(space):
        # a list has no dtype of its own
        return np.array(value, space.dtype if isinstance(value, list | tuple) else None)
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(value, Mapping):
        return {key: _copy(space.spaces.get(key), part) for key, part in value.items()}
    if isinstance(space, gymnasium.spaces.Tuple) and isinstance(value, tuple | list):
        inner = list(space.spaces) + [None] * len(value)
        return tuple(_copy(*pair) for pair in zip(inner, value, strict=False))
    return jax.tree.map(np.array, value)


def _fits(
    space: Any, copied: PyTree, lead: tuple[int, ...] = (), taken: bool = False
) -> bool:
    """Whether a copy has the structure and the shapes of its space.

    What is `taken` by the environment must also be integers where the space has them.
    """
    if _is_array(space):
        kinds = "biu" if taken and space.dtype.kind != "f" else "biuf"
        return copied.shape == (*lead, *space.shape) and copied.dtype.kind in kinds
    if isinstance(space, gymnasium.spaces.Dict):
        return (
            isinstance(copied, dict)
            and copied.keys() == space.spaces.keys()
            and all(
                _fits(inner, copied[key], lead, taken)
                for key, inner in space.spaces.items()
            )
        )
    if isinstance(space, gymnasium.spaces.Tuple):
        return (
            isinstance(copied, tuple)
            and len(copied) == len(space.spaces)
            and all(
                _fits(inner, part, lead, taken)
                for inner, part in zip(space.spaces, copied, strict=True)
            )
        )
    return True


def _beyond(space: Any, taken: PyTree) -> Any:
    """Return the first of actions [...] that is not of their space."""
    rows = np.reshape(taken, (-1, *space.shape))
    return next(row for row in rows if not holds(space, row)).tolist()


def is_made_of_arrays(space: Any) -> bool:
    """Whether a space holds arrays, or dictionaries and tuples of them."""
    if isinstance(space, gymnasium.spaces.Dict):
        return all(map(is_made_of_arrays, space.spaces.values()))
    if isinstance(space, gymnasium.spaces.Tuple):
        return all(map(is_made_of_arrays, space.spaces))
    return _is_array(space)


def _kinds(copied: PyTree) -> PyTree:
    return jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", copied)


_ARRAYS = (
    gymnasium.spaces.Box,
    gymnasium.spaces.Discrete,
    gymnasium.spaces.MultiBinary,
    gymnasium.spaces.MultiDiscrete,
)


def _is_array(space: Any) -> bool:
    return type(space) in _ARRAYS or isinstance(space, _ARRAYS)


def _copy_info(value: Any) -> Any:
    """Copy arrays and containers; whatever else an environment tells stays its own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _copy_info(inner) for key, inner in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_copy_info(inner) for inner in value)
    return value
