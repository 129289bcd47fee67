"""Networks behind the `Network` record.

dense: the affine layer. mlp: torsos and the actor-critic of PPO.
"""

from optix.networks.mlp import actor_critic

__all__ = ["actor_critic"]
