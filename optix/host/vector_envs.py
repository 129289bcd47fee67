"""Vector environments of Gymnasium: made, checked, closed, and what they end with."""

import contextlib
import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorEnv,
    VectorWrapper,
)

from optix import checks
from optix.envs.names import gymnasium_name
from optix.envs.telling import telling, telling_vector, tells_by_method
from optix.envs.vectors import autoreset_mode, close_vector
from optix.host.recorded import is_made_of_arrays

_SAME_STEP = AutoresetMode.SAME_STEP


class VectorSource(NamedTuple):
    """A vector environment, and how others are made.

    first: one that is there.
    make: `(num_envs) -> another one` of so many environments, or None.
    name: of its environments, for messages.
    time_limit: of their episodes, None if unknown.
    """

    first: VectorEnv
    make: Callable[[int], VectorEnv] | None
    name: str
    time_limit: int | None


def vector_source(envs: Any, num_envs: int | None, async_envs: bool) -> VectorSource:
    """Return the source of what `VectorBatchPipeline` takes; see there.

    Raises:
      TypeError: it is something else.
      ValueError: an option that does not go with it, another reset than SAME_STEP, spaces
        that are not made of arrays.
    """
    if isinstance(envs, VectorEnv):
        if async_envs or num_envs not in (None, envs.num_envs):
            raise checks.OptionError(
                "num_envs and async_envs are for names and functions, got them beside a "
                f"vector environment of {envs.num_envs}; leave them out"
            )
        _check(envs)
        singles = getattr(envs.unwrapped, "envs", None)  # of a SyncVectorEnv
        known = envs if envs.spec or not singles else singles[0]
        return VectorSource(telling_vector(envs), _maker_of(envs), *_known_of(known))
    functions = _functions(envs, num_envs)
    single = _keeping(functions[0])
    known = _known_of(single)
    single.close()
    make = functools.partial(_of_functions, functions, async_envs)
    first = make(len(functions))
    try:
        _check(first)
    except ValueError:
        close_vector(first)
        raise
    return VectorSource(first, make, *known)


