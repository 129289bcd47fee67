"""One round of a population."""

from typing import Any, cast

import jax
import jax.numpy as jnp

from optix.loop.curve import record
from optix.loop.judge import bits
from optix.population.decisions import (
    BROKEN,
    Outcome,
    Parts,
    Work,
    any_of,
    decide_all,
    no_outcome,
)
from optix.population.duties import weights
from optix.population.state import PopulationState, holder, joined, parted, put
from optix.population.turns import turns
from optix.trees import differs, saturating_add, select, take
from optix.types import (
    MAX_INT32,
    Best,
    Event,
    LoopState,
    Members,
    Phase,
    StepReport,
    StopReason,
)

_OF_ONE = Event.IMPROVEMENT | Event.HYPERPARAMS | Event.STOPPED  # not of all together


def step(parts: Parts, state: PopulationState) -> tuple[PopulationState, StepReport]:
    """Play one round; a population that has stopped stays as it is."""
    before = under_limits(state)
    trained = before.active
    members, reports = play(parts, before, trained)
    used = jnp.where(trained, members.env_steps - before.env_steps, 0)
    env_steps = saturating_add(state.env_steps, used.sum())
    best, better = best_of(state, members, trained)

    stopped_now = trained & ~members.active
    reached = stopped_now & (members.stop_reason == StopReason.TARGET_REACHED)
    due = stopped_now & ~reached
    work = decide_all(
        parts,
        Work(
            members=members,
            alive=state.alive,
            origins=state.origins,
            boosts=state.boosts,
            spawns=state.spawns,
            barren=state.barren,
            outcome=no_outcome(parts.places),
            events=jnp.int32(0),
            best=best,
            due=due,
            order=first_those(due),
            max_spawns=state.max_spawns,
            round=state.round,
            key=jax.random.fold_in(state.key, state.round),
        ),
    )
    reason = stop_reason(state, work, env_steps, reached.any())
    stopped = reason != StopReason.RUNNING
    phases = jnp.where(work.members.active, work.members.progress.phase, Phase.STOPPED)
    score = best_score_of_round(reports, trained)
    curve = record(state.curve, state.curve_stride, state.round, score)
    new = state._replace(
        **cast(Any, parted(work.members)),
        alive=work.alive,
        origins=work.origins,
        boosts=work.boosts,
        tuner=dict(best.hyperparams),
        best=best,
        spawns=work.spawns,
        barren=work.barren,
        curve=curve[0],
        curve_stride=curve[1],
        round=state.round + 1,
        env_steps=env_steps,
        progress=state.progress._replace(
            phase=jnp.where(stopped, Phase.STOPPED, phases.min()).astype(jnp.int32)
        ),
        stop_reason=reason,
    )
    events = jnp.where(trained, reports.events, 0)
    events = jax.lax.reduce(events, jnp.int32(0), jax.lax.bitwise_or, (0,))
    events = (events & ~_OF_ONE) | work.events
    events |= bits(
        (better, Event.IMPROVEMENT),
        (differs(state.tuner, new.tuner), Event.HYPERPARAMS),
        (stopped, Event.STOPPED),
    )
    report = StepReport(
        round=state.round,
        env_steps=env_steps,
        score=score,
        lane_scores=jnp.where(trained, reports.score, -jnp.inf),
        best_score=best.score,
        hyperparams=reports.centre,
        centre=new.tuner,
        phase=new.progress.phase,
        verdict=take(reports.verdict, holder(trained, members)),
        events=jnp.where(state.active, events, 0),
        stop_reason=reason,
        metrics={
            name: mean_of(values, trained) for name, values in reports.metrics.items()
        },
        members=members_report(new, members, reports, trained, work.outcome),
    )
    return freeze(state, new), report


def under_limits(state: PopulationState) -> LoopState:
    """Return the members as they begin the round, [P, ...].

    The target is that of the population. Who has reached it trains on if the population
    does, so it has been raised; nobody trains in one that has stopped.
    """
    members = joined(state)
    target = jnp.broadcast_to(
        state.limits.target_score, members.limits.target_score.shape
    )
    reached = members.stop_reason == StopReason.TARGET_REACHED
    going = state.alive & (members.active | reached)
    reason = jnp.where(going & reached, StopReason.RUNNING, members.stop_reason)
    frozen = jnp.where(going, StopReason.SETTLED, members.stop_reason)
    phase = jnp.where(going & reached, Phase.ACTIVE, members.progress.phase)
    return members._replace(
        limits=members.limits._replace(target_score=target),
        progress=members.progress._replace(phase=phase.astype(jnp.int32)),
        stop_reason=jnp.where(state.active, reason, frozen).astype(jnp.int32),
    )


