"""The state machine ACTIVE -> COOLING -> DORMANT, driven by verdicts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.types import Event, Phase, Progress, Verdict


class Thresholds(NamedTuple):
    """How many verdicts it takes; static. Smaller ones stop sooner and more wrongly."""

    plateau: int = 5  # flat verdicts to COOLING
    dormant: int = 65  # flat verdicts to DORMANT; a pause of 100 rounds fits in between
    min_rounds: int = 100  # no DORMANT before
    min_rounds_without_signal: int = 300  # nor before, if the scores have never moved
    degradations: int = 5  # degrading verdicts in a row to a rollback


SETTLED = Thresholds().dormant  # so many flat verdicts are scores that have settled


def initial_progress() -> Progress:
    """Return the progress of a run that begins."""
    return Progress(jnp.int32(Phase.ACTIVE), jnp.int32(0), jnp.int32(0))


def advance(
    progress: Progress,
    verdict: jax.Array,
    round_count: jax.Array,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 immutable
    moved: jax.Array | bool = True,
    settled: jax.Array | bool = False,
) -> tuple[Progress, jax.Array, jax.Array]:
    """Take one verdict into account.

    An improving verdict makes the run ACTIVE and its counters zero. A flat one counts
    towards COOLING and DORMANT, and so does a degrading one, since it gains nothing
    either. An undecided one changes nothing. Scores that have settled at the best count
    as 65. Consistent degradation asks for a rollback
    and starts counting afresh. STOPPED is final.

    Args:
        progress: where the run stands.
        verdict: [] int32 `Verdict` of this round.
        round_count: [] int32 rounds so far, this one included.
        thresholds: how many verdicts each change takes.
        moved: [] bool, whether the scores are others than those of the first rounds.
        settled: [] bool, whether the scores looked at are all equal, and the best.

    Returns:
        The progress after the round; the events [] int32: PLATEAU in every round that
        ends COOLING, DORMANT in every round that ends DORMANT, DEGRADATION with a
        rollback; and rollback, [] bool.
    """
    improving = verdict == Verdict.IMPROVING
    falling = verdict == Verdict.DEGRADING
    gains_nothing = (verdict == Verdict.FLAT) | falling
    stagnant = jnp.where(improving, 0, progress.stagnant + gains_nothing)
    stagnant = jnp.where(settled, jnp.maximum(stagnant, SETTLED), stagnant)
    decided = verdict != Verdict.UNDECIDED
    degrading = jnp.where(decided & ~falling, 0, progress.degrading + falling)

    min_rounds = jnp.where(
        moved, thresholds.min_rounds, thresholds.min_rounds_without_signal
    )
    phase = jnp.select(
        [
            progress.phase == Phase.STOPPED,
            (stagnant >= thresholds.dormant) & (round_count >= min_rounds),
            stagnant >= thresholds.plateau,
        ],
        [Phase.STOPPED, Phase.DORMANT, Phase.COOLING],
        Phase.ACTIVE,
    ).astype(jnp.int32)
    rollback = (degrading >= thresholds.degradations) & (phase != Phase.STOPPED)
    events = (
        jnp.where(phase == Phase.COOLING, Event.PLATEAU, 0)
        | jnp.where(phase == Phase.DORMANT, Event.DORMANT, 0)
        | jnp.where(rollback, Event.DEGRADATION, 0)
    ).astype(jnp.int32)
    degrading = jnp.where(rollback, 0, degrading)
    return Progress(phase, stagnant, degrading), events, rollback