@contextlib.contextmanager
def living(env: VectorEnv, name: str):
    """Say it in words where a process of the environments has died."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        processes = getattr(env.unwrapped, "processes", ())
        dead = [
            f"{p.name} (exit code {p.exitcode})" for p in processes if not _is_up(p)
        ]
        raise RuntimeError(
            f"a process of the environments {name} has died: {', '.join(dead) or error}; "
            "it was killed, or ran out of memory; the next window begins with new "
            "environments where they can be made anew"
        ) from error


def reset_seed(env: VectorEnv, seeds: list[int]) -> Any:
    """Return what `reset` of a vector environment takes for a seed of each environment."""
    several = isinstance(env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
    return seeds if several else seeds[0]


def final_observation(info: dict[str, Any], row: int, name: str) -> Any:
    """Return what environment `row` showed at the end of its episode, before the reset.

    Raises:
      ValueError: the vector environment does not tell.
    """
    finals = info.get("final_obs")
    final = None if finals is None else finals[row]
    if final is None:
        raise ValueError(
            f"{name} ended an episode without final_obs in its info, although it resets "
            "in the same step; mend the vector environment or its wrapper"
        )
    return final


def _known_of(env: Any) -> tuple[str, int | None]:
    """Return the name and the time limit of an environment, or of a vector."""
    return gymnasium_name(env), getattr(env.spec, "max_episode_steps", None)


def _is_up(process: Any) -> bool:
    process.join(0.1)
    return process.is_alive()


def _functions(envs: Any, num_envs: int | None) -> list[Callable[[], Any]]:
    """Return a function for each environment."""
    if isinstance(envs, str):
        if num_envs is None:
            raise checks.OptionError(
                f"envs is a name, {envs!r}, so num_envs must say how many there are, like "
                "num_envs=8"
            )
        checks.positive_int("num_envs", num_envs)
        try:
            gymnasium.spec(envs)
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            raise checks.OptionError(f"envs: {error}") from error
        return [functools.partial(gymnasium.make, envs)] * num_envs
    is_list = isinstance(envs, Sequence) and len(envs)
    if not is_list or not all(map(callable, envs)):
        raise TypeError(
            "envs must be a list of functions that make environments, a registered name "
            "with num_envs=, or a gymnasium.vector.VectorEnv, got "
            f"{envs!r}; a single environment needs a BatchPipeline"
        )
    if num_envs not in (None, len(envs)):
        raise checks.OptionError(
            f"num_envs must be the number of functions, {len(envs)}, got {num_envs!r}; "
            "leave it out"
        )
    return list(envs)


def _of_functions(
    functions: Sequence[Callable[[], Any]], async_envs: bool, num_envs: int
) -> VectorEnv:
    """Return a vector of so many environments, made by the functions in turn."""
    turns = [
        functools.partial(_keeping, functions[n % len(functions)])
        for n in range(num_envs)
    ]
    if async_envs:
        return AsyncVectorEnv(turns, autoreset_mode=_SAME_STEP)
    envs = SyncVectorEnv(turns, autoreset_mode=_SAME_STEP)
    if len({id(env.unwrapped) for env in envs.envs}) < num_envs:
        raise checks.OptionError(
            "envs must be functions that make a new environment at each call, got the "
            "same one from two calls; let them make it, like lambda: Mine()"
        )
    return envs


def _keeping(make: Callable[[], Any]) -> gymnasium.Env:
    env = make()
    if not isinstance(env, gymnasium.Env):
        raise TypeError(
            "each of envs must be a function that makes a gymnasium.Env, got one that "
            f"makes a {type(env).__name__}"
        )
    return _Keeping(telling(lambda: env) if tells_by_method(env) else env)


class _Keeping(gymnasium.Wrapper):
    """Gives copies of observations: the last one outlives the reset in the same step."""

    def step(self, action):
        observation, *rest = self.env.step(action)
        is_array = type(observation) is np.ndarray
        return observation.copy() if is_array else copy.deepcopy(observation), *rest


def _maker_of(env: VectorEnv) -> Callable[[int], VectorEnv] | None:
    """Return what makes another vector of the kind, None where nobody knows how."""
    if isinstance(env, VectorWrapper):
        return None  # it does not tell its arguments
    functions = getattr(env, "env_fns", None)
    plain = type(env) in (SyncVectorEnv, AsyncVectorEnv)
    if plain and isinstance(functions, Sequence):
        return functools.partial(_alike, env, functions)
    return None if env.spec is None else functools.partial(_of_spec, env.spec)


def _alike(env: Any, functions: Sequence[Callable], num_envs: int) -> VectorEnv:
    """Return a vector of so many environments with the options of another one."""
    turns = [functions[n % len(functions)] for n in range(num_envs)]
    options = {"observation_mode": env.observation_mode}
    if isinstance(env, AsyncVectorEnv):
        options |= {"shared_memory": env.shared_memory, "context": env.context}
    return telling_vector(type(env)(turns, autoreset_mode=_SAME_STEP, **options))


def _of_spec(spec: Any, num_envs: int) -> VectorEnv:
    spec = copy.deepcopy(spec)
    spec.kwargs["num_envs"] = num_envs
    return telling_vector(gymnasium.make_vec(spec))


def _check(env: VectorEnv) -> None:
    mode = autoreset_mode(env)
    if mode not in (_SAME_STEP, _SAME_STEP.value):
        raise checks.OptionError(
            "envs must reset in the same step, but their autoreset_mode is "
            f"{getattr(mode, 'name', mode)}; pass a list of functions, or make them with "
            "autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP (in "
            "gymnasium.make_vec by vector_kwargs, and vectorization_mode='sync')"
        )
    for space in (env.single_observation_space, env.single_action_space):
        if not is_made_of_arrays(space):
            raise checks.OptionError(
                "envs must have spaces of arrays (Box, Discrete, MultiDiscrete, "
                f"MultiBinary, and Dict or Tuple of these), got {space}; wrap the "
                "environments"
            )
    if np.ndim(env.num_envs) or env.num_envs < 1:
        raise checks.OptionError(f"envs must be at least one, got {env.num_envs!r}")
