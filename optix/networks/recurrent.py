"""Recurrent networks: gated cells, and the actor-critic of recurrent PPO."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen

from optix import checks
from optix.networks.dense import Dense
from optix.networks.mlp import (
    ACTIVATIONS,
    ActorCritic,
    Torso,
    check_actions,
    checked_hidden,
)
from optix.types import Box, Discrete, Network, PyTree


class GRU(linen.Module):
    """A gated recurrent unit (https://arxiv.org/abs/1406.1078), as in cuDNN.

    All gates in one product each of input and carry.
    """

    size: int

    @linen.compact
    def __call__(self, carry, x):
        """Return (carry [..., size], output [..., size]), which are the same."""
        update, reset, new = jnp.split(Dense(3 * self.size, name="input")(x), 3, -1)
        of_carry = Dense(3 * self.size, name="recurrent")(carry)
        keep, forget, old = jnp.split(of_carry, 3, -1)
        # an open gate at first remembers for longer
        update = jax.nn.sigmoid(update + keep + 1.0)
        reset = jax.nn.sigmoid(reset + forget)
        new = jnp.tanh(new + reset * old)
        carry = new + update * (carry - new)
        return carry, carry

    def initial_carry(self, batch: int) -> PyTree:
        """Return [batch, size] of an empty memory."""
        return jnp.zeros((batch, self.size))


class LSTM(linen.Module):
    """Long short-term memory (https://doi.org/10.1162/neco.1997.9.8.1735)."""

    size: int

    @linen.compact
    def __call__(self, carry, x):
        """Return ((cell, output), output [..., size])."""
        cell, output = carry
        both = jnp.concatenate([x, output], -1)
        gates = jnp.split(Dense(4 * self.size, name="gates")(both), 4, -1)
        write, keep, show = (
            jax.nn.sigmoid(x) for x in (gates[0], gates[1] + 1, gates[2])
        )
        cell = keep * cell + write * jnp.tanh(gates[3])
        output = show * jnp.tanh(cell)
        return (cell, output), output

    def initial_carry(self, batch: int) -> PyTree:
        """Return a pair of [batch, size] of an empty memory."""
        return jnp.zeros((batch, self.size)), jnp.zeros((batch, self.size))


CELLS = {"gru": GRU, "lstm": LSTM}


class RecurrentActorCritic(ActorCritic):
    """The heads of `ActorCritic` on what a cell makes of the torso's features."""

    cell: Callable[..., linen.Module] = GRU
    memory: int = 128

    @linen.compact
    def __call__(self, carry, obs):
        """Return (carry, (distribution parameters, value)) of one step."""

        def remember(name, carry):
            torso = (self.observation_rank, self.hidden, self.activation)
            x = Torso(*torso, name=name)(obs)
            return self.cell(self.memory, name=f"{name}_memory")(carry, x)

        if self.shared:
            carry, features = remember("torso", carry)
            return carry, self.heads(features, features)
        actor, actor_features = remember("actor", carry[0])
        critic, critic_features = remember("critic", carry[1])
        return (actor, critic), self.heads(actor_features, critic_features)


def recurrent_actor_critic(
    observation_shape: Sequence[int],
    action_space: Discrete | Box,
    *,
    cell: str = "gru",
    hidden: Sequence[int] = (64,),
    memory: int = 128,
    activation: str = "tanh",
    shared: bool = True,
    state_dependent_scale: bool = False,
) -> Network:
    """Return the default network of recurrent PPO: hidden layers, a cell, heads.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: `Discrete` gives logits, a one-dimensional `Box` mean and log scale.
      cell: gru or lstm.
      hidden: widths of the layers before the cell.
      memory: width of the cell.
      activation: one of tanh, relu, silu, gelu, elu, before the cell.
      shared: one torso and cell for actor and critic instead of two.
      state_dependent_scale: the scale of a Gaussian is an output, not a parameter.

    Returns:
      A `Network` whose `apply` takes one step, carry and observation with equal leading
      axes, and gives `(distribution parameters, value)`.

    >>> network = recurrent_actor_critic((4,), Discrete(2), memory=32)
    >>> params, structure = network.init(jax.random.key(0))
    >>> carry = network.initial_carry(8)
    >>> carry, (logits, value) = network.apply(params, (), carry, jnp.zeros((8, 4)))
    >>> carry.shape, logits.shape, value.shape
    ((8, 32), (8, 2), (8,))
    """
    checks.known_names("cell", [cell], CELLS)
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.positive_int("memory", memory)
    check_actions(action_space)
    module = RecurrentActorCritic(
        observation_rank=len(observation_shape),
        action_space=action_space,
        hidden=checked_hidden(hidden),
        activation=ACTIVATIONS[activation],
        shared=shared,
        state_dependent_scale=state_dependent_scale,
        cell=CELLS[cell],
        memory=memory,
    )

    def initial_carry(batch):
        # arrays of their own, for an actor's and a critic's buffers may be donated
        one, two = (CELLS[cell](memory).initial_carry(batch) for _ in range(2))
        return one if shared else (one, two)

    def init(key):
        obs = jnp.zeros((1, *observation_shape))
        return module.init(key, initial_carry(1), obs)["params"], ()

    def apply(params, structure, carry, obs):
        del structure
        return module.apply({"params": params}, carry, obs)

    return Network(init, initial_carry, apply)
