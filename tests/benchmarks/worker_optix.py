"""optix at the shared settings: one round of the loop, evaluation included.

Observations are as raw as those of the peers. Rewards of PPO are normalised, as they are
in optix unless switched off: with a last argument `raw` they are not.
"""

import sys

import jax

import optix
from tests.benchmarks.settings import SETTINGS, window_steps
from tests.benchmarks.worker import serve


def build(algorithm, seeds, windows):
    """Return `key -> mean score`; more than one seed run one after another."""
    options = dict(SETTINGS[algorithm])
    if "raw" in sys.argv:
        options["normalize_rewards"] = False
    run = optix.make(
        options.pop("environment"), algorithm, windows_per_round=windows, **options
    )

    def one(key):
        return run.step(run.init(key))[1].score

    if seeds == 1:
        return one
    if seeds < 0:  # vmapped
        return lambda key: jax.vmap(one)(jax.random.split(key, -seeds)).mean()
    return lambda key: jax.lax.map(one, jax.random.split(key, seeds)).mean()


if __name__ == "__main__":
    serve(build, window_steps)
