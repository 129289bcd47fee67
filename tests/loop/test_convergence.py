"""Verdicts on curves whose course is known, by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from optix.loop.convergence import (
    SETTLED_AFTER,
    assess,
    has_moved,
    initial_baseline,
    initial_history,
    latest_equal,
    note_first,
    push,
    recent_mean,
)
from optix.loop.phases import Thresholds, advance, initial_progress
from optix.types import Phase, Verdict
from tests.noise import autoregressive
from tests.optimised import jit

LEVELS = (0.0, 0.5, 0.8)


def run(scores):
    """Verdicts, phases and rollbacks of a curve, all [T]."""

    def body(carry, score):
        history, progress, best, count = carry
        history, best = push(history, score), jnp.maximum(best, score)
        assessment = assess(history, best)
        verdict = assessment.verdict
        progress, _, rollback = advance(
            progress, verdict, count, settled=assessment.settled
        )
        return (history, progress, best, count + 1), (verdict, progress.phase, rollback)

    start = (initial_history(), initial_progress(), -jnp.inf, jnp.int32(1))
    return jax.lax.scan(body, start, scores)[1]


RUNS, LENGTH = 200, 600  # one shape, so that everything below compiles once


@pytest.fixture(scope="module")
def judge():
    """The verdicts, phases and rollbacks [R, T] of curves [R, T]."""
    compiled = jit(jax.vmap(run))

    def judged(curves):
        runs, length = curves.shape
        padding = ((0, -runs % RUNS), (0, LENGTH - length))
        padded = np.pad(curves, padding, mode="edge").astype(np.float32)
        batches = [compiled(batch) for batch in np.split(padded, len(padded) // RUNS)]
        return [np.concatenate(x)[:runs, :length] for x in zip(*batches, strict=True)]

    return judged


judge_now = jax.jit(assess)


@jax.jit
def fill(scores):
    return jax.lax.scan(lambda h, s: (push(h, s), None), initial_history(), scores)[0]


def first(flags):
    """Index of the first True of each row, or the row's length."""
    return np.where(flags.any(1), flags.argmax(1), flags.shape[1])


@pytest.mark.parametrize(
    ("count", "window"),
    [(1, 1), (59, 59), (60, 60), (301, 150), (450, 225), (900, 300)],
)
def test_window_is_the_latest_half(count, window):
    rng = np.random.default_rng(count)
    scores = 0.01 * np.arange(count) + rng.normal(size=count)
    assessment = judge_now(fill(jnp.asarray(scores, jnp.float32)), 10.0)
    assert int(assessment.window) == window
    if window > 2:
        slope = stats.linregress(np.arange(window), scores[-window:]).slope
        np.testing.assert_allclose(assessment.slope, slope, rtol=1e-3, atol=1e-6)


def test_gain_limit_is_the_upper_limit_of_the_gain():
    scores = np.random.default_rng(0).normal(size=120)
    fit = stats.linregress(np.arange(60), scores[-60:])
    sd = fit.stderr * np.sqrt(np.sum((np.arange(60) - 29.5) ** 2))
    assessment = judge_now(fill(jnp.asarray(scores, jnp.float32)), 10.0)
    rho = float(assessment.autocorrelation)
    effective = 60 * (1 - max(rho, 0)) / (1 + max(rho, 0))
    error = fit.stderr * np.sqrt(58 / (effective - 2))
    limit = 60 * (fit.slope + stats.t.ppf(0.95, effective - 2) * error) / sd
    np.testing.assert_allclose(assessment.gain_limit, limit, rtol=0.01)


def test_what_is_not_finite_is_not_pushed():
    history = fill(jnp.arange(5.0))
    for score in (jnp.nan, jnp.inf, -jnp.inf):
        after = push(history, jnp.float32(score))
        assert int(after.count) == 5
        np.testing.assert_array_equal(after.scores, history.scores)