def play(
    parts: Parts, members: LoopState, trained: jax.Array
) -> tuple[LoopState, StepReport]:
    """Play a round of the members that train; return all, and the reports [P, ...]."""
    if not parts.in_turn:
        return jax.vmap(parts.loop.step)(members)
    shapes = jax.eval_shape(parts.loop.step, take(members, 0))[1]
    reports = jax.tree.map(
        lambda leaf: jnp.zeros((parts.places, *leaf.shape), leaf.dtype), shapes
    )

    def one(turn, carry):
        members, reports, order = carry
        place = order[turn]
        member, report = parts.loop.step(take(members, place))
        return put(members, place, member), put(reports, place, report), order

    carry = members, reports, first_those(trained)
    members, reports, _ = turns(trained.sum(), one, carry)
    return members, reports


def first_those(chosen: jax.Array) -> jax.Array:
    """Return all places [P] int32, those that are chosen [P] bool first."""
    return jnp.argsort(~chosen, stable=True).astype(jnp.int32)


def best_of(
    state: PopulationState, members: LoopState, trained: jax.Array
) -> tuple[Best, jax.Array]:
    """Return the best policy so far, and whether it is a better one, [] bool."""
    place = holder(trained, members)
    score = jnp.where(trained.any(), members.best.score[place], -jnp.inf)
    # of equals the newer is kept, as a loop does
    newer = members.best.round[place] == members.round[place] - 1
    taken = (score > state.best.score) | ((score == state.best.score) & newer)
    taken &= jnp.isfinite(score)
    candidate = take(members.best, place)._replace(round=state.round)
    return select(taken, candidate, state.best), score > state.best.score


def stop_reason(
    state: PopulationState, work: Work, env_steps: jax.Array, reached: jax.Array
) -> jax.Array:
    """Return the first reason to end the population after this round, [] int32."""
    limits = state.limits
    # of the last member, where no other has ever been
    last = work.members.stop_reason[work.order[0]]
    alone = (work.spawns == 0) & (state.alive.sum() == 1)
    budgets = (last == StopReason.MAX_ROUNDS) | (last == StopReason.MAX_ENV_STEPS)
    hopeless = any_of(last, BROKEN) & ~jnp.isfinite(work.best.score)
    own = (alone & ~budgets) | hopeless
    spent = (env_steps >= limits.max_env_steps) & (limits.max_env_steps < MAX_INT32)
    reasons = [
        (StopReason.TARGET_REACHED, reached),
        (jnp.where(own, last, StopReason.SETTLED), ~work.members.active.any()),
        (StopReason.MAX_ENV_STEPS, spent),
        (StopReason.MAX_ROUNDS, state.round + 1 >= limits.max_rounds),
    ]
    return jnp.select(
        [holds for _, holds in reasons],
        [jnp.int32(reason) for reason, _ in reasons],
        jnp.int32(StopReason.RUNNING),
    )


def best_score_of_round(reports: StepReport, trained: jax.Array) -> jax.Array:
    """Return the highest score of the round, [] float32; NaN if none is finite."""
    known = trained & jnp.isfinite(reports.score)
    highest = jnp.where(known, reports.score, -jnp.inf).max()
    return jnp.where(known.any(), highest, jnp.nan)


def mean_of(values: jax.Array, trained: jax.Array) -> jax.Array:
    """The mean of the metric [P] of those that trained; -inf counts only alone."""
    known = trained & (values != -jnp.inf)
    total = jnp.where(known, values, 0).sum()
    return jnp.where(known.any(), total / jnp.maximum(known.sum(), 1), -jnp.inf)


def members_report(
    state: PopulationState,
    played: LoopState,
    reports: StepReport,
    trained: jax.Array,
    outcome: Outcome,
) -> Members:
    """Return what there is to tell of each place after a round.

    Args:
      state: after the round.
      played: the members before anything was decided, [P, ...].
      reports: of those that trained, [P, ...].
      trained: which, [P] bool.
      outcome: what was decided.
    """
    return Members(
        trained=trained,
        alive=state.alive,
        weight=weights(state),
        round=jnp.maximum(played.round - 1, 0),
        env_steps=played.env_steps,
        score=reports.score,
        best_score=played.best.score,
        phase=played.progress.phase,
        verdict=reports.verdict,
        events=reports.events,
        stop_reason=played.stop_reason,
        decision=outcome.decision,
        gap=outcome.figures.gap,
        gap_slope=outcome.figures.gap_slope,
        gain_limit=outcome.figures.gain_limit,
        child=outcome.child,
        parent=state.origins.parent,
        reach=state.origins.reach,
        spawns=state.spawns,
    )


def freeze(old: PopulationState, new: PopulationState) -> PopulationState:
    """Return `new` while `old` is active, else `old`, as a loop does.

    Nobody has trained in a population that has stopped, so its replays are as they were.
    """

    def selected(state):
        return state._replace(key=(), learner=state.learner._replace(memory=()))

    state = select(old.active, selected(new), selected(old))
    learner = state.learner._replace(memory=new.learner.memory)
    return state._replace(key=old.key, learner=learner)
