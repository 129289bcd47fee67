"""PPO of optix at the shared settings: one round of the loop, evaluation included.

Observations are as raw as those of rejax. Rewards are normalised, as they are in optix
unless switched off: with a third argument `raw` they are not.
"""

import sys

import jax

import optix
from tests.benchmarks.settings import PPO
from tests.benchmarks.worker import serve


def build(seeds, windows):
    """Return `key -> mean score`; more than one seed run one after another."""
    run = optix.make(
        **PPO,
        normalize_observations=False,
        normalize_rewards="raw" not in sys.argv,
        deterministic_evaluation=False,
        windows_per_round=windows,
    )

    def one(key):
        return run.step(run.init(key))[1].score

    if seeds == 1:
        return one
    if seeds < 0:  # vmapped
        return lambda key: jax.vmap(one)(jax.random.split(key, -seeds)).mean()
    return lambda key: jax.lax.map(one, jax.random.split(key, seeds)).mean()


if __name__ == "__main__":
    serve(build)
