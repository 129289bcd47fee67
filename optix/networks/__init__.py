"""Networks behind the `Network` record.

dense: the affine layer. mlp: torsos and the actor-critic of PPO. recurrent: the same with
a memory. values: of discrete actions. continuous: actors and critics. noisy: noise in
weights. module: flax modules as a `Network`.
"""
