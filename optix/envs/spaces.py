"""What an environment shows and takes, for any kind of environment."""

from typing import Any

from optix import checks
from optix.envs.actions import action_space
from optix.envs.device import device
from optix.envs.names import gymnasium_name, is_gymnasium, is_hosted
from optix.envs.observations import hosted_shape
from optix.envs.source import source
from optix.types import ActionSpace, Environment


def spaces(
    env: Any, env_params: Any = None
) -> tuple[tuple[int, ...], ActionSpace, str]:
    """Return (observation shape, action space, name) of an environment.

    Args:
      env: an `Environment`, a name, an instance of gymnax's protocol, a Gymnasium
        environment, single or vectorised, or a function that makes one.
      env_params: of a gymnax environment, or keywords of `gymnasium.make`.

    Raises:
      ValueError: spaces that no agent can use, or `env_params` beside an environment
        that takes none.

    >>> spaces("CartPole-v1")
    ((4,), Discrete(n=2), 'CartPole-v1')
    """
    takes_params = not isinstance(env, Environment) and not is_gymnasium(env)
    if env_params is not None and not takes_params:
        raise checks.OptionError(
            "env_params are for a name or an instance of gymnax's, got "
            f"{env_params!r} beside a {type(env).__name__}; make the environment with them"
        )
    if isinstance(env, Environment):
        return env.observation_shape, env.action_space, env.name
    if is_gymnasium(env):
        name = gymnasium_name(env)
        observations = getattr(env, "single_observation_space", env.observation_space)
        actions = getattr(env, "single_action_space", env.action_space)
        return hosted_shape(name, observations), action_space(name, actions), name
    if is_hosted(env):
        made = source(env, env_params)
        shape = hosted_shape(made.name, made.observations)
        return shape, action_space(made.name, made.actions), made.name
    env = device(env, env_params)
    return env.observation_shape, env.action_space, env.name
