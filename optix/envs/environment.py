"""An `Environment` of whatever a user names one by."""

from collections.abc import Callable
from typing import Any

import jax

from optix import checks
from optix.envs.device import device
from optix.envs.families.table import family_of
from optix.envs.hosted import hosted
from optix.envs.names import is_hosted
from optix.envs.resets import with_resets
from optix.envs.wrappers import replaces
from optix.types import Environment


def environment(
    env: Any,
    env_params: Any = None,
    *,
    async_envs: bool = False,
    resets: str | None = None,
    task: Callable[[jax.Array], Any] | None = None,
) -> Environment:
    """Return the `Environment` of a name, an instance or a function.

    Args:
      env: an `Environment`; what `device` takes, a name of gymnax or an instance of its
        protocol; or what `hosted` takes, a name that only Gymnasium has, one that says
        so ("gymnasium:CartPole-v1"), an environment of it or a function that makes one.
      env_params: of gymnax, or keywords of `gymnasium.make`.
      async_envs: of Gymnasium: environments in processes of their own.
      resets: how ended episodes begin again, see `optix.envs.resets.with_resets`.
      task: `(key) -> parameters`, drawn where an episode begins, see `device`.

    Raises:
      ValueError: an unknown name, options that are not for such an environment, or what
        `device` and `hosted` refuse.

    >>> environment("CartPole-v1").claim is None  # on the device
    True
    >>> environment("gymnasium:CartPole-v1").claim is None
    False
    """
    checks.boolean("async_envs", async_envs)
    if not isinstance(env, Environment) and is_hosted(env):
        _check_resets(resets, env)
        _check_task(task, env)
        return hosted(env, env_params, async_envs=async_envs)
    if async_envs:
        raise checks.OptionError(
            "async_envs is for environments of Gymnasium, got True beside "
            f"{env.name if isinstance(env, Environment) else env!r}, which runs on the "
            "device or is made already; leave it out"
        )
    if isinstance(env, Environment):
        if env_params is not None:
            raise checks.OptionError(
                f"env_params are for a name or an instance, got {env_params!r} beside "
                f"the Environment {env.name}; give them to device(...) or hosted(...)"
            )
        _check_resets(resets, env.name)
        _check_task(task, env.name)
        return env
    made = device(env, env_params, task=task)
    if not isinstance(env, str) and family_of(env) is None and replaces(env):
        _check_resets(resets, made.name)
        return made
    return with_resets(made, resets)


def _check_resets(resets: str | None, env: Any) -> None:
    if resets is not None:
        raise checks.OptionError(
            "resets are chosen for environments that are made here on the device and do "
            f"not replace their ended episodes themselves, got resets={resets!r} beside "
            f"{env!r}; leave it out, or use optix.envs.resets.with_resets"
        )


def _check_task(task: Any, env: Any) -> None:
    if task is not None:
        raise checks.OptionError(
            f"task is for environments that are made here on the device, got it beside "
            f"{env!r}; give it to optix.envs.device.device(...), or draw in the reset of "
            "an environment of Gymnasium"
        )