@pytest.mark.parametrize("count", [0, 2, 3, 300, 301])
def test_recent_mean(count):
    scores = np.arange(count, dtype=np.float32) ** 2
    expected = scores[-3:].mean() if count >= 3 else -np.inf
    mean = recent_mean(fill(jnp.asarray(scores)), 3)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_no_verdict_before_sixty_scores(judge):
    curve = np.arange(80.0)[None]
    verdicts = judge(curve)[0][0]
    assert (verdicts[:59] == Verdict.UNDECIDED).all()
    assert (verdicts[59:] == Verdict.IMPROVING).all()
    assert np.isinf(judge_now(fill(jnp.arange(59.0)), 1e3).gain_limit)


@pytest.mark.parametrize("value", [0.0, 500.0, -1e6])
def test_constant_scores_end_flat_and_dormant(judge, value):
    verdicts, phases, rollbacks = judge(np.full((1, 130), value))
    assert (verdicts[0, 59:] == Verdict.FLAT).all()
    assert phases[0, -1] == Phase.DORMANT
    assert not rollbacks.any()
    assessment = judge_now(fill(jnp.full(130, value)), value)
    assert all(np.isfinite(np.asarray(x)) for x in assessment)


@pytest.mark.parametrize("count", [1, 2, 30, 299, 300, 301, 450])
@pytest.mark.parametrize("equal", [1, 2, 29, 299, 400])
def test_equal_scores_are_counted_from_the_last(count, equal):
    scores = np.where(np.arange(count) >= count - equal, 7.0, np.arange(count) % 5)
    expected = min(equal, count, 300)
    assert int(latest_equal(fill(jnp.asarray(scores, jnp.float32)))) == expected


@pytest.mark.parametrize("rise", [1, 40, 100, 400])
@pytest.mark.parametrize("lower", [0.0, 1.0])
def test_equal_scores_need_no_test_if_none_was_better(judge, rise, lower):
    """A noisy rise, then a ceiling: at the best of all, or below it by `lower`."""
    time = np.arange(550)
    noise = np.random.default_rng(9).normal(size=550)
    curve = np.minimum(500.0, 500 * time / rise - 50 + 40 * noise)
    curve = np.where(time < rise, np.minimum(curve, 450), 500 - lower)
    curve[0] += 500 * (lower > 0) - curve[0] * (lower > 0)  # once the best, by luck
    verdicts, phases, _ = (x[0] for x in judge(curve[None]))
    settled = rise + SETTLED_AFTER - 1
    dormant = int(first((phases == Phase.DORMANT)[None])[0])
    if lower:
        assert dormant > settled + 20
    else:
        assert dormant == max(settled, Thresholds().min_rounds - 1)
        assert (verdicts[settled:] == Verdict.FLAT).all()


@pytest.mark.parametrize("change", ["offset", "factor"])
def test_offset_and_factor_change_no_verdict(judge, change):
    rng = np.random.default_rng(1)
    curves = 50 * autoregressive(rng, 60, 250, 0.5)
    curves[20:40] += np.arange(250)
    curves[40:, 150:] -= 400
    curves = np.float32(curves)
    changed = curves + np.float32(1e6) if change == "offset" else curves * 1e-3
    verdicts = judge(curves)[0]
    assert set(np.unique(verdicts)) == set(Verdict)
    np.testing.assert_array_equal(judge(changed)[0], verdicts)


@pytest.mark.parametrize("coefficient", LEVELS)
def test_collapse_is_seen_within_twenty_rounds(judge, coefficient):
    rng = np.random.default_rng(2)
    curves = 20 * (1 - np.exp(-np.arange(260) / 50))
    curves = curves + autoregressive(rng, 100, 260, coefficient)
    curves[:, 200:] -= 10
    rollbacks = judge(curves)[2]
    assert not rollbacks[:, :200].any()
    assert np.mean(first(rollbacks) <= 220) >= 0.98


def test_collapse_without_noise_is_seen(judge):
    rollbacks = judge(np.where(np.arange(230) < 200, 500.0, 9.0)[None])[2]
    assert first(rollbacks)[0] == 213


