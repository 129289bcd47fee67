"""optix at the shared settings: one round of the loop, evaluation included.

Observations are as raw as those of the peers. Rewards of PPO are normalised, as they are
in optix unless switched off: with a last argument `raw` they are not.
"""

import sys

import jax

import optix
from tests.benchmarks.flat import FlatBreakout
from tests.benchmarks.settings import settings_of, window_steps
from tests.benchmarks.worker import serve


def made(settings, algorithm, windows, raw):
    """Return the run at the settings; `raw` leaves rewards as they are."""
    options = dict(settings)
    if raw:
        options["normalize_rewards"] = False
    environment = options.pop("environment")
    if options.pop("flat", False):
        environment = FlatBreakout()
    return optix.make(environment, algorithm, windows_per_round=windows, **options)


def build(algorithm, seeds, windows):
    """Return `key -> mean score`; more than one seed run one after another."""
    run = made(settings_of(algorithm), algorithm, windows, "raw" in sys.argv)

    def one(key):
        return run.step(run.init(key))[1].score

    if seeds == 1:
        return one
    if seeds < 0:  # vmapped
        return lambda key: jax.vmap(one)(jax.random.split(key, -seeds)).mean()
    return lambda key: jax.lax.map(one, jax.random.split(key, seeds)).mean()


if __name__ == "__main__":
    serve(build, window_steps)
