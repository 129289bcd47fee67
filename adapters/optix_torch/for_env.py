"""What `for_env` of every agent needs: the spaces of an environment, options by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from optix import checks
from optix.envs.names import is_gymnasium
from optix.envs.spaces import spaces
from optix.types import Box, Discrete
from optix_torch.networks import dense_layers

Options = dict[str, Any]


def env_spaces(agent: type, env: Any, actions: type) -> tuple[Any, Any]:
    """Return the observation and action space of one Gymnasium environment.

    Args:
      agent: for messages.
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
        others = {
            Discrete: "TorchGaussianPPOAgent, TorchSACAgent or TorchTD3Agent",
            Box: "TorchPPOAgent, TorchDQNAgent or TorchRainbowDQNAgent",
        }
        raise checks.OptionError(
            f"{agent.__name__} takes {actions.__name__} actions, but {name} has {taken}; "
            f"use {others[actions]}"
        )
    observed = getattr(env, "single_observation_space", env.observation_space)
    acted = getattr(env, "single_action_space", env.action_space)
    return observed, acted


def split(agent: Any, given: Mapping[str, Any]) -> tuple[Options, Options]:
    """Return (hyperparameters, keywords of the constructor) among options.

    Raises:
      ValueError: an unknown name.
    """
    hyperparams = {*agent.FLOATS, *agent.SIZES, *agent.OPTIONAL}
    parameters = inspect.signature(agent.__init__).parameters.values()
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} | {"device"}
    checks.known_names(f"option of {agent.__name__}", given, hyperparams | options)
    return (
        {name: value for name, value in given.items() if name in hyperparams},
        {name: value for name, value in given.items() if name not in hyperparams},
    )


def observed_options(space: Any, given: Mapping[str, Any]) -> Options:
    """Return options with the form of the observations; numbers of states stay whole."""
    usual = {"normalize_observations": False} if hasattr(space, "n") else {}
    return {**usual, "observation_shape": tuple(space.shape), **given}


def check_hidden(hidden: Any, activation: str) -> None:
    """Raise ValueError unless layers can be made so."""
    dense_layers(1, hidden, activation=activation)
