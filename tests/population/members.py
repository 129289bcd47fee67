"""A learner whose score is its rate, so that a population of it is a search by hand."""

import jax
import jax.numpy as jnp

from optix.loop.convergence import SETTLED_AFTER
from optix.loop.loop import loop
from optix.population.population import population
from optix.tuners.fixed import fixed
from optix.types import Learner, LearnerState, Policy, Report
from tests.toys import replay_learner

BOX = {"rate": (0.0, 1.0)}
LIFE = SETTLED_AFTER  # rounds of a member, whose scores are all equal
STEPS = 10  # of a round
LATE, SPAWNS = 6, 3  # of the regression


def rate_learner():
    """The score is `rate`; weights count the windows, and break above `sound`."""

    def init(key):
        params = {"weights": jax.random.uniform(key, (3,))}
        return LearnerState(Policy(params, (), jnp.float32(7), ()), jnp.int32(0))

    def step(state, hyperparams, key, active):
        del key, active
        broken = hyperparams["rate"] > hyperparams["sound"]
        weights = state.policy.params["weights"] + jnp.where(broken, jnp.nan, 1.0)
        policy = state.policy._replace(params={"weights": weights})
        report = Report(jnp.int32(STEPS), ~broken, {"return": hyperparams["rate"]})
        return LearnerState(policy, state.rollout + 1, state.memory), report

    def evaluate(policy, hyperparams, key):
        del policy, key
        return hyperparams["rate"]

    defaults = {"rate": 0.5, "sound": 2.0}
    return Learner(init, lambda p, k: jnp.int32(0), step, evaluate, defaults)


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


def regression():
    """A population of two, each with a replay, who live for `LATE` rounds."""
    member = loop(replay_learner(32), fixed(), max_rounds=LATE, final_scores=2)
    return population(member, 2, bounds={"rate": (0.001, 0.2)}, max_spawns=SPAWNS)


def played(run, rounds):
    """Return `state -> (state, reports [rounds, ...])`."""

    def play(state):
        return jax.lax.scan(lambda s, _: run.step(s), state, None, length=rounds)

    return play
