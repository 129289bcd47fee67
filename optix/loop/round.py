"""One round: train and score every lane, judge, transform, fork, decide on the end."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop.curve import record
from optix.loop.judge import Judgement, bits, judge, start_afresh, stop_reason
from optix.loop.lanes import fork, freeze, over_lanes
from optix.loop.phases import Thresholds
from optix.trees import all_finite, differs, saturating_add
from optix.types import (
    MAX_INT32,
    Event,
    Hyperparams,
    Learner,
    LearnerState,
    LoopState,
    Phase,
    PyTree,
    Report,
    Signals,
    StepReport,
    StopReason,
    Transform,
    Tuner,
)


class Parts(NamedTuple):
    """What a round is made of; static."""

    learner: Learner
    tuner: Tuner
    transform: Transform
    score: Callable  # (policy, hyperparams, key) -> []
    defaults: Mapping[str, float]  # of all hyperparameters
    thresholds: Thresholds
    windows_per_round: int
    keep_trajectory: bool  # whether a transform may look at it
    rollback: bool
    max_non_finite: int


class Keys(NamedTuple):
    """The keys of a round."""

    train: jax.Array  # [] or [L] where lanes do not share their random numbers
    score: jax.Array  # []
    tell: jax.Array  # []
    begin: jax.Array  # []
    transform: jax.Array  # []


def step(parts: Parts, state: LoopState) -> tuple[LoopState, StepReport]:
    """Play one round; a stopped state stays as it is.

    The order of a round in one place, hence its length; each part is a function of its
    own below.
    """
    lanes, tuner, defaults = parts.tuner.lanes, parts.tuner, parts.defaults
    keys = keys_of(parts, state)
    hyperparams = modulate(tuner.ask(state.tuner), state.modulation, tuner.bounds)
    trained, reports, scores, sound = train_and_score(parts, state, hyperparams, keys)

    centre = tuner.centre(state.tuner)
    stands = jnp.arange(lanes) < (tuner.judged or lanes)  # for the run
    judged = judge(
        state,
        trained.policy,
        jnp.where(stands, scores, -jnp.inf),
        centre,
        parts.thresholds,
        parts.rollback,
    )
    signals = signals_of(state, judged, scores, hyperparams, reports, keys)

    # each lane sees its own report, and only then is any of them forked
    transform_states, policies, rollouts, factors = over_lanes(
        lanes, parts.transform.update, (0, 0, 0, 0, _SIGNAL_AXES), 0
    )(state.transforms, trained.policy, trained.rollout, reports, signals)
    checks.known_names("modulated hyperparameter", factors, defaults)
    modulation = {
        name: jnp.float32(factors.get(name, jnp.ones(lanes))) for name in defaults
    }
    changed = jax.vmap(differs)(
        (sound, trained.policy.structure), (sound, policies.structure)
    )

    found = diagnoses(parts.transform, transform_states, stands)

    # from where each lane goes on: the last row of the pool is the best policy
    tuner_state, parents = tuner.tell(state.tuner, signals, keys.tell)
    usable = jnp.append(sound & jax.vmap(all_finite)(policies), True)[parents]
    parents = jnp.where(usable & ~judged.rollback, parents, lanes)
    # a change in a lane that nobody goes on from is none
    restructured = jnp.append(changed, False)[parents].any()
    judged = start_afresh(judged, judged.rollback | restructured)
    best = judged.best
    policies, rollouts, transform_states, modulation = fork(
        parents,
        (policies, rollouts, transform_states, modulation),
        (
            best.policy,
            parts.learner.begin(best.policy, keys.begin),
            best.transforms,
            {name: jnp.float32(1) for name in modulation},
        ),
    )

    env_steps = saturating_add(state.env_steps, reports.env_steps.sum())
    data_finite = jnp.any(stands & reports.data_finite)
    reason = stop_reason(
        state,
        judged,
        env_steps,
        parts.max_non_finite,
        data_finite=data_finite,
        update_finite=jnp.any(
            stands & reports.finite & jax.vmap(all_finite)(trained.policy)
        ),
    )
    stopped = reason != StopReason.RUNNING
    phase = jnp.where(stopped, Phase.STOPPED, judged.progress.phase)
    curve = record(state.curve, state.curve_stride, state.round, judged.score)
    new = state._replace(
        learner=LearnerState(policies, rollouts),
        transforms=transform_states,
        modulation=modulation,
        tuner=tuner_state,
        best=best,
        history=judged.history,
        baseline=judged.baseline,
        curve=curve[0],
        curve_stride=curve[1],
        round=state.round + 1,
        env_steps=env_steps,
        progress=judged.progress._replace(phase=phase),
        stop_reason=reason,
        non_finite=judged.non_finite,
    )
    new_centre = tuner.centre(tuner_state)
    copied = (parents != jnp.arange(lanes)) & (parents < lanes)
    events = judged.events | found
    events |= bits(
        (differs(centre, new_centre), Event.HYPERPARAMS),
        ((parents == lanes).any(), Event.ROLLBACK),
        (copied.any(), Event.COPY),
        (~sound.all(), Event.NON_FINITE),
        (restructured, Event.STRUCTURE),
        (stopped, Event.STOPPED),
    )
    report = StepReport(
        round=state.round,
        env_steps=env_steps,
        score=judged.score,
        lane_scores=scores,
        best_score=best.score,
        hyperparams=hyperparams,
        centre=new_centre,
        phase=phase,
        verdict=judged.assessment.verdict,
        events=jnp.where(state.active, events, 0),
        stop_reason=reason,
        metrics=jax.tree.map(_mean, reports.metrics),
    )
    return freeze(state, new, trained.memory), report


def keys_of(parts: Parts, state: LoopState) -> Keys:
    """Return the keys of the round; lanes train with the same ones unless told not to."""
    round_key = jax.random.fold_in(state.key, state.round)
    train_key, score_key, tell_key, begin_key = jax.random.split(round_key, 4)
    if not parts.tuner.common_random_numbers:
        train_key = jax.random.split(train_key, parts.tuner.lanes)
    # none of the four above
    return Keys(
        train_key,
        score_key,
        tell_key,
        begin_key,
        jax.random.fold_in(round_key, MAX_INT32),
    )


def train(
    parts: Parts,
    state: LearnerState,
    hyperparams: Hyperparams,
    key: jax.Array,
    active: jax.Array,
) -> tuple[LearnerState, Report]:
    """Play the windows of a round in one lane; the last one's trajectory is kept."""

    def window(carry, key):
        state, report = parts.learner.step(carry[0], hyperparams, key, active)
        data_finite = jnp.asarray(report.data_finite)
        # a trajectory that no transform looks at is not carried along
        trajectory = report.trajectory if parts.keep_trajectory else ()
        report = report._replace(trajectory=(), data_finite=data_finite)
        return (state, trajectory), report

    carry = state, ()
    if parts.windows_per_round == 1:
        carry, report = window(carry, key)
    else:
        if parts.keep_trajectory:  # the scan wants to know a trajectory's shapes
            shapes = jax.eval_shape(window, carry, key)[0][1]
            unseen = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            carry = state, unseen
        keys = jax.random.split(key, parts.windows_per_round)
        carry, reports = jax.lax.scan(window, carry, keys)
        report = Report(
            env_steps=reports.env_steps.sum(),
            finite=reports.finite.all(),
            metrics=jax.tree.map(_mean, reports.metrics),
            data_finite=reports.data_finite.all(),
        )
    state, trajectory = carry
    return state, report._replace(trajectory=trajectory)


