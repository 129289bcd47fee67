"""Parallelised Q-learning of networks that remember (a carry).

As `optix.agents.pqn`, but a minibatch holds whole sequences of a window, as in
`optix.agents.recurrent_ppo`.
"""

from typing import Any

from optix.agents.masking import masked_values
from optix.agents.pqn import pqn, valued
from optix.agents.reading import sequences
from optix.types import Agent, Discrete, Network


def recurrent_pqn(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete,
    *,
    sequence_length: int = 16,
    **options: Any,
) -> Agent:
    """Return a PQN agent of a network with a carry.

    Args:
      network: `apply` gives the values of the actions [..., n].
      observation_shape: of one observation.
      action_space: `Discrete`.
      sequence_length: steps that gradients flow back through; it must divide a window's
        steps.
      **options: of `optix.agents.pqn.pqn`, hyperparameters too; `num_minibatches` are
        parts of a window's sequences.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names.

    >>> from optix.networks.recurrent import recurrent_action_values
    >>> network = recurrent_action_values((4,), Discrete(2), cell_size=32)
    >>> agent = recurrent_pqn(network, (4,), Discrete(2), sequence_length=32)
    >>> [part.shape for part in agent.initial_carry(8)]
    [(8, 32)]
    """
    values = valued(masked_values(network))
    reading = sequences("recurrent_pqn", values, sequence_length)
    return pqn(network, observation_shape, action_space, reading=reading, **options)
