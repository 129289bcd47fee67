"""Torch agents in optix's loop.

ppo, gaussian_ppo, recurrent_ppo, dqn, rainbow, sac, td3: an agent each. generic: any
module and loss. sb3: a Stable-Baselines3 model. agent, on_policy, off_policy, critics:
what they share beyond `optix.host`. state: modules and optimizers as arrays. view:
observations as tensors. actions: distributions. networks, noisy, memory_cell: layers.
segments: windows cut for recurrent networks. given: devices and optimizers, checked.
sb3_model, sb3_parts: what a Stable-Baselines3 model is, and what of it is no network.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix_torch.dqn import TorchDQNAgent as TorchDQNAgent
    from optix_torch.gaussian_ppo import TorchGaussianPPOAgent as TorchGaussianPPOAgent
    from optix_torch.generic import TorchAgent as TorchAgent
    from optix_torch.generic import TorchWindow as TorchWindow
    from optix_torch.noisy import NoisyLinear as NoisyLinear
    from optix_torch.noisy import RainbowQNetwork as RainbowQNetwork
    from optix_torch.ppo import TorchPPOAgent as TorchPPOAgent
    from optix_torch.rainbow import TorchRainbowDQNAgent as TorchRainbowDQNAgent
    from optix_torch.recurrent_ppo import (
        TorchRecurrentPPOAgent as TorchRecurrentPPOAgent,
    )
    from optix_torch.sac import TorchSACAgent as TorchSACAgent
    from optix_torch.sb3 import SB3Agent as SB3Agent
    from optix_torch.td3 import TorchTD3Agent as TorchTD3Agent

export(
    globals(),
    {
        "dqn": ("TorchDQNAgent",),
        "gaussian_ppo": ("TorchGaussianPPOAgent",),
        "generic": ("TorchAgent", "TorchWindow"),
        "noisy": ("NoisyLinear", "RainbowQNetwork"),
        "ppo": ("TorchPPOAgent",),
        "rainbow": ("TorchRainbowDQNAgent",),
        "recurrent_ppo": ("TorchRecurrentPPOAgent",),
        "sac": ("TorchSACAgent",),
        "sb3": ("SB3Agent",),
        "td3": ("TorchTD3Agent",),
    },
)
