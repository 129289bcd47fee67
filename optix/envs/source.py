"""Where copies of a Gymnasium environment come from: a name, an object, a function."""

import contextlib
import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from optix import checks
from optix.envs.names import gymnasium_name, install_command, is_registered
from optix.envs.shown import Shown
from optix.envs.telling import (
    telling,
    telling_vector,
    tells_by_method,
    tells_masks,
)
from optix.envs.vectors import Rows, SameStep, Vector

UNLIMITED = 100_000  # steps after which an evaluation ends, where no limit is known


class Source(NamedTuple):
    """An environment of Gymnasium, of which there can be any number of copies.

    name: for messages.
    observations, actions: spaces of one environment.
    shown: how the observations become rows.
    time_limit: steps of an episode.
    open: `(count) -> Vector` of so many environments.
    show: `() -> Vector` of one whose `picture` can be asked for.
    """

    name: str
    observations: Any
    actions: Any
    shown: Shown
    time_limit: int
    open: Callable[[int], Vector]
    show: Callable[[], Vector]


def source(
    env: Any,
    env_params: Mapping[str, Any] | None,
    *,
    name: str | None = None,
    async_envs: bool = False,
    vector: Callable[[int], Any] | None = None,
) -> Source:
    """Return the `Source` of what a user names; see `optix.envs.hosted.hosted`.

    Raises:
      ValueError: an environment that is unknown, can not be copied or lacks a package.
    """
    if vector is not None:
        if async_envs or env_params is not None:
            raise checks.OptionError(
                "vector must be without env_params and async_envs, got "
                f"{env_params!r} and {async_envs}: it alone makes the environments"
            )
        return _of_vector(env, vector, name)
    spec, make = _maker(env, env_params)
    own = _own_vector(spec)
    if own is not None:
        if async_envs:
            raise checks.OptionError(
                f"async_envs is not for {spec.id}, whose environments run in threads of "
                "their own; leave it out"
            )
        return _of_vector(env, partial(own, **dict(env_params or {})), name or spec.id)
    probe = _made(make, env)
    try:
        name = name or gymnasium_name(probe)
        limit = getattr(probe.spec, "max_episode_steps", None) or UNLIMITED
        spaces = probe.observation_space, probe.action_space
        masked = tells_masks(spaces[1], probe.reset)
        if not masked and tells_by_method(probe):
            make, masked = partial(telling, make), True
    finally:
        probe.close()
    shown = Shown(name, *spaces, masked)

    def open_rows(count):
        with contextlib.ExitStack() as made:  # those before one that can not be made
            envs = []
            for _ in range(count):
                envs.append(make())
                made.callback(envs[-1].close)
            made.pop_all()
        return Rows(shown, envs, spaces[1])

    def open_processes(count):
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode

        # a fork of this process would have JAX's locks, but not its threads
        keeping = partial(telling, make) if masked else make
        envs = AsyncVectorEnv(
            [partial(_copying, keeping)] * count,
            copy=False,
            context="forkserver",
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        return SameStep(name, envs, masked)

    def show():
        return Rows(shown, [_seen(name, env, make)], spaces[1])

    opened = open_processes if async_envs else open_rows
    return Source(name, *spaces, shown, limit, opened, show)


def _seen(name: str, env: Any, make: Callable[[], Any]) -> Any:
    """Return an environment that renders, if Gymnasium makes it; else as it is made."""
    import gymnasium

    if not isinstance(env, str | gymnasium.Env):
        return make()
    try:
        return make(render_mode="rgb_array")  # type: ignore[call-arg]
    except (TypeError, gymnasium.error.Error) as error:
        raise checks.OptionError(f"{name} can not be rendered: {error}") from error


def _copying(make: Callable[[], Any]) -> Any:
    """Return an environment whose observations it does not write into again.

    What one showed at its end would be lost in its process.
    """
    import gymnasium

    env, copied = make(), copy.deepcopy
    return gymnasium.wrappers.TransformObservation(env, copied, env.observation_space)


def _maker(env: Any, env_params: Any) -> tuple[Any, Callable[[], Any]]:
    """Return the spec of Gymnasium, None if there is none, and what makes one copy."""
    import gymnasium

    if isinstance(env, str):
        params = _checked_params(env, env_params)
        module, _, name = env.rpartition(":")
        is_registered(name)
        try:
            if module:  # which makes its names known; `spec` does not import it
                importlib.import_module(module)
            spec = gymnasium.spec(name)
        except (gymnasium.error.Error, ImportError) as error:
            raise checks.OptionError(f"environment {name!r}: {error}") from error
        return spec, partial(gymnasium.make, spec, **params)
    if env_params is not None:
        raise checks.OptionError(
            "env_params are for a name, got "
            f"{env_params!r} beside {env!r}; make the environment with them"
        )
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise checks.OptionError(
            f"the vector environment {env} can not be copied, and evaluation needs "
            "environments of its own; give the name of the environment or a function "
            "that makes one (num_envs= and async_envs= say how many run side by side, "
            "and how), or optix.envs.hosted.hosted(name, vector=a function of num_envs "
            "that makes a vector environment with autoreset_mode=SAME_STEP)"
        )
    if not isinstance(env, gymnasium.Env):
        _check_no_arguments(env)
        return None, env
    spec = env.spec
    if spec is None or any(w.kwargs is None for w in spec.additional_wrappers):
        raise checks.OptionError(
            f"the environment {env} can not be copied, for Gymnasium does not know how "
            "it was made; give a function without arguments that makes one, like "
            "lambda: Mine(...)"
        )
    return None, partial(gymnasium.make, spec)


def _check_no_arguments(function: Callable[..., Any]) -> None:
    """Refuse a function that can not be called as it is."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some that are not of Python do not tell
    try:
        signature.bind()
    except TypeError as error:
        what = getattr(function, "__name__", function)
        raise checks.OptionError(
            f"env must be a function without arguments that makes one environment, got "
            f"{what}{signature}; give lambda: {what}(...)"
        ) from error


def _checked_params(name: str, env_params: Any) -> dict[str, Any]:
    params = {} if env_params is None else env_params
    if not isinstance(params, Mapping) or not all(isinstance(k, str) for k in params):
        raise checks.OptionError(
            f"env_params of {name} must be a mapping of keywords of gymnasium.make, got "
            f"{env_params!r}"
        )
    return dict(params)


def _made(make: Callable[[], Any], env: Any) -> Any:
    """Return one environment; what it lacks or was asked in vain is told by its name."""
    import gymnasium

    what = env if isinstance(env, str) else getattr(env, "__name__", "env")
    try:
        made = make()
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        entry = getattr(next(iter(getattr(make, "args", ())), None), "entry_point", "")
        command = install_command(f"{what} {entry}") or str(error)
        raise checks.OptionError(
            f"{what} needs a package that is not installed; {command}"
        ) from error
    except TypeError as error:
        if isinstance(make, partial) and make.keywords:
            raise checks.OptionError(
                f"env_params of {what} must be keywords of it, got {make.keywords}: "
                f"{error}"
            ) from error
        raise
    if not isinstance(made, gymnasium.Env):
        raise checks.OptionError(
            f"{what} must make a gymnasium.Env, got a {type(made).__name__}"
        )
    return made


def _own_vector(spec: Any) -> Callable[[int], Any] | None:
    """Return what makes the vector environment that a name brings, if it will do.

    Gymnasium's own for CartPole shows steps that never were, which nothing switches off.
    """
    from gymnasium.envs.registration import load_env_creator
    from gymnasium.vector import AutoresetMode

    entry = getattr(spec, "vector_entry_point", None)
    if entry is None:
        return None
    try:
        creator: Any = entry if callable(entry) else load_env_creator(entry)
    except ImportError:
        return None  # the environment itself will say what is missing
    if "autoreset_mode" not in inspect.signature(creator).parameters:
        return None
    import gymnasium

    return lambda count, **params: gymnasium.make_vec(
        spec, count, autoreset_mode=AutoresetMode.SAME_STEP, **params
    )


def _of_vector(env: Any, vector: Callable[[int], Any], name: str | None) -> Source:
    """Return the source of vector environments of any number."""
    checks.function(
        "vector", vector, "it takes a number and makes so many environments"
    )

    def open_vector(count, masked=False):
        made = SameStep(name or str(env), vector(count), masked)
        made.envs = telling_vector(made.envs)
        return made

    probe = open_vector(1)
    try:
        envs = probe.envs
        known = name or getattr(envs.spec, "id", None) or str(env)
        limit = getattr(envs.spec, "max_episode_steps", None) or UNLIMITED
        spaces = envs.single_observation_space, envs.single_action_space
        masked = tells_masks(spaces[1], envs.reset)
    finally:
        probe.close()
    opened, told = partial(open_vector, masked=masked), Shown(known, *spaces, masked)
    return Source(known, *spaces, told, limit, opened, lambda: opened(1))
