"""The state machine, exhaustively, against its rules written as a plain loop."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.loop.phases import Thresholds, advance, initial_progress
from optix.types import Event, Phase, Progress, Verdict

SMALL = Thresholds(plateau=2, dormant=4, min_rounds=5, degradations=3)
ROUNDS = 6


def by_the_rules(verdicts, thresholds):
    """Phases, events and rollbacks of a sequence of verdicts."""
    stagnant = falling = 0
    course = []
    for round_count, verdict in enumerate(verdicts, start=1):
        rollback = False
        if verdict == Verdict.IMPROVING:
            stagnant = falling = 0
        elif verdict == Verdict.FLAT:
            stagnant, falling = stagnant + 1, 0
        elif verdict == Verdict.DEGRADING:
            stagnant, falling = stagnant + 1, falling + 1
            if falling == thresholds.degradations:
                rollback, falling = True, 0
        late = round_count >= thresholds.min_rounds
        if stagnant >= thresholds.dormant and late:
            phase, event = Phase.DORMANT, Event.DORMANT
        elif stagnant >= thresholds.plateau:
            phase, event = Phase.COOLING, Event.PLATEAU
        else:
            phase, event = Phase.ACTIVE, Event.NONE
        if rollback:
            event |= Event.DEGRADATION
        course.append((int(phase), int(event), rollback))
    return course


def test_every_sequence_of_verdicts():
    sequences = np.array(list(itertools.product(Verdict, repeat=ROUNDS)), np.int32)

    def run(verdicts):
        def body(progress, inputs):
            progress, events, rollback = advance(progress, *inputs, SMALL)
            return progress, (progress.phase, events, rollback)

        counts = jnp.arange(1, ROUNDS + 1)
        return jax.lax.scan(body, initial_progress(), (verdicts, counts))[1]

    phases, events, rollbacks = jax.jit(jax.vmap(run))(jnp.asarray(sequences))
    got = np.stack([phases, events, rollbacks], axis=-1)
    expected = np.array([by_the_rules(s, SMALL) for s in sequences])
    np.testing.assert_array_equal(got, expected)
    assert set(np.unique(phases)) == {Phase.ACTIVE, Phase.COOLING, Phase.DORMANT}
    assert rollbacks.any()


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize(
    ("phase", "stagnant"),
    [(Phase.ACTIVE, 0), (Phase.COOLING, 10), (Phase.DORMANT, 70), (Phase.STOPPED, 70)],
)
def test_state_table(phase, stagnant, verdict):
    progress = Progress(*map(jnp.int32, (phase, stagnant, 0)))
    after, events, rollback = advance(progress, jnp.int32(verdict), jnp.int32(500))
    stays = phase == Phase.STOPPED or verdict != Verdict.IMPROVING
    assert int(after.phase) == (phase if stays else Phase.ACTIVE)
    bits = {Phase.COOLING: Event.PLATEAU, Phase.DORMANT: Event.DORMANT}
    assert int(events) == bits.get(Phase(int(after.phase)), Event.NONE)
    assert not rollback
    assert [x.dtype for x in after] == [x.dtype for x in progress]


def test_five_flat_rounds_cool_and_one_improving_round_revives():
    progress = initial_progress()
    verdicts = [Verdict.FLAT] * 5 + [Verdict.UNDECIDED] * 9 + [Verdict.IMPROVING]
    phases = []
    for count, verdict in enumerate(verdicts, start=100):
        progress, _, _ = advance(progress, jnp.int32(verdict), jnp.int32(count))
        phases.append(int(progress.phase))
    assert phases == [Phase.ACTIVE] * 4 + [Phase.COOLING] * 10 + [Phase.ACTIVE]


def test_degradation_is_raised_again_if_it_goes_on():
    progress, raised = initial_progress(), []
    for count in range(1, 13):
        verdict = jnp.int32(Verdict.DEGRADING)
        progress, events, rollback = advance(progress, verdict, jnp.int32(count))
        assert bool(events & Event.DEGRADATION) == bool(rollback)
        raised.append(bool(rollback))
    assert [i for i, flag in enumerate(raised, start=1) if flag] == [5, 10]


def test_a_stopped_run_never_rolls_back():
    progress = Progress(*map(jnp.int32, (Phase.STOPPED, 9, 4)))
    _, events, rollback = advance(
        progress, jnp.int32(Verdict.DEGRADING), jnp.int32(200)
    )
    assert not rollback
    assert int(events) == Event.NONE
