"""An agent that fits an environment: its spaces, options by name, layers of an image.

What `for_env` of the agents of every framework needs.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.envs.kinds import first_of, is_a
from optix.envs.names import is_gymnasium
from optix.envs.spaces import spaces
from optix.types import Box, Discrete

Options = dict[str, Any]


def fitted(
    agent: Any,
    env: Any,
    actions: type,
    networks: Callable[[Any, int], Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Any:
    """Return an agent with networks that fit a Gymnasium environment.

    Args:
      agent: a class with `TAKES`, the names of agents by the actions that they take.
      env: an environment, single or vectorised.
      actions: `Discrete` or `Box` of `optix.types`, what the agent takes.
      networks: `(observation space, number of actions or entries of one) -> {name: what
        the constructor takes}`.
      options: hyperparameters, and keywords of the constructor.

    Raises:
      ValueError: no Gymnasium environment, spaces that the agent can not use, or an
        unknown option.
    """
    hyperparams, keywords = split(agent, options)
    observed, acted = env_spaces(agent, env, actions)
    if actions is Box:
        size = int(np.prod(acted.shape))
        keywords = {"bounds": (acted.low, acted.high), **keywords}
    else:
        size = int(acted.n)
    made = agent(
        **networks(observed, size),
        hyperparams=hyperparams,
        **observed_options(observed, keywords),
    )
    made.made_for_env()
    return made


def env_spaces(agent: Any, env: Any, actions: type) -> tuple[Any, Any]:
    """Return the observation and action space of one Gymnasium environment.

    Args:
      agent: a class with `TAKES`, the names of agents by the actions that they take.
      env: an environment, single or vectorised.
      actions: `Discrete` or `Box` of `optix.types`, what the agent takes.

    Raises:
      ValueError: no Gymnasium environment, or spaces that the agent can not use.
    """
    if not is_gymnasium(env):
        raise checks.OptionError(
            f"env must be a Gymnasium environment, got {env!r}; make it by "
            "gymnasium.make(...)"
        )
    _, taken, name = spaces(env)
    if not isinstance(taken, actions):
        other = agent.TAKES.get(type(taken), "ppo, recurrent_ppo or impala of JAX")
        raise checks.OptionError(
            f"{agent.__name__} takes {actions.__name__} actions, but {name} has {taken}; "
            f"use {other}"
        )
    observed = getattr(env, "single_observation_space", env.observation_space)
    acted = getattr(env, "single_action_space", env.action_space)
    if not is_a(observed, "Box") and not is_a(observed, "Discrete"):
        raise checks.OptionError(
            f"{agent.__name__} takes observations of a Box or Discrete, but {name} has "
            f"{observed}; use gymnasium.wrappers.FlattenObservation, or a JAX agent"
        )
    plain = first_of(acted) == 0 if actions is Discrete else acted.dtype.kind == "f"
    if not plain:
        raise checks.OptionError(
            f"{agent.__name__} takes Discrete actions from 0 or a Box of floats, but "
            f"{name} has {acted}; use gymnasium.wrappers.TransformAction, or a JAX agent"
        )
    return observed, acted


def split(agent: Any, given: Mapping[str, Any]) -> tuple[Options, Options]:
    """Return (hyperparameters, keywords of the constructor) among options.

    Raises:
      ValueError: an unknown name.
    """
    hyperparams = {*agent.FLOATS, *agent.SIZES, *agent.OPTIONAL}
    parameters = inspect.signature(agent.__init__).parameters.values()
    options = {
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.name == "device"
    }
    checks.known_names(f"option of {agent.__name__}", given, hyperparams | options)
    return (
        {name: value for name, value in given.items() if name in hyperparams},
        {name: value for name, value in given.items() if name not in hyperparams},
    )


def observed_options(space: Any, given: Mapping[str, Any]) -> Options:
    """Return options with the form of the observations; numbers of states stay whole."""
    usual = {"normalize_observations": False} if hasattr(space, "n") else {}
    return {**usual, "observation_shape": tuple(space.shape), **given}


class Image(NamedTuple):
    """How images of a shape are seen: the smaller axis at an end holds the channels.

    A convolution of 3 by 3 as in MinAtar (https://arxiv.org/abs/1903.03176), or from 36
    pixels on the three of the Nature paper (https://doi.org/10.1038/nature14236).
    """

    channels_first: bool
    channels: int
    size: tuple[int, int]  # height, width
    layers: tuple[tuple[int, int, int], ...]  # (filters, size, stride) of each


def image(shape: Sequence[int]) -> Image:
    """Return how images of this shape are seen.

    Raises:
      ValueError: fewer than 3 by 3 pixels.

    >>> image((5, 6, 3))
    Image(channels_first=False, channels=3, size=(5, 6), layers=((16, 3, 1),))
    """
    channels_first = shape[0] < shape[-1]
    channels, *size = shape if channels_first else (shape[-1], *shape[:-1])
    height, width = size
    if min(size) < 3:
        raise checks.OptionError(
            f"an image must be at least 3 by 3 pixels, got shape {tuple(shape)}; "
            "flatten it in the environment"
        )
    small = ((16, 3, 1),)
    large = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    return Image(
        channels_first, channels, (height, width), small if min(size) < 36 else large
    )
