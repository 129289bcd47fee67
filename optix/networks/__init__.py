"""Networks behind the `Network` record.

dense: affine layers and convolutions. images: the convolutions of an image. mlp: torsos
and the actor-critic of PPO. recurrent: the same with a memory; gated: its cells; sequence:
how it runs over a window. values: of discrete actions. continuous: actors and critics.
noisy: noise in weights. module: flax modules as a `Network`.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.networks.continuous import ActorAndCritic as ActorAndCritic
    from optix.networks.continuous import actor_and_critic as actor_and_critic
    from optix.networks.dense import Convolution as Convolution
    from optix.networks.dense import Dense as Dense
    from optix.networks.gated import GRU as GRU
    from optix.networks.gated import LSTM as LSTM
    from optix.networks.mlp import ActorCritic as ActorCritic
    from optix.networks.mlp import Torso as Torso
    from optix.networks.mlp import actor_critic as actor_critic
    from optix.networks.module import module_network as module_network
    from optix.networks.recurrent import RecurrentActorCritic as RecurrentActorCritic
    from optix.networks.recurrent import (
        recurrent_actor_critic as recurrent_actor_critic,
    )
    from optix.networks.values import ActionValues as ActionValues
    from optix.networks.values import action_values as action_values

export(
    globals(),
    {
        "continuous": ("ActorAndCritic", "actor_and_critic"),
        "dense": ("Convolution", "Dense"),
        "gated": ("GRU", "LSTM"),
        "mlp": ("ActorCritic", "Torso", "actor_critic"),
        "module": ("module_network",),
        "recurrent": ("RecurrentActorCritic", "recurrent_actor_critic"),
        "values": ("ActionValues", "action_values"),
    },
)
