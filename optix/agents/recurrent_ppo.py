"""Proximal policy optimisation of networks that remember (a carry).

As `optix.agents.ppo`, but a minibatch holds whole sequences of a window, and gradients
flow back through the carry to a sequence's first step. That step starts from the carry
which acting had there. Within a sequence the carry is fresh after an episode's end, as
it was in acting; the value at which a cut episode is bootstrapped is of the observation
at the cut, with the carry of the steps before it.
"""

from typing import Any

from optix.agents.masking import masked_policy
from optix.agents.ppo import ppo
from optix.agents.reading import sequences
from optix.types import ActionSpace, Agent, Network


def recurrent_ppo(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: ActionSpace,
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
    >>> from optix.types import Discrete
    >>> network = recurrent_actor_critic((4,), Discrete(2), cell="lstm")
    >>> agent = recurrent_ppo(network, (4,), Discrete(2), sequence_length=32)
    >>> [part.shape for part in agent.initial_carry(8)]
    [(8, 128), (8, 128)]
    """
    reading = sequences(
        "recurrent_ppo", masked_policy(network, action_space), sequence_length
    )
    return ppo(network, observation_shape, action_space, reading=reading, **options)
