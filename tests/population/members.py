"""A learner whose score is its rate, so that a population of it is a search by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.types import Learner, LearnerState, Policy, Report

BOX = {"rate": (0.0, 1.0)}
LIFE = 60  # rounds until the first verdict, which is flat and ends a member
STEPS = 10  # of a round


def rate_learner(broken_above=np.inf):
    """The score is `rate`; weights count the windows, and break above a rate."""

    def init(key):
        params = {"weights": jax.random.uniform(key, (3,))}
        return LearnerState(Policy(params, (), jnp.float32(7), ()), jnp.int32(0))

    def step(state, hyperparams, key, active):
        del key, active
        broken = hyperparams["rate"] > broken_above
        weights = state.policy.params["weights"] + jnp.where(broken, jnp.nan, 1.0)
        policy = state.policy._replace(params={"weights": weights})
        report = Report(jnp.int32(STEPS), ~broken, {"return": hyperparams["rate"]})
        return LearnerState(policy, state.rollout + 1, state.memory), report

    def evaluate(policy, hyperparams, key):
        del policy, key
        return hyperparams["rate"]

    return Learner(init, lambda p, k: jnp.int32(0), step, evaluate, {"rate": 0.5})


def rate_loop(learner=None, **options):
    """Its loop: a member lives for `LIFE` rounds."""
    options = {
        "dormant_threshold": 1,
        "min_rounds_before_dormant": 0,
        "min_rounds_without_signal": 0,
        "final_scores": 2,
        "max_non_finite": 2,
        **options,
    }
    return loop(learner or rate_learner(), fixed(), **options)


def played(run, rounds):
    """Return `state -> (state, reports [rounds, ...])`."""

    def play(state):
        return jax.lax.scan(lambda s, _: run.step(s), state, None, length=rounds)

    return play
