"""What becomes of members that train no more, and of their places."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.loop.judge import bits
from optix.loop.phases import initial_progress
from optix.population.meta import Figures, MetaController, measure
from optix.population.spawning import Reach, distance, spawned
from optix.population.state import Origins, holder, put
from optix.population.turns import turns
from optix.trees import take
from optix.tuners.space import Space
from optix.types import (
    Best,
    Decision,
    Event,
    Loop,
    LoopState,
    StopReason,
)

BROKEN = (
    StopReason.NON_FINITE,
    StopReason.NON_FINITE_DATA,
    StopReason.NON_FINITE_SCORE,
)
_BY_ITSELF = (StopReason.CONVERGED, StopReason.NO_SIGNAL)


class Parts(NamedTuple):
    """What a population is made of; static."""

    loop: Loop
    places: int
    first: int  # members of the beginning
    meta: MetaController
    box: Space | None
    reach: Reach
    patience: int
    in_turn: bool


class Outcome(NamedTuple):
    """What was decided in a round, [P] where members differ."""

    decision: jax.Array  # [P] int32 Decision
    figures: Figures  # [P]
    child: jax.Array  # [P] int32, -1 for nobody


class Work(NamedTuple):
    """What decisions look at and change, one after another."""

    members: LoopState  # [P, ...]
    alive: jax.Array  # [P] bool
    origins: Origins
    boosts: jax.Array  # [3, P] float32
    spawns: jax.Array  # [] int32
    barren: jax.Array  # [] int32
    outcome: Outcome
    events: jax.Array  # [] int32 Event bits
    best: Best  # from here on only looked at
    due: jax.Array  # [P] bool: members that train no more since this round
    order: jax.Array  # [P] int32 places, those that are due first
    max_spawns: jax.Array  # [] int32
    round: jax.Array  # [] int32
    key: jax.Array  # [] PRNG key of the round


def any_of(reason: jax.Array, reasons: tuple[StopReason, ...]) -> jax.Array:
    """Return whether a reason [...] is one of several, [...] bool."""
    return jnp.isin(reason, jnp.array(reasons, jnp.int32))


def no_outcome(places: int) -> Outcome:
    """Return the outcome of a round without a decision."""
    zeros = jnp.zeros(places, jnp.float32)
    return Outcome(
        decision=jnp.full(places, Decision.NONE, jnp.int32),
        figures=Figures(zeros, zeros, zeros),
        child=jnp.full(places, -1, jnp.int32),
    )


def decide_all(parts: Parts, work: Work) -> Work:
    """Return what becomes of all members that are due; nothing is computed if none is."""
    return turns(work.due.sum(), lambda turn, work: decide(parts, turn, work), work)


def decide(parts: Parts, turn: jax.Array, work: Work) -> Work:
    """Decide on one member, and spawn another one if that follows.

    A member that is not finite leaves whatever the figures are, and who holds the best
    policy stays. A member brought something if its best score lies above what was the
    best when it began, by more than a deviation of its scores: the best of many noisy
    scores always does by a little.
    """
    slot = work.order[turn]
    due = work.due[slot]
    member, outcome = take(work.members, slot), work.outcome
    figures_key, spawn_key = jax.random.split(jax.random.fold_in(work.key, slot))
    figures, deviation = measure(parts.loop, member, figures_key, parts.meta.scores)
    gained = member.best.score > work.origins.to_beat[slot] + deviation
    barren = jnp.where(gained, 0, work.barren + 1)
    spawns_left = jnp.where(barren < parts.patience, work.max_spawns - work.spawns, 0)
    broken = any_of(member.stop_reason, BROKEN)
    decision = verdict(parts.meta, figures, spawns_left, member.stop_reason)

    best_held = slot == holder(work.alive, work.members)
    leaves = due & (decision == Decision.PRUNE) & (broken | ~best_held)
    goes_on = due & (decision == Decision.GO_ON)
    alive = work.alive & ~(leaves & (jnp.arange(parts.places) == slot))
    trains_on = member._replace(
        progress=initial_progress(), stop_reason=jnp.int32(StopReason.RUNNING)
    )
    members = put_small(work.members, slot, trains_on, goes_on)
    work = work._replace(
        members=members, alive=alive, barren=jnp.where(due, barren, work.barren)
    )

    follows = (decision == Decision.SPAWN) | (decision == Decision.PRUNE)
    follows &= due & (spawns_left > 0)
    work, place, replaced = spawn(parts, work, spawn_key, follows)
    events = bits((leaves | (follows & replaced), Event.PRUNE), (follows, Event.SPAWN))
    row = Outcome(decision, figures, jnp.where(follows, place, -1))
    return work._replace(
        outcome=put(outcome, slot, row, due), events=work.events | events
    )


def verdict(
    meta: MetaController, figures: Figures, spawns_left: jax.Array, reason: jax.Array
) -> jax.Array:
    """Return the decision on a member that stopped for a reason, [] int32.

    A member that is broken can only be pruned, and one that has spent its own budget can
    not go on: another one takes up what is left to gain.
    """
    decision = jnp.asarray(meta.decide(figures, spawns_left), jnp.int32)
    spent = (decision == Decision.GO_ON) & ~any_of(reason, _BY_ITSELF)
    decision = jnp.where(spent, Decision.SPAWN, decision)
    in_vain = (decision == Decision.SPAWN) & (spawns_left <= 0)
    decision = jnp.where(in_vain, Decision.STOP, decision)
    return jnp.where(any_of(reason, BROKEN), Decision.PRUNE, decision).astype(jnp.int32)


def spawn(
    parts: Parts, work: Work, key: jax.Array, follows: jax.Array
) -> tuple[Work, jax.Array, jax.Array]:
    """Put a new member into a place, if it `follows` [] bool.

    Returns:
      What became of it; the place [] int32; and whether a policy there had to leave.
    """
    place = free_place(work.alive, work.members)
    replaced = work.alive[place]
    which, share, width = distance(parts.reach, work.barren)
    parent = holder(work.alive, work.members)
    parent = jnp.where(work.alive.any(), parent, place)
    new = spawned(
        parts.loop,
        work.best,
        take(work.members, parent),
        parts.box,
        share,
        width,
        key,
    )
    origin = Origins(
        parent=jnp.where(share >= 1, -1, parent).astype(jnp.int32),
        reach=which.astype(jnp.int32),
        round=work.round + 1,
        to_beat=work.best.score,
    )
    here = follows & (jnp.arange(parts.places) == place)
    work = work._replace(
        members=put(work.members, place, new, follows),
        alive=work.alive | here,
        origins=put(work.origins, place, origin, follows),
        boosts=jnp.where(here, 1.0, work.boosts),
        spawns=work.spawns + follows,
    )
    return work, place.astype(jnp.int32), replaced


def free_place(alive: jax.Array, members: LoopState) -> jax.Array:
    """Return where a new member goes, [] int32.

    A free place; else that of the lowest score among those that train no more and do not
    hold the best policy; else that of the best policy, which the population remembers.
    """
    scores = members.best.score
    best_held = jnp.arange(alive.shape[0]) == holder(alive, members)
    cost = jnp.select([~alive, members.active, best_held], [0, 3, 2], 1)
    return jnp.argmin(jnp.where(cost == cost.min(), scores, jnp.inf))


def put_small(
    members: LoopState, place: jax.Array, row: LoopState, when: jax.Array
) -> LoopState:
    """Return the members with only phase and stop reason of `row` at a place."""
    progress = put(members.progress, place, row.progress, when)
    reasons = put(members.stop_reason, place, row.stop_reason, when)
    return members._replace(progress=progress, stop_reason=reasons)