def test_no_collapse_if_the_best_is_no_better():
    scores = jnp.where(jnp.arange(215) < 200, 500.0, 9.0)
    assert int(judge_now(fill(scores), 500.0).verdict) == Verdict.DEGRADING
    assert int(judge_now(fill(scores), 9.0).verdict) != Verdict.DEGRADING


def test_slow_decline_is_seen(judge):
    curves = autoregressive(np.random.default_rng(3), 50, 500, 0.5)
    curves -= 0.05 * np.maximum(np.arange(500) - 200, 0)
    found = first(judge(curves)[2])
    assert np.mean((found > 200) & (found < 400)) >= 0.98


@pytest.mark.parametrize("coefficient", LEVELS)
def test_a_plateau_is_hardly_ever_taken_for_a_collapse(judge, coefficient):
    noise = autoregressive(np.random.default_rng(4), 1000, 300, coefficient)
    assert judge(noise)[2].any(1).mean() <= 0.01


@pytest.mark.parametrize(
    ("coefficient", "rounds"), [(0.0, 150), (0.5, 234), (0.8, 407)]
)
def test_a_plateau_is_called(judge, coefficient, rounds):
    noise = autoregressive(np.random.default_rng(5), RUNS, LENGTH, coefficient)
    called = np.median(first(judge(noise)[1] == Phase.DORMANT))
    assert 0.8 * rounds <= called <= 1.2 * rounds


@pytest.mark.parametrize("coefficient", LEVELS)
@pytest.mark.parametrize("course", ["saturating", "line", "pause"])
def test_progress_is_not_called_a_plateau(judge, course, coefficient):
    time = np.arange(LENGTH)
    curve, last = {
        "saturating": (20 * (1 - np.exp(-time / 100)), 295),
        "line": (0.05 * time, LENGTH),
        "pause": (np.clip(time / 6, 0, 10) + np.clip((time - 160) / 6, 0, 10), 214),
    }[course]
    noise = autoregressive(np.random.default_rng(6), RUNS, LENGTH, coefficient)
    called = first(judge(curve + noise)[1] == Phase.DORMANT)
    assert np.mean(called < last) <= 0.02


# ----------------------------------------------------------------- no learning signal


@pytest.fixture(scope="module")
def moved():
    """Whether the scores of curves [R, T] have moved at their ends, [R]."""

    def one(scores):
        def body(carry, score):
            history, baseline = push(carry[0], score), note_first(carry[1], score)
            moved = has_moved(baseline, assess(history, jnp.inf))
            return (history, baseline._replace(moved=moved)), None

        start = initial_history(), initial_baseline()
        return jax.lax.scan(body, start, scores)[0][1].moved

    compiled = jit(jax.vmap(one))
    return lambda curves: np.asarray(compiled(np.asarray(curves, np.float32)))


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.8])
def test_chance_alone_is_hardly_ever_a_move(moved, coefficient):
    curves = 50 + 7 * autoregressive(np.random.default_rng(7), 400, 300, coefficient)
    assert moved(curves).mean() < 0.05


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
@pytest.mark.parametrize("rounds", [1, 3, 10, 60])
def test_a_rise_is_a_move_however_soon_it_was_over(moved, coefficient, rounds):
    """Of ten deviations: from the first round or within the first sixty."""
    time = np.arange(300)
    curves = 10 * np.minimum(time / rounds, 1) + autoregressive(
        np.random.default_rng(7), 200, 300, coefficient
    )
    assert moved(curves).mean() > 0.97


def test_a_rise_of_few_deviations_is_told_by_the_mean(moved):
    curves = np.where(np.arange(300) < 30, 0.0, 2.5) + autoregressive(
        np.random.default_rng(8), 200, 300, 0.0
    )
    assert moved(curves).mean() > 0.97


def test_constant_scores_have_not_moved(moved):
    curves = np.full((2, 300), -200.0)
    curves[1, 0] = -201
    assert moved(curves).tolist() == [False, True]
