"""Proximal policy optimisation of networks that remember (a carry).

As `optix.agents.ppo`, but a minibatch holds whole sequences of a window, and gradients
flow back through the carry to a sequence's first step. That step starts from the carry
which acting had there. Within a sequence the carry is fresh after an episode's end, as
it was in acting; the value at which a cut episode is bootstrapped is of the observation
at the cut, with the carry of the steps before it.
"""

from typing import Any, NamedTuple

import jax

from optix.agents.ppo import ppo
from optix.agents.reading import Batch, Reading, stretches
from optix.networks.sequence import run_sequence
from optix.types import Agent, Box, Discrete, Network, PyTree


class Sequences(NamedTuple):
    """`N` stretches of a window, each of `S` steps."""

    batch: Batch  # [N, S, ...]
    ended: jax.Array  # [N, S] bool: the step ended its episode
    carry: PyTree  # [N, ...] before the first step


def recurrent_ppo(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete | Box,
    *,
    sequence_length: int = 16,
    **options: Any,
) -> Agent:
    """Return a PPO agent of a network with a carry.

    Any `Network` will do, a neuron graph too; of one without a carry the sequences are
    only blocks of samples.

    Args:
      network: `apply` gives (distribution parameters, value).
      observation_shape: of one observation.
      action_space: what the environment takes.
      sequence_length: steps that gradients flow back through; it must divide a window's
        steps. What lies further back is remembered, but remembering it is not learned.
      **options: of `optix.agents.ppo.ppo`, hyperparameters too; `num_minibatches` are
        parts of a window's sequences.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names.

    >>> from optix.networks.recurrent import recurrent_actor_critic
    >>> network = recurrent_actor_critic((4,), Discrete(2), cell="lstm")
    >>> agent = recurrent_ppo(network, (4,), Discrete(2), sequence_length=32)
    >>> [part.shape for part in agent.initial_carry(8)]
    [(8, 128), (8, 128)]
    """
    count, cut = stretches(sequence_length)

    def values(params, structure, obs, trajectory):
        if "carry" in trajectory.extras:
            return trajectory.extras["value"]
        return network.apply(params, structure, (), obs)[1][1]

    def value_after(params, structure, carry, obs, next_obs):
        after, _ = network.apply(params, structure, carry, obs)
        return network.apply(params, structure, after, next_obs)[1][1]

    def rows(batch, trajectory):
        num_steps, num_envs = trajectory.reward.shape
        sequences = count(num_steps, num_envs)
        first = jax.tree.map(
            # parts of a carry may be empty, of which no size can be inferred
            lambda x: x[::sequence_length].reshape(sequences, *x.shape[2:]),
            trajectory.extras.get("carry", ()),
        )
        ended = trajectory.terminated | trajectory.truncated
        return Sequences(jax.tree.map(cut, batch), cut(ended), first)

    def outputs(params, structure, part):
        batch, ended = jax.tree.map(
            lambda x: x.swapaxes(0, 1), (part.batch, part.ended)
        )
        _, outputs = run_sequence(
            network, params, structure, part.carry, batch.obs, ended
        )
        return outputs, batch

    unit = "sequences of a window (num_steps / sequence_length * num_envs)"
    reading = Reading("recurrent_ppo", count, unit, values, value_after, rows, outputs)
    return ppo(network, observation_shape, action_space, reading=reading, **options)
