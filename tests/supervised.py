"""A small supervised run for the driver: linear regression from a shared replay."""

from optix.loop.loop import loop
from optix.tuners.spsa import spsa
from tests.toys import replay_learner


def supervised(**options):
    """The loop, tuned on two lanes; 60 rounds unless told otherwise."""
    tuner = spsa({"rate": (0.001, 0.2)}, lanes=2)
    options = {"max_rounds": 60, "dormant_threshold": 10**6, **options}
    return loop(replay_learner(64, lanes=2), tuner, final_scores=2, **options)
