"""TensorFlow agents in optix's loop, of Keras 3 models.

ppo, gaussian_ppo, dqn, sac, td3: an agent each. agent, on_policy, off_policy, critics:
what they share beyond `optix.host`. state: models and optimizers as arrays, and files of
them. actions: distributions. networks: layers. given: models and optimizers, checked.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix_tensorflow.dqn import TFDQNAgent as TFDQNAgent
    from optix_tensorflow.gaussian_ppo import TFGaussianPPOAgent as TFGaussianPPOAgent
    from optix_tensorflow.ppo import TFPPOAgent as TFPPOAgent
    from optix_tensorflow.sac import TFSACAgent as TFSACAgent
    from optix_tensorflow.td3 import TFTD3Agent as TFTD3Agent
    from optix_tensorflow.td3 import TFTDDAgent as TFTDDAgent

export(
    globals(),
    {
        "dqn": ("TFDQNAgent",),
        "gaussian_ppo": ("TFGaussianPPOAgent",),
        "ppo": ("TFPPOAgent",),
        "sac": ("TFSACAgent",),
        "td3": ("TFTD3Agent", "TFTDDAgent"),
    },
)
