"""Agents of adapters, which optix knows by name alone: nothing is imported before."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from optix import checks
from optix.envs.names import is_gymnasium, is_registered
from optix.host.agent import BaseAgent, named


def adapted_agent(
    module: str,
    package: str,
    extra: str,
    name: str,
    env: Any,
    env_params: Any,
    options: Mapping[str, Any],
) -> BaseAgent:
    """Return an agent of an adapter for an environment.

    Args:
      module: the adapter's import package.
      package: of the framework that it needs.
      extra: of this package, which installs that.
      name: of the class, which has `for_env`.
      env: of Gymnasium, single or vectorised, a registered name or a function.
      env_params: keywords of `gymnasium.make`, for a name.
      options: of `for_env`.

    Raises:
      ModuleNotFoundError: the framework is not installed.
      ValueError: another environment, or what `for_env` refuses.
    """
    try:
        importlib.import_module(package)
        kind: Any = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] not in (package, module):
            raise ModuleNotFoundError(
                f"{name} needs the package {error.name}, which is not installed; pip "
                f"install 'tensor-optix-jax[{extra}]'",
                name=error.name,
            ) from error
        raise ModuleNotFoundError(
            f"{name} needs {package}, which is not installed; pip install "
            f"'tensor-optix-jax[{extra}]'",
            name=error.name,
        ) from error
    with _opened(env, env_params) as one:
        return kind.for_env(one, **options)


def merged(hyperparams: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters, a set or a mapping or None, and options as one mapping.

    Raises:
      ValueError: both name something, or it is something else.
    """
    given = named(hyperparams)
    if twice := sorted(given.keys() & options.keys()):
        raise checks.OptionError(
            f"{twice[0]} must be given once, got it in hyperparams and as an option"
        )
    return {**given, **options}


@contextlib.contextmanager
def _opened(env: Any, env_params: Any) -> Iterator[Any]:
    """Give an environment of Gymnasium; close it again where it was made here."""
    import gymnasium

    if env_params is not None and not isinstance(env, str):
        raise checks.OptionError(
            f"env_params are for a name, got {env_params!r} beside {env!r}; make the "
            "environment with them"
        )
    if is_gymnasium(env):
        yield env
        return
    if isinstance(env, str):
        name = env.removeprefix("gymnasium:")
        is_registered(name)  # makes ale-py's known
        try:
            one = gymnasium.make(name, **(env_params or {}))
        except (gymnasium.error.Error, ImportError) as error:
            raise checks.OptionError(
                "env must be of Gymnasium where the agent is of another framework: "
                f"{error}"
            ) from error
    else:
        one: Any = env() if callable(env) and not hasattr(env, "step_env") else env
        if not is_gymnasium(one):
            raise checks.OptionError(
                "env must be of Gymnasium where the agent is of another framework, got a "
                f"{type(one).__name__}; give an environment, its name or a function that "
                "makes it"
            )
    try:
        yield one
    finally:
        if one is not env:
            one.close()
