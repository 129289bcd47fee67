"""The end of a population: which policy is kept, and its score."""

import jax
import jax.numpy as jnp

from optix.population.decisions import Parts
from optix.population.round import first_those
from optix.population.state import PopulationState, holder, joined, put
from optix.population.turns import turns
from optix.trees import select, take
from optix.types import LearnerState


def finish(parts: Parts, state: PopulationState) -> PopulationState:
    """Return the state with the best policy of all, scored on keys that no choice saw.

    `Loop.finish` chooses between the best and the last policy of each member, and of the
    best one of all, whose member may have left, all of them on the same keys; the scores
    there choose among them. The members keep what was found of them, so that their
    weights are of scores that no luck has chosen.
    """
    members = joined(state)
    # no replay is needed here, and none is copied
    learner = LearnerState(members.learner.policy, rollout=(), memory=())
    born = state.origins.round
    members = members._replace(
        learner=learner,
        best=members.best._replace(round=members.best.round + born),
    )
    leader = take(members, holder(state.alive, members))._replace(best=state.best)
    pool = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), members, leader)
    counted = jnp.append(state.alive, jnp.isfinite(state.best.score))
    last_rounds = jnp.append(born + members.round, state.round) - 1

    def one(turn, carry):
        bests, pool, order, key, round_ = carry
        place = order[turn]
        member = take(pool, place)._replace(key=key, round=round_)
        return put(bests, place, parts.loop.finish(member).best), *carry[1:]

    carry = pool.best, pool, first_those(counted), state.key, state.round
    bests = turns(counted.sum(), one, carry)[0]
    rounds = jnp.minimum(bests.round, jnp.maximum(last_rounds, 0))
    bests = bests._replace(round=rounds)
    choices = jnp.where(
        counted & jnp.isfinite(bests.choice_score), bests.choice_score, -jnp.inf
    )
    chosen = jnp.argmax(choices)
    best = select(jnp.isfinite(choices[chosen]), take(bests, chosen), state.best)
    own = jax.tree.map(lambda x: x[:-1], bests)
    own = own._replace(round=own.round - born)
    kept = jax.tree.map(
        lambda x, y: jnp.where(state.alive.reshape(-1, *[1] * (x.ndim - 1)), x, y),
        own,
        state.members.best,
    )
    return state._replace(
        best=best,
        tuner=dict(best.hyperparams),
        members=state.members._replace(best=kept),
    )
