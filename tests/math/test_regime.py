"""Regimes of series whose kind of time is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix import RegimeDetector
from optix.math import regime
from optix.math.regime import BLOCKS, Regime, Thresholds, classify, initial_regime
from tests.noise import autoregressive

WINDOW, RUNS, ROUNDS = 30, 400, 330
LATE = slice(180, None)  # rounds with a full memory


@jit
def regimes(scores):
    """The regimes [R, T] of runs [R, T], score by score."""

    def run(scores):
        def step(state, score):
            state = regime.update_regime(state, score)
            return state, state.regime

        return jax.lax.scan(step, initial_regime(WINDOW), scores)[1]

    return jax.vmap(run)(jnp.asarray(scores, jnp.float32))


def share(found, kind):
    return float(np.mean(np.asarray(found) == kind))


@pytest.mark.parametrize(
    ("coefficient", "trending", "volatile"),
    [(0.0, 0.04, 0.003), (0.5, 0.08, 0.01), (0.8, 0.11, 0.03)],
)
def test_noise_is_ranging(coefficient, trending, volatile):
    noise = autoregressive(np.random.default_rng(0), RUNS, ROUNDS, coefficient)
    found = regimes(noise)
    assert share(found, Regime.TRENDING) < trending
    assert share(found, Regime.VOLATILE) < volatile


@pytest.mark.parametrize("direction", [1, -1])
def test_lines_trend_up_and_down(direction):
    noise = autoregressive(np.random.default_rng(1), RUNS, ROUNDS, 0.0)
    rise = direction * np.arange(ROUNDS) / WINDOW
    steep, faint = regimes(noise + 4 * rise), regimes(noise + 1.5 * rise)
    assert share(steep[:, LATE], Regime.TRENDING) > 0.95
    assert 0.3 < share(faint[:, LATE], Regime.TRENDING) < 0.8
    assert share(steep, Regime.VOLATILE) < 0.003


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_louder_noise_is_volatile_until_it_is_usual(coefficient):
    noise = autoregressive(np.random.default_rng(2), RUNS, ROUNDS, coefficient)
    noise[:, 150:] *= 3
    noise[:, 150:] += np.arange(ROUNDS - 150) / WINDOW  # a trend makes no difference
    found = regimes(noise)
    assert share(found[:, :150], Regime.VOLATILE) < 0.01
    assert share(found[:, 150 + WINDOW - 1], Regime.VOLATILE) > 0.95
    assert share(found[:, -1], Regime.VOLATILE) < 0.1


def test_calmer_noise_is_not_volatile():
    noise = autoregressive(np.random.default_rng(3), RUNS, ROUNDS, 0.0)
    noise[:, 150:] /= 3
    assert share(regimes(noise), Regime.VOLATILE) < 0.003


def test_a_saturating_curve_trends_and_then_ranges():
    noise = autoregressive(np.random.default_rng(4), RUNS, ROUNDS, 0.0)
    found = regimes(noise + 20 * (1 - np.exp(-np.arange(ROUNDS) / 40)))
    assert share(found[:, 20:60], Regime.TRENDING) > 0.95
    assert share(found[:, LATE], Regime.RANGING) > 0.9
    assert share(found, Regime.VOLATILE) < 0.003


def test_offset_and_factor_change_nothing():
    noise = autoregressive(np.random.default_rng(5), RUNS, ROUNDS, 0.5)
    noise[:, 150:] *= 2.5
    noise += 0.05 * np.arange(ROUNDS) * np.random.default_rng(6).normal(size=(RUNS, 1))
    found = np.asarray(regimes(noise))
    assert min(share(found, kind) for kind in Regime) > 0.05
    for other in (noise * 1e6, noise * 1e-6, noise - 1e3, 1e-3 * noise + 1):
        changed = np.asarray(regimes(other))
        assert np.mean(changed != found) < 2e-3  # float32 rounds at the thresholds


def test_what_has_begun_takes_less_to_go_on():
    one = jit(classify)
    rng = np.random.default_rng(7)
    kept = {Regime.TRENDING: 0, Regime.VOLATILE: 0}
    for _ in range(100):
        scores = rng.normal(size=BLOCKS * WINDOW)
        scores[-WINDOW:] *= rng.uniform(1, 3)
        scores += rng.uniform(0, 4) * np.arange(scores.size) / WINDOW
        sd = [residual_sd(block) for block in scores.reshape(BLOCKS, WINDOW)]
        spread = sd[-1] / np.sqrt(np.mean(np.square(sd[:-1])))
        for previous in Regime:
            found = int(one(jnp.asarray(scores, jnp.float32), scores.size, previous))
            wild = spread > (1.4 if previous == Regime.VOLATILE else 2.0)
            assert (found == Regime.VOLATILE) == wild
            kept[Regime.VOLATILE] += wild and spread < 2
            fresh = int(
                one(jnp.asarray(scores, jnp.float32), scores.size, Regime.RANGING)
            )
            if previous == Regime.TRENDING and fresh == Regime.RANGING:
                kept[Regime.TRENDING] += found == Regime.TRENDING
    assert min(kept.values()) > 5


def residual_sd(block):
    time = np.arange(len(block))
    residuals = block - np.polyval(np.polyfit(time, block, 1), time)
    return np.sqrt(np.sum(residuals**2) / (len(block) - 2))


def test_exact_lines_and_constants_are_never_volatile():
    steps = np.arange(ROUNDS, dtype=np.float32)
    runs = np.stack(
        [np.full(ROUNDS, 500.0), 0.3 * steps + 7, -1e6 * steps, 1e-9 * steps]
    )
    found = np.asarray(regimes(runs))
    assert (found[0] == Regime.RANGING).all()
    assert (found[1:, 5:] == Regime.TRENDING).all()
    assert (found[:, :4] == Regime.RANGING).all()


def test_noise_after_silence_is_volatile():
    scores = np.zeros((1, 90))
    scores[:, 70:] = np.random.default_rng(8).normal(size=20)
    assert share(regimes(scores)[:, 75:], Regime.VOLATILE) == 1.0


def test_what_is_not_finite_is_no_measurement():
    noise = autoregressive(np.random.default_rng(9), 4, 100, 0.0)
    broken = np.repeat(noise, 2, axis=1)
    broken[:, 1::2] = [[np.nan], [np.inf], [-np.inf], [np.nan]]
    np.testing.assert_array_equal(regimes(broken)[:, ::2], regimes(noise))


def test_thresholds_are_traced():
    scores = jnp.asarray(autoregressive(np.random.default_rng(10), 1, 180, 0.0)[0])
    traces = []

    @jax.jit
    def found(thresholds):
        traces.append(0)
        return classify(scores, 180, 0, thresholds)

    assert int(found(Thresholds(trend=1e-6))) == Regime.TRENDING
    assert int(found(Thresholds(spread=1e-6))) == Regime.VOLATILE
    assert len(traces) == 1


def test_the_detector_takes_scores_or_records_and_keeps_its_answer():
    rng = np.random.default_rng(11)
    noise = list(1e9 + rng.normal(size=200))
    records = [SimpleNamespace(primary_score=score) for score in noise]
    assert RegimeDetector().detect(noise) == "ranging"
    assert RegimeDetector().detect(records) == "ranging"
    assert RegimeDetector().detect([]) == "ranging"
    louder = noise + list(1e9 + 4 * rng.normal(size=30))
    detector = RegimeDetector()
    assert detector.detect(louder) == "volatile"
    assert detector.regime is Regime.VOLATILE
    falling = [score - 3 * i for i, score in enumerate(noise)]
    assert detector.detect(falling) == "trending"


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="window must be an integer >= 5, got 4"):
        RegimeDetector(window=4)
    with pytest.raises(ValueError, match="thresholds must be a Thresholds"):
        RegimeDetector(thresholds=(1.0, 2.0))