def train_and_score(
    parts: Parts, state: LoopState, hyperparams: Hyperparams, keys: Keys
) -> tuple[LearnerState, Report, jax.Array, jax.Array]:
    """Train every lane and score it once.

    Returns:
      The lanes' state, memory shared; their reports [L]; scores [L], -inf where a lane
      is not sound; and whether it is, [L].
    """
    lanes = parts.tuner.lanes
    axes = LearnerState._make((0, 0, None))
    key_axis = None if parts.tuner.common_random_numbers else 0

    trained, reports = over_lanes(
        lanes, partial(train, parts), (axes, 0, key_axis, None), (axes, 0)
    )(state.learner, hyperparams, keys.train, state.active)
    scores = over_lanes(lanes, parts.score, (0, 0, None), 0)(
        trained.policy, hyperparams, keys.score
    )
    scores = scores.astype(jnp.float32)
    sound = reports.finite & jnp.isfinite(scores)
    sound &= jax.vmap(all_finite)(trained.policy)
    return trained, reports, jnp.where(sound, scores, -jnp.inf), sound


def signals_of(
    state: LoopState,
    judged: Judgement,
    scores: jax.Array,
    hyperparams: Hyperparams,
    reports: Report,
    keys: Keys,
) -> Signals:
    """Return what tuner and transforms are told, with an axis [L] where lanes differ."""
    return Signals(
        score=scores,
        round=state.round,
        phase=judged.progress.phase,
        verdict=judged.assessment.verdict,
        gain_limit=judged.assessment.gain_limit,
        autocorrelation=judged.assessment.autocorrelation,
        improved=(judged.events & Event.IMPROVEMENT) > 0,
        hyperparams=hyperparams,
        metrics=reports.metrics,
        key=keys.transform,
    )


def diagnoses(transform: Transform, states: PyTree, stands: jax.Array) -> jax.Array:
    """Return the Event bits [] int32 of what transforms found in lanes that count [L]."""
    if transform.events is None:
        return jnp.int32(0)
    found = jnp.where(stands, jax.vmap(transform.events)(states), 0)
    return jnp.bitwise_or.reduce(found)


# of the fields in order: those of a lane, and those that all share
_SIGNAL_AXES = Signals._make((0, *[None] * 6, 0, 0, None))


def _mean(values: jax.Array) -> jax.Array:
    """The mean of [N] metrics; -inf, which is of nothing yet, counts only alone."""
    known = values != -jnp.inf
    total = jnp.where(known, values, 0).sum()
    return jnp.where(known.any(), total / jnp.maximum(known.sum(), 1), -jnp.inf)


def modulate(
    asked: Hyperparams,
    modulation: Mapping[str, jax.Array],
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, jax.Array]:
    """Multiply what the tuner asked by the transforms' factors, within bounds.

    What was asked beyond them, as a run was given it, is no further beyond.
    """
    hyperparams = {}
    for name, wanted in asked.items():
        value = jnp.float32(wanted * modulation[name])
        if name in bounds:
            low, high = bounds[name]
            value = jnp.clip(value, jnp.minimum(low, wanted), jnp.maximum(high, wanted))
        hyperparams[name] = value
    return hyperparams
