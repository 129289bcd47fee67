"""Actors and critics for continuous actions: the networks of SAC and TD3."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen

from optix import checks
from optix.networks.dense import Dense
from optix.networks.images import checked_convolutions
from optix.networks.mlp import ACTIVATIONS, Torso, checked_hidden
from optix.networks.module import module_network
from optix.types import Box, Discrete, Network


class ActorAndCritic(NamedTuple):
    """Two networks: how to act, and how good an action is.

    actor: `apply` on obs gives (mean, log_scale) or an action before tanh [..., size].
    critic: `apply` on (obs, action [..., size]) gives values [...].
    """

    actor: Network
    critic: Network


class Actor(linen.Module):
    """Parameters of an action: a mean, and a log scale where asked for."""

    observation_rank: int
    size: int
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    convolutions: str | None
    stochastic: bool

    @linen.compact
    def __call__(self, obs):
        """Map [..., *observation_shape] to (mean, log_scale) or mean, [..., size]."""
        images = self.activation, False, self.convolutions
        x = Torso(self.observation_rank, self.hidden, *images)(obs)
        mean = Dense(self.size, name="mean")(x)
        return (
            (mean, Dense(self.size, name="log_scale")(x)) if self.stochastic else mean
        )


class Critic(linen.Module):
    """The value of an action in a state; an image is embedded first."""

    observation_rank: int
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    convolutions: str | None

    @linen.compact
    def __call__(self, obs, action):
        """Map obs [..., *observation_shape] and action [..., size] to [...]."""
        images = self.activation, False, self.convolutions
        x = Torso(self.observation_rank, (), *images)(obs)
        x = jnp.concatenate([x, action], -1)
        x = Torso(1, self.hidden, self.activation)(x)
        return Dense(1, name="value")(x).squeeze(-1)


def actor_and_critic(
    observation_shape: Sequence[int],
    action_space: Box,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    stochastic: bool = True,
    convolutions: str | None = None,
) -> ActorAndCritic:
    """Return the networks of SAC, or of TD3 where not stochastic.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: a one-dimensional `Box`.
      hidden: widths of the hidden layers of each network.
      activation: one of tanh, relu, silu, gelu, elu.
      stochastic: the actor gives a mean and a log scale, else only a mean.
      convolutions: of images, see `optix.networks.mlp.actor_critic`.

    Raises:
      ValueError: actions that are not a one-dimensional Box, unknown names.

    >>> networks = actor_and_critic((3,), Box((1,)))
    >>> params, structure = networks.critic.init(jax.random.key(0))
    >>> inputs = jnp.zeros((8, 3)), jnp.zeros((8, 1))
    >>> networks.critic.apply(params, structure, (), inputs)[1].shape
    (8,)
    """
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.boolean("stochastic", stochastic)
    size = action_size(action_space)
    shape = checks.shape("observation_shape", observation_shape)
    rank = len(shape)
    images = checked_convolutions(convolutions, shape)
    layers = checked_hidden(hidden), ACTIVATIONS[activation], images
    obs, action = jnp.zeros((1, *shape)), jnp.zeros((1, size))
    return ActorAndCritic(
        actor=module_network(Actor(rank, size, *layers, stochastic), obs),
        critic=module_network(Critic(rank, *layers), obs, action),
    )


def action_size(space: Box) -> int:
    """Return the number of actions of a one-dimensional Box, or raise ValueError."""
    remedy = "use ppo, recurrent_ppo or impala"
    if isinstance(space, Discrete):
        remedy = "use dqn, rainbow or ppo"
    checks.record("action_space", space, Box, remedy)
    if len(space.shape) != 1:
        raise checks.OptionError(
            f"a Box of actions must be one-dimensional, got shape {space.shape}; "
            "flatten it in the environment"
        )
    return checks.positive_int("the size of a Box of actions", space.shape[0])
