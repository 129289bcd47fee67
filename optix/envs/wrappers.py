"""How an environment of gymnax's protocol is stepped, with wrappers around it or not.

The protocol has two levels. The parts, `step_env` and `reset_env`, play one episode; the
public `step` and `reset` call them and replace an episode that has ended. A wrapper
overrides functions of one level and delegates the others, so its changes are seen only
if that level is called on it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from optix.checks import OptionError

_PARTS, _PUBLIC = ("step_env", "reset_env"), ("step", "reset")
# what an environment calls on itself, and so never on a wrapper around it
_HOOKS = ("get_obs", "observe", "is_terminated", "is_terminal", "discount")


class Protocol(NamedTuple):
    """The functions of one environment.

    reset: `(key) -> (obs, state)`.
    step: `(key, state, action) -> (obs, state, reward, terminated, truncated,
        final_obs)`; `final_obs` is of the episode that was stepped.
    replaces: whether `step` goes on with a fresh episode after an end.
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]
    replaces: bool


def protocol(name: str, env: Any, params: Any) -> Protocol:
    """Return the functions through which every wrapper of `env` is seen.

    Raises:
      ValueError: an override that would never be called.
    """
    *wrappers, innermost = _levels(env)
    if replaces(env):
        for level in (*wrappers, innermost):
            _check_called(name, level, ["reset"], _PUBLIC, needs=["step"])
        for wrapper in wrappers:
            for part, public in zip(_PARTS, _PUBLIC, strict=True):
                _check_called(name, wrapper, [part], _PUBLIC, needs=[public])
            hooks = [*_HOOKS, "is_truncated"]
            _check_called(name, wrapper, hooks, _PUBLIC, needs=["step"])
        step = _public_step(name, env, params)
        return Protocol(lambda key: env.reset(key, params), step, True)
    for wrapper in wrappers:
        _check_called(name, wrapper, _HOOKS, _PARTS, needs=_PARTS)
    step = _part_step(name, env, params)
    return Protocol(lambda key: env.reset_env(key, params), step, False)


def replaces(env: Any) -> bool:
    """Return whether an environment is stepped so that it replaces ended episodes."""
    return _reached(env) or any(_own(level, _PUBLIC) for level in _levels(env))


def _part_step(name: str, env: Any, params: Any) -> Callable:
    def step(key, state, action):
        # the public step of gymnax has a reset in it; the parts are cheaper
        result = env.step_env(key, state, action, params)
        form = "(obs, state, reward, terminated, info)"
        obs, state, reward, terminated, _ = _unpacked(name, "step_env", result, form)
        truncated = env.is_truncated(state, params)
        return obs, state, reward, terminated, truncated, obs

    return step


def _public_step(name: str, env: Any, params: Any) -> Callable:
    def step(key, state, action):
        result = env.step(key, state, action, params)
        form = "(obs, state, reward, terminated, truncated, info)"
        *values, info = _unpacked(name, "step", result, form)
        if not isinstance(info, Mapping) or "final_observation" not in info:
            raise OptionError(
                f"info of {name}.step must hold 'final_observation', the observation "
                "before any reset, as in gymnax 1.0; pass on what the step of the "
                "environment inside gives"
            )
        return *values, info["final_observation"]

    return step


def _unpacked(name: str, function: str, result: Any, form: str) -> tuple:
    count = form.count(",") + 1
    if not isinstance(result, tuple) or len(result) != count:
        got = f"{len(result)} values" if isinstance(result, tuple) else repr(result)
        raise OptionError(
            f"{function} of {name} must return {form}, as in gymnax 1.0, got {got}; "
            "bring the environment or its wrapper to that form"
        )
    return result


def _levels(env: Any) -> list[Any]:
    """Return the environment, what it wraps, what that wraps, to the innermost."""
    levels = []
    while env is not None and not any(env is level for level in levels):
        levels.append(env)
        inner = [value for value in _attributes(env) if _is_environment(value)]
        env = inner[0] if len(inner) == 1 else None
    return levels


def _attributes(instance: Any) -> list[Any]:
    """Return what an instance holds, in its `__dict__` or in slots."""
    slots = (getattr(kind, "__slots__", ()) for kind in type(instance).__mro__)
    names = [name for names in slots for name in names]
    slotted = [getattr(instance, name) for name in names if hasattr(instance, name)]
    return [*getattr(instance, "__dict__", {}).values(), *slotted]


def _is_environment(value: Any) -> bool:
    return not isinstance(value, type) and hasattr(value, "step_env")


def _own(level: Any, names: Iterable[str]) -> list[str]:
    """Return which of the functions a level has itself, other than gymnax's own."""
    from gymnax.environments.environment import Environment

    found = {name: inspect.getattr_static(level, name, None) for name in names}
    return [
        name
        for name, function in found.items()
        if function is not None and function is not vars(Environment).get(name)
    ]


def _reached(env: Any) -> bool:
    """Whether `step` or `reset`, called on `env`, is one that somebody overrides.

    However deep: of a wrapper that holds several environments, or one in a list, the
    levels inside are not found.
    """
    from gymnax.environments.environment import Environment

    called = {name: getattr(env, name, None) for name in _PUBLIC}
    return any(
        function is not None
        and getattr(function, "__func__", function) is not vars(Environment)[name]
        for name, function in called.items()
    )


def _check_called(
    name: str, level: Any, names: Iterable[str], through: tuple, needs: Iterable[str]
) -> None:
    """Refuse functions of a level that nothing calls unless it also has `needs`."""
    from gymnax.environments.environment import Environment

    unseen = _own(level, names)
    missing = [need for need in needs if not _own(level, [need])]
    if set(unseen) <= {*_HOOKS, "is_truncated"} and isinstance(level, Environment):
        return  # its own functions call them
    if unseen and missing:
        kind = type(level).__name__
        raise OptionError(
            f"{kind}.{unseen[0]} would not be called where it must be: {name} is "
            f"stepped through {' and '.join(through)}, and {kind} does not override "
            f"{' and '.join(missing)}; override {'it' if len(missing) == 1 else 'them'} "
            "too"
        )
