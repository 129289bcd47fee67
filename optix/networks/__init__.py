"""Networks behind the `Network` record.

dense: the affine layer. mlp: torsos and the actor-critic of PPO.
"""
