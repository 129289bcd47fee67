"""What the scores of a round mean: the best policy, the phase, the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.loop.convergence import (
    Assessment,
    assess,
    has_moved,
    initial_history,
    note_first,
    push,
    recent_mean,
)
from optix.loop.phases import Thresholds, advance, initial_progress
from optix.trees import select, take
from optix.types import (
    MAX_INT32,
    Baseline,
    Best,
    Event,
    History,
    Hyperparams,
    LoopState,
    Phase,
    Policy,
    Progress,
    StopReason,
)

TARGET_ROUNDS = 3  # a target is reached by the mean of so many rounds, not by one


class Judgement(NamedTuple):
    """What the scores of a round mean."""

    score: jax.Array  # [] float32 mean over the sound lanes, NaN if there is none
    best: Best
    history: History
    baseline: Baseline
    moved: jax.Array  # [] bool: the scores are others than those of the first rounds
    assessment: Assessment
    progress: Progress
    non_finite: jax.Array  # [] int32 rounds in a row without a sound lane
    rollback: jax.Array  # [] bool: every lane goes back to the best
    events: jax.Array  # [] int32


def judge(
    state: LoopState,
    policies: Policy,
    scores: jax.Array,
    centre: Hyperparams,
    thresholds: Thresholds,
    rollback: bool,
) -> Judgement:
    """Keep the best policy, assess the history and move the phase.

    Args:
      state: before the round.
      policies: [L, ...] after its training.
      scores: [L] float32, -inf where a lane is not sound or does not stand for the run.
      centre: {name: []} the tuner's hyperparameters, without the probes.
      thresholds: of the phases.
      rollback: whether falling scores take the run back.
    """
    sound = jnp.isfinite(scores)
    some = sound.any()
    mean = jnp.where(sound, scores, 0.0).sum() / sound.sum()  # NaN without any
    leader = jnp.argmax(scores)
    # of equals the newer is kept: a lucky early policy should not stand for ever
    better = some & (scores[leader] >= state.best.score)
    candidate = Best(
        policy=take(policies, leader),
        transforms=take(state.transforms, leader),
        hyperparams=centre,
        score=scores[leader],
        choice_score=scores[leader],
        round=state.round,
    )
    best = select(better, candidate, state.best)
    history = select(some, push(state.history, mean), state.history)
    assessment = assess(history, best.score)
    baseline = note_first(state.baseline, mean)
    moved = has_moved(baseline, assessment)
    baseline = baseline._replace(moved=moved)  # what has moved, has moved
    progress, events, fall = advance(
        state.progress,
        assessment.verdict,
        state.round + 1,
        thresholds,
        moved,
        assessment.settled,
    )
    improved = some & (scores[leader] > state.best.score)
    return Judgement(
        score=mean,
        best=best,
        history=history,
        baseline=baseline,
        moved=moved,
        assessment=assessment,
        progress=progress,
        non_finite=jnp.where(some, 0, state.non_finite + 1),
        rollback=fall & rollback & jnp.isfinite(best.score),
        events=events | bits((improved, Event.IMPROVEMENT)),
    )


def start_afresh(judged: Judgement, broken: jax.Array) -> Judgement:
    """Forget the history where it is `broken` [] bool: other scores follow."""
    return judged._replace(
        history=select(broken, initial_history(), judged.history),
        progress=select(broken, initial_progress(), judged.progress),
    )


def stop_reason(
    state: LoopState,
    judged: Judgement,
    env_steps: jax.Array,
    max_non_finite: int,
    data_finite: jax.Array,
    update_finite: jax.Array,
) -> jax.Array:
    """Return the first reason to end the run after this round, [] int32.

    Args:
      state: before the round.
      judged: what the round's scores mean.
      env_steps: [] int32 so far.
      max_non_finite: rounds in a row without a sound lane that end the run.
      data_finite: [] bool, whether some lane's experience was finite.
      update_finite: [] bool, whether some lane's update was.
    """
    limits = state.limits
    reached = recent_mean(judged.history, TARGET_ROUNDS) >= limits.target_score
    broken = judged.non_finite >= max_non_finite
    dormant = judged.progress.phase == Phase.DORMANT
    # the count stays at its end, and a budget there is none
    steps_spent = env_steps >= limits.max_env_steps
    steps_spent &= limits.max_env_steps < MAX_INT32
    reasons = {
        StopReason.NON_FINITE_DATA: broken & ~data_finite,
        StopReason.NON_FINITE: broken & ~update_finite,
        StopReason.NON_FINITE_SCORE: broken,
        StopReason.TARGET_REACHED: reached,
        StopReason.CONVERGED: dormant & judged.moved,
        StopReason.NO_SIGNAL: dormant,
        StopReason.MAX_ENV_STEPS: steps_spent,
        StopReason.MAX_ROUNDS: state.round + 1 >= limits.max_rounds,
    }
    return jnp.select(
        list(reasons.values()),
        [jnp.int32(reason) for reason in reasons],
        jnp.int32(StopReason.RUNNING),
    )


def bits(*events: tuple[jax.Array, Event]) -> jax.Array:
    """Return the bit mask of the events whose condition holds, [] int32."""
    mask = jnp.int32(0)
    for holds, event in events:
        mask |= jnp.where(holds, jnp.int32(event), 0)
    return mask
