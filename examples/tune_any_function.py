"""A tuner without the loop: ask it for values, tell it what came of them.

Here of a noisy function whose best value moves from 1e-2 to 1e-4 meanwhile.
"""

import sys

import jax
import jax.numpy as jnp

from optix.tuners.spsa import spsa
from optix.types import Signals

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 400

tuner = spsa({"rate": (1e-6, 1.0)})
state = tuner.init({"rate": 0.5}, jax.random.key(0))
for number, key in enumerate(jax.random.split(jax.random.key(1), ROUNDS)):
    rates = tuner.ask(state)["rate"]  # [2], one of each lane
    best = 10.0 ** (-2 - 2 * number / ROUNDS)
    noise = jax.random.normal(key, rates.shape)
    score = -(jnp.log(rates / best) ** 2) + noise
    state, parents = tuner.tell(state, Signals(score), key)  # lanes to go on from
print(f"rate {tuner.centre(state)['rate']:.1e} at the end, the best one is 1.0e-04")
