"""Recurrent networks: the actor-critic of recurrent PPO, the values of recurrent PQN."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen

from optix import checks
from optix.networks.dense import Dense
from optix.networks.gated import GRU, LSTM
from optix.networks.images import checked_convolutions
from optix.networks.mlp import (
    ACTIVATIONS,
    ActorCritic,
    Torso,
    check_actions,
    checked_hidden,
)
from optix.types import ActionSpace, Discrete, Network

CELLS = {"gru": GRU, "lstm": LSTM}


class RecurrentActorCritic(ActorCritic):
    """The heads of `ActorCritic` on what a cell makes of the torso's features."""

    cell: Callable[..., linen.Module] = GRU
    cell_size: int = 128

    @linen.compact
    def __call__(self, carry, obs, ended=None):
        """Return (carry, (distribution parameters, value)) of a step, or of a window.

        A window has a leading axis of time, and `ended` [T, B] where episodes did.
        """

        def remember(name, carry):
            x = Torso(*self.torso_options(), name=name)(obs)
            return self.cell(self.cell_size, name=f"{name}_memory")(carry, x, ended)

        if self.shared:
            carry, features = remember("torso", carry)
            return carry, self.heads(features, features)
        actor, actor_features = remember("actor", carry[0])
        critic, critic_features = remember("critic", carry[1])
        return (actor, critic), self.heads(actor_features, critic_features)


class RecurrentActionValues(linen.Module):
    """A value of each action, of what a cell makes of the torso's features."""

    observation_rank: int
    actions: int
    hidden: tuple[int, ...]
    activation: Callable[..., Any]
    layer_norm: bool
    cell: Callable[..., linen.Module]
    cell_size: int
    convolutions: str | None = None

    @linen.compact
    def __call__(self, carry, obs, ended=None):
        """Return (carry, values) of a step, or of a window with `ended` [T, B]."""
        options = self.activation, self.layer_norm, self.convolutions
        torso = Torso(self.observation_rank, self.hidden, *options, name="torso")
        x = torso(obs)
        carry, x = self.cell(self.cell_size, name="memory")(carry, x, ended)
        x = linen.LayerNorm()(x) if self.layer_norm else x
        return carry, Dense(self.actions, name="values")(x)


def recurrent_actor_critic(
    observation_shape: Sequence[int],
    action_space: ActionSpace,
    *,
    cell: str = "gru",
    hidden: Sequence[int] = (64,),
    cell_size: int = 128,
    activation: str = "tanh",
    shared: bool = True,
    state_dependent_scale: bool = False,
    convolutions: str | None = None,
) -> Network:
    """Return the default network of recurrent PPO: hidden layers, a cell, heads.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: `Discrete` and `MultiDiscrete` give logits, a one-dimensional `Box`
        mean and log scale.
      cell: gru or lstm.
      hidden: widths of the layers before the cell.
      cell_size: width of the cell.
      activation: one of tanh, relu, silu, gelu, elu, before the cell.
      shared: one torso and cell for actor and critic instead of two.
      state_dependent_scale: the scale of a Gaussian is an output, not a parameter.
      convolutions: of images, see `optix.networks.mlp.actor_critic`.

    Returns:
      A `Network` whose `apply` takes one step, carry and observation with equal leading
      axes, and gives `(distribution parameters, value)`.

    >>> import jax
    >>> network = recurrent_actor_critic((4,), Discrete(2), cell_size=32)
    >>> params, structure = network.init(jax.random.key(0))
    >>> carry = network.initial_carry(8)
    >>> carry, (logits, value) = network.apply(params, (), carry, jnp.zeros((8, 4)))
    >>> carry[0].shape, logits.shape, value.shape
    ((8, 32), (8, 2), (8,))
    """
    checks.known_names("cell", [cell], CELLS)
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.positive_int("cell_size", cell_size)
    checks.boolean("shared", shared)
    checks.boolean("state_dependent_scale", state_dependent_scale)
    check_actions(action_space)
    shape = checks.shape("observation_shape", observation_shape)
    module = RecurrentActorCritic(
        observation_rank=len(shape),
        action_space=action_space,
        hidden=checked_hidden(hidden),
        activation=ACTIVATIONS[activation],
        shared=shared,
        state_dependent_scale=state_dependent_scale,
        convolutions=checked_convolutions(convolutions, shape),
        cell=CELLS[cell],
        cell_size=cell_size,
    )

    memory = CELLS[cell](cell_size)
    return _with_memory(module, shape, (memory,) if shared else (memory, memory))


def recurrent_action_values(
    observation_shape: Sequence[int],
    action_space: Discrete,
    *,
    cell: str = "gru",
    hidden: Sequence[int] = (128,),
    cell_size: int = 128,
    activation: str = "relu",
    layer_norm: bool = True,
    convolutions: str | None = None,
) -> Network:
    """Return the default network of recurrent PQN: hidden layers, a cell, values.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: `Discrete`.
      cell: gru or lstm.
      hidden: widths of the layers before the cell.
      cell_size: width of the cell.
      activation: one of tanh, relu, silu, gelu, elu, before the cell.
      layer_norm: standardise what goes into each activation, and what the cell gives.
      convolutions: of images, see `optix.networks.mlp.actor_critic`.

    Returns:
      A `Network` whose `apply` takes one step, carry and observation with equal leading
      axes, and gives the values of the actions.

    >>> import jax
    >>> network = recurrent_action_values((4,), Discrete(2), cell_size=32)
    >>> params, structure = network.init(jax.random.key(0))
    >>> carry = network.initial_carry(8)
    >>> network.apply(params, (), carry, jnp.zeros((8, 4)))[1].shape
    (8, 2)
    """
    checks.record("action_space", action_space, Discrete, "action values need it")
    checks.positive_int("n of Discrete actions", action_space.n)
    checks.known_names("cell", [cell], CELLS)
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.positive_int("cell_size", cell_size)
    checks.boolean("layer_norm", layer_norm)
    shape = checks.shape("observation_shape", observation_shape)
    module = RecurrentActionValues(
        observation_rank=len(shape),
        actions=action_space.n,
        hidden=checked_hidden(hidden),
        activation=ACTIVATIONS[activation],
        layer_norm=layer_norm,
        cell=CELLS[cell],
        cell_size=cell_size,
        convolutions=checked_convolutions(convolutions, shape),
    )
    return _with_memory(module, shape, (CELLS[cell](cell_size),))


def _with_memory(module, shape, cells):
    """Return the `Network` of a module with the carry of one cell, or of several."""

    def initial_carry(batch):
        # arrays of their own, for an actor's and a critic's buffers may be donated
        memories = tuple(cell.initial_carry(batch) for cell in cells)
        return memories if len(cells) > 1 else memories[0]

    def init(key):
        obs = jnp.zeros((1, *shape))
        return module.init(key, initial_carry(1), obs)["params"], ()

    def apply(params, structure, carry, obs):
        del structure
        return module.apply({"params": params}, carry, obs)

    def sequence(params, structure, carry, obs, ended):
        del structure
        return module.apply({"params": params}, carry, obs, ended)

    return Network(init, initial_carry, apply, sequence)
