"""Feed-forward networks: a torso for vectors or images, and the actor-critic of PPO."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen

from optix import checks
from optix.forms import check_numbered
from optix.networks.dense import Dense
from optix.networks.images import checked_convolutions, convolved
from optix.networks.module import module_network
from optix.types import ActionSpace, Box, Network, Numbered

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
}


class Torso(linen.Module):
    """Hidden layers on a flattened observation; an image passes a convolution first.

    With `layer_norm` what goes into an activation is standardised over the features;
    `convolutions` are those of `optix.networks.images`.
    """

    observation_rank: int
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    layer_norm: bool = False
    convolutions: str | None = None

    @linen.compact
    def __call__(self, obs):
        """Map [..., *observation_shape] to [..., hidden[-1]]."""
        batch = obs.shape[: obs.ndim - self.observation_rank]
        x = obs.reshape(-1, *obs.shape[obs.ndim - self.observation_rank :])
        if self.observation_rank == 3:
            if min(x.shape[1:3]) < 3:
                raise checks.OptionError(
                    "an image must be at least 3 by 3 pixels, channels last, got shape "
                    f"{x.shape[1:]}; flatten it in the environment"
                )
            x = convolved(x, self.convolutions, self.activate)
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = self.activate(Dense(width)(x))
        return x.reshape(*batch, x.shape[-1])

    def activate(self, x):
        """Map [..., features] to the same, standardised first where that is asked for."""
        return self.activation(linen.LayerNorm()(x) if self.layer_norm else x)


class ActorCritic(linen.Module):
    """Parameters of an action distribution, and a value; torsos separate or shared."""

    observation_rank: int
    action_space: ActionSpace
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    shared: bool
    state_dependent_scale: bool
    convolutions: str | None = None

    @linen.compact
    def __call__(self, obs):
        """Return (logits [..., n] or (mean, log_scale) [..., size], value [...])."""
        torso = self.torso_options()
        actor = Torso(*torso, name="torso" if self.shared else "actor")(obs)
        critic = actor if self.shared else Torso(*torso, name="critic")(obs)
        return self.heads(actor, critic)

    def torso_options(self):
        """Return what makes a torso."""
        layers = self.observation_rank, self.hidden, self.activation
        return *layers, False, self.convolutions

    def heads(self, actor, critic):
        """Map the features [..., width] of actor and critic to the outputs."""
        value = Dense(1, name="value")(critic).squeeze(-1)
        if isinstance(self.action_space, Numbered):
            logits = sum(self.action_space.sizes)
            return Dense(logits, name="logits")(actor), value
        size = self.action_space.shape[0]
        mean = Dense(size, scale=0.01, name="mean")(actor)
        if self.state_dependent_scale:
            log_scale = Dense(size, scale=0.01, name="log_scale")(actor)
        else:
            log_scale = self.param("log_scale", linen.initializers.zeros, (size,))
        return (mean, jnp.broadcast_to(log_scale, mean.shape)), value


def actor_critic(
    observation_shape: Sequence[int],
    action_space: ActionSpace,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    shared: bool = False,
    state_dependent_scale: bool = False,
    convolutions: str | None = None,
) -> Network:
    """Return the default network of PPO.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: `Discrete` and `MultiDiscrete` give logits, a one-dimensional `Box`
        mean and log scale.
      hidden: widths of the hidden layers.
      activation: one of tanh, relu, silu, gelu, elu.
      shared: one torso for actor and critic instead of two.
      state_dependent_scale: the scale of a Gaussian is an output, not a parameter.
      convolutions: of images, "minatar" (one layer), "nature" (three, of DQN) or
        "impala" (residual blocks); None chooses one of the first two by the size.

    Returns:
      A `Network` whose `apply` gives `(distribution parameters, value)`.

    >>> from optix.types import Discrete
    >>> network = actor_critic((4,), Discrete(2))
    >>> params, structure = network.init(jax.random.key(0))
    >>> carry, (logits, value) = network.apply(params, structure, (), jnp.zeros((8, 4)))
    >>> logits.shape, value.shape
    ((8, 2), (8,))
    """
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.boolean("shared", shared)
    checks.boolean("state_dependent_scale", state_dependent_scale)
    check_actions(action_space)
    shape = checks.shape("observation_shape", observation_shape)
    module = ActorCritic(
        observation_rank=len(shape),
        action_space=action_space,
        hidden=checked_hidden(hidden),
        activation=ACTIVATIONS[activation],
        shared=shared,
        state_dependent_scale=state_dependent_scale,
        convolutions=checked_convolutions(convolutions, shape),
    )
    return module_network(module, jnp.zeros((1, *shape)))


def checked_hidden(hidden: Sequence[int]) -> tuple[int, ...]:
    """Return the widths of hidden layers, or raise ValueError."""
    if not isinstance(hidden, Sequence) or isinstance(hidden, str) or not hidden:
        raise checks.OptionError(
            f"hidden must be a sequence of at least one width, got {hidden!r}"
        )
    return tuple(checks.positive_int("a hidden width", width) for width in hidden)


def check_actions(space: ActionSpace) -> None:
    """Raise ValueError unless the heads can serve the space."""
    if isinstance(space, Numbered):
        check_numbered(f"{type(space).__name__} actions", space)
    elif not isinstance(space, Box):
        raise checks.OptionError(
            f"action_space must be a Discrete, MultiDiscrete or Box of optix.types, got "
            f"{space!r}"
        )
    elif len(space.shape) != 1:
        raise checks.OptionError(
            f"a Box of actions must be one-dimensional, got shape {space.shape}; "
            "flatten it in the environment"
        )
