"""Masks as environments of Gymnasium tell them: in `info`, or by a method.

Which actions are allowed stands under "action_mask" in `info`, as Gymnasium's own
environments and PettingZoo's have it; SB3-contrib's have a method `action_masks()`.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from optix.envs.kinds import is_a
from optix.math.masks import leaves_a_choice, told_mask

MASK = "action_mask"
_METHOD = "action_masks"
_ANY_NUMBER = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


class ToldMasks:
    """The masks that one environment tells, checked.

    Args:
      name: of the environment, for messages.
      sizes: of the choices of an action; () for one choice of as many actions as the
        first mask is of.

    >>> masks = ToldMasks("Mine", (3,))
    >>> masks.row([0, 1, 1], ended=False).tolist()
    [False, True, True]
    """

    def __init__(self, name: str, sizes: tuple[int, ...]):
        """See the class."""
        self.name, self.sizes = name, sizes

    def free(self, *lead: int) -> np.ndarray:
        """Return masks [*lead, n] that allow everything."""
        return np.ones((*lead, sum(self.sizes)), bool)

    def row(self, given: Any, ended: bool) -> np.ndarray:
        """Return a mask [n] bool; at an end nobody need tell what is allowed there.

        Raises:
          ValueError: none where the episode goes on, or one that allows nothing there;
            another form.
        """
        if given is None:
            if ended:
                return self.free()
            raise ValueError(
                f"info of {self.name} must hold {MASK!r} at every step that does not end "
                "an episode, as it does at a first one, got none; mend the environment "
                "or its wrapper"
            )
        mask = told_mask(given, (), self.sizes or None)
        if mask is None:
            number = sum(self.sizes) or "its"
            raise ValueError(
                f"{MASK!r} in info of {self.name} must hold a 0 or a 1 for each of "
                f"{number} actions, those of several choices one after another, "
                f"got {given!r}; mend the environment or its wrapper"
            )
        self.sizes = self.sizes or mask.shape
        if not ended and not leaves_a_choice(mask, self.sizes):
            raise ValueError(
                f"{MASK!r} in info of {self.name} must allow one action or more at every "
                f"step that does not end an episode, got {given!r}; let the environment "
                "end it, or tell what is left to do"
            )
        return mask

    def rows(self, info: Mapping[str, Any], ended: np.ndarray) -> np.ndarray:
        """Return masks [B, n] of what a vector environment tells.

        Args:
          info: of all its environments, as `gymnasium.vector` arranges it.
          ended: [B] bool, whose episodes do not go on.
        """
        told = [_of(info, i) for i in range(len(ended))]
        masks = map(self.row, told, ended.tolist())
        return np.stack(list(masks))

    def final(self, info: Mapping[str, Any], row: int) -> np.ndarray:
        """Return the mask [n] of what environment `row` of a vector showed at its end."""
        return self.row(_of(info.get("final_info", {}), row), True)


def has_masks(actions: Any) -> bool:
    """Return whether there can be masks of a space of actions."""
    kinds = "Discrete", "MultiDiscrete", "MultiBinary"
    return any(is_a(actions, kind) for kind in kinds)


def tells_masks(actions: Any, reset: Callable[[], Any]) -> bool:
    """Return whether a first reset tells which of the numbered actions are allowed."""
    if not has_masks(actions):
        return False
    result = reset()
    info = result[1] if isinstance(result, tuple) and len(result) == 2 else {}
    # forms are checked where it plays
    return isinstance(info, Mapping) and holds_masks(info)


def holds_masks(info: Mapping[str, Any]) -> bool:
    """Return whether an `info` holds a mask, or that of a vector any."""
    given = info.get(MASK)
    if isinstance(given, np.ndarray) and given.dtype == object:
        return any(mask is not None for mask in given)
    return given is not None


def tells_by_method(env: Any) -> bool:
    """Return whether an environment of numbered actions says its masks by a method."""
    actions = getattr(env, "action_space", None)
    return has_masks(actions) and _method(env) is not None


def told(env: Any, info: Mapping[str, Any]) -> Any:
    """Return the mask that an environment tells, None where it tells none."""
    mask = info.get(MASK)
    if mask is None and (method := _method(env)) is not None:
        mask = method()
    return mask


def telling(make: Callable[..., Any], **options: Any) -> Any:
    """Return an environment whose `info` holds a mask that it does not write into again.

    One of SB3-contrib's convention says by a method what is allowed.
    """
    import gymnasium

    def added(env, info):
        mask = told(env, info)
        return info if mask is None else {**info, MASK: copy.deepcopy(mask)}

    return _with_info(gymnasium.Wrapper, make(**options), added)


def telling_vector(envs: Any) -> Any:
    """Return a vector of Gymnasium whose `info` holds masks where a method says them.

    They are asked for after a call, which has begun another episode where one ended: of
    what was shown at an end none is known then. A vector that has none is returned itself.
    """
    ask = _asker(envs)
    if ask is None:
        return envs
    import gymnasium

    def added(envs, info):
        del envs  # the function that asks knows them
        return info if holds_masks(info) else {**info, MASK: ask()}

    return _with_info(gymnasium.vector.VectorWrapper, envs, added)


def _with_info(wrapper: type, env: Any, added: Callable[[Any, Any], Any]) -> Any:
    """Return an environment, or a vector of them, that tells `added(env, info)` as `info`.

    The environment is handed over each time: a copy of the wrapper has another one.
    """

    class Telling(wrapper):
        def reset(self, **options):
            obs, info = self.env.reset(**options)
            return obs, added(self.env, info)

        def step(self, action):
            *result, info = self.env.step(action)
            return *result, added(self.env, info)

    return Telling(env)


def _asker(envs: Any) -> Callable[[], Any] | None:
    """Return what asks the environments of a vector for their masks, None if nothing can.

    What is in processes is asked with care: they die of a call that fails.
    """
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    if not has_masks(getattr(envs, "single_action_space", None)):
        return None
    base = envs.unwrapped
    if isinstance(base, SyncVectorEnv):
        there = all(map(_method, base.envs))
    elif isinstance(base, AsyncVectorEnv):
        there = all(base.call("has_wrapper_attr", _METHOD))
        if there:
            one = base.env_fns[0]()
            there = _method(one) is not None
            one.close()
    else:  # one that steps all of them by itself
        return _asked_nothing(getattr(base, _METHOD, None))
    return partial(base.call, _METHOD) if there else None


def _method(env: Any) -> Callable[[], Any] | None:
    """Return the method that says masks; something else may have its name."""
    there = env.has_wrapper_attr(_METHOD)
    return _asked_nothing(env.get_wrapper_attr(_METHOD) if there else None)


def _asked_nothing(method: Any) -> Callable[[], Any] | None:
    """Return what can be called without arguments, else None."""
    if not callable(method):
        return None
    asked = inspect.signature(method).parameters.values()
    needs = [p for p in asked if p.default is p.empty and p.kind not in _ANY_NUMBER]
    return None if needs else method


def _of(info: Mapping[str, Any], row: int) -> Any:
    """Return what a vector environment tells of one, None where it tells nothing.

    By the flags: not every vector environment tells which of the rows are meant.
    """
    if MASK not in info or not info.get(f"_{MASK}", {row: True})[row]:
        return None
    given = info[MASK]
    return given if isinstance(given, Mapping) else given[row]
