"""The tuners on toys with a known optimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.tuners.space import space
from optix.tuners.spsa import spsa
from optix.types import Signals

RATE = {"rate": (0.0, 1.0)}
BASE = {"rate": 0.5, "discount": 0.99}


def signals(score, hyperparams=None):
    zero = jnp.float32(0)
    score = jnp.asarray(score, jnp.float32)
    key = jax.random.key(0)
    return Signals(
        score, *[zero] * 6, hyperparams=hyperparams or {}, metrics={}, key=key
    )


def tune(tuner, score_of, base, key, rounds):
    """Ask and tell for some rounds: what was asked [T, L], the centres [T]."""
    start_key, key = jax.random.split(key)

    def body(state, inputs):
        index, key = inputs
        noise_key, tell_key = jax.random.split(key)
        asked = tuner.ask(state)
        score = score_of(asked, index, noise_key)
        state, parents = tuner.tell(state, signals(score, asked), tell_key)
        return state, (asked, tuner.centre(state), parents)

    inputs = (jnp.arange(rounds), jax.random.split(key, rounds))
    return jax.lax.scan(body, tuner.init(base, start_key), inputs)[1]


def tune_many(tuner, score_of, base=BASE, seeds=20, rounds=200):
    def one(key):
        return tune(tuner, score_of, base, key, rounds)

    return jax.vmap(one)(jax.random.split(jax.random.key(7), seeds))


@functools.cache
def toy(lanes):
    """20 seeds on `scale * (1 - (rate - 0.8)^2)` from 0.5, compiled once."""

    @jax.jit
    def play(scale, noise, progress, fails_above):
        def score_of(asked, index, key):
            rate = asked["rate"]
            exact = 1 - (rate - 0.8) ** 2 + progress * index
            score = scale * (exact + noise * jax.random.normal(key, rate.shape))
            return jnp.where(rate > fails_above, -jnp.inf, score)

        return tune_many(spsa(RATE, lanes=lanes), score_of)

    plain = {"scale": 1.0, "noise": 0.0, "progress": 0.0, "fails_above": 2.0}
    return lambda **changes: play(**{**plain, **changes})


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_spsa_finds_the_optimum_at_any_score_scale(lanes, scale):
    asked, centres, _ = toy(lanes)(scale=scale)
    assert asked["rate"].shape == (20, 200, lanes)
    assert (np.abs(centres["rate"][:, -1] - 0.8) < 0.05).all()
    np.testing.assert_array_equal(asked["discount"], np.float32(0.99))


@pytest.mark.parametrize("lanes", [1, 2])
def test_spsa_finds_the_optimum_in_noise(lanes):
    initial_gap = 0.3**2
    centres = toy(lanes)(noise=initial_gap / 4)[1]
    assert (np.abs(centres["rate"][:, -1] - 0.8) < 0.1).sum() >= 18


def test_steady_progress_does_not_pull_a_single_lane():
    centres = toy(1)(progress=0.5)[1]
    assert (np.abs(centres["rate"][:, -1] - 0.8) < 0.05).all()


@pytest.mark.parametrize("lanes", [1, 2])
def test_survives_failures_at_high_rates(lanes):
    asked, centres, _ = toy(lanes)(fails_above=0.7)
    assert np.isfinite(asked["rate"]).all()
    assert (np.abs(centres["rate"][:, -1] - 0.6) < 0.15).all()


@pytest.mark.parametrize("lanes", [1, 2])
def test_spsa_tunes_several_parameters_over_decades(lanes):
    bounds = {"rate": (1e-5, 1e-1), "clip": (0.02, 1.0), "bonus": (0.0, 0.1)}
    base = {"rate": 3e-5, "clip": 0.9, "bonus": 0.09}
    best = {"rate": 3e-3, "clip": 0.2, "bonus": 0.03}

    def score_of(asked, index, key):
        del index, key
        miss = [jnp.log(asked[name] / best[name]) for name in ("rate", "clip")]
        miss.append((asked["bonus"] - best["bonus"]) * 70)
        return -sum(x**2 for x in miss)

    tuner = spsa(bounds, lanes=lanes)
    centres = jax.jit(lambda: tune_many(tuner, score_of, base, rounds=400))()[1]
    assert (np.abs(np.log(centres["rate"][:, -1] / best["rate"])) < 0.5).all()
    assert (np.abs(np.log(centres["clip"][:, -1] / best["clip"])) < 0.5).all()
    assert (np.abs(centres["bonus"][:, -1] - best["bonus"]) < 0.01).all()


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("bounds", [(0.9, 1.0), (1e-4, 1e-1), (1.0, 15.0)])
def test_probes_stay_inside_the_bounds_and_are_never_cut_off(lanes, bounds):
    def noise(asked, index, key):
        return jax.random.normal(key, asked["rate"].shape)

    tuner = spsa({"rate": bounds}, lanes=lanes, step_size=2.0)
    asked, centres, _ = jax.jit(
        lambda: tune_many(tuner, noise, {"rate": 1e3}, seeds=5)
    )()
    low, high = bounds
    for values in (asked["rate"], centres["rate"]):
        assert (values >= low).all()
        assert (values <= high).all()
    if lanes == 2:
        unit = np.log if low > 0 and high / low >= 10 else np.asarray
        width = np.ptp(unit(np.asarray(asked["rate"], np.float64)), axis=-1)
        span = unit(high) - unit(low)
        reach = 0.8 if unit is np.log else 0.8 * span / np.log(1000)
        np.testing.assert_allclose(width, 2 * min(reach, span / 4), rtol=1e-3)


def test_narrow_bounds_shrink_the_probe_to_a_quarter():
    state = spsa({"rate": (1.0, 10.0)}).init({"rate": 10**0.5}, jax.random.key(0))
    asked = spsa({"rate": (1.0, 10.0)}).ask(state)["rate"]
    np.testing.assert_allclose(np.sort(asked), [10**0.25, 10**0.75], rtol=1e-5)


def test_both_lanes_go_on_from_the_better():
    tuner = spsa(RATE)
    state = tuner.init(BASE, jax.random.key(0))
    for score, parent in [((1.0, 2.0), 1), ((2.0, 1.0), 0), ((-jnp.inf, -9.0), 1)]:
        parents = tuner.tell(state, signals(score), jax.random.key(1))[1]
        np.testing.assert_array_equal(parents, [parent, parent])
        assert parents.dtype == jnp.int32


def test_a_failed_fork_moves_the_centre_away_by_the_longest_step():
    tuner = spsa(RATE)
    state = tuner.init(BASE, jax.random.key(0))
    plus, minus = tuner.ask(state)["rate"]
    after, _ = tuner.tell(state, signals((-jnp.inf, 1.0)), jax.random.key(1))
    moved = tuner.centre(after)["rate"] - 0.5
    assert np.sign(moved) == np.sign(minus - plus)
    np.testing.assert_allclose(abs(moved), 2 * 0.2 / np.log(1000), rtol=1e-4)
    assert np.isfinite(after.rule.square)


@pytest.mark.parametrize("lanes", [1, 2])
def test_without_a_finite_score_all_go_back_to_the_best_and_probe_half_as_far(lanes):
    tuner = spsa(RATE, lanes=lanes)
    state = tuner.init(BASE, jax.random.key(0))
    if lanes == 1:  # from the round at the centre to the first probe
        state, _ = tuner.tell(state, signals([1.0]), jax.random.key(1))
    distance = abs(tuner.ask(state)["rate"][0] - 0.5)
    failed = signals([-jnp.inf] * lanes)
    after, parents = tuner.tell(state, failed, jax.random.key(2))
    np.testing.assert_array_equal(parents, [lanes] * lanes)
    centre = tuner.centre(after)["rate"]
    if (
        lanes == 1
    ):  # the plus round failed: away from it, then a new round at the centre
        np.testing.assert_array_equal(tuner.ask(after)["rate"], [centre])
        after, parents = tuner.tell(after, signals([1.0]), jax.random.key(3))
        np.testing.assert_array_equal(parents, [0])
    else:
        assert centre == tuner.centre(state)["rate"]
    halved = abs(tuner.ask(after)["rate"][0] - centre)
    np.testing.assert_allclose(halved, distance / 2, rtol=1e-5)
    for score in ([2.0] * lanes, [2.0] * lanes):
        after, _ = tuner.tell(after, signals(score), jax.random.key(4))
    assert float(after.probe_scale) == 1.0


def test_equal_scores_move_nothing():
    def equal(asked, index, key):
        return jnp.full_like(asked["rate"], 500.0)

    centres = jax.jit(lambda: tune_many(spsa(RATE), equal, seeds=3))()[1]["rate"]
    np.testing.assert_allclose(centres, 0.5, rtol=1e-6)


def test_centre_is_as_recent_as_a_mean_over_the_last_quarter():
    weights = np.ones(1)
    for moves in range(2, 401):
        share = 7 / (moves + 6)
        weights = np.append(weights * (1 - share), share)
    mean_age = np.average(np.arange(400)[::-1], weights=weights)
    np.testing.assert_allclose(mean_age, np.mean(np.arange(100)), rtol=0.02)
    # and the tuner's centre is that average of its positions
    tuner = spsa(RATE)
    state = tuner.init(BASE, jax.random.key(0))
    positions = []
    for key in jax.random.split(jax.random.key(1), 30):
        noise_key, tell_key = jax.random.split(key)
        score = jax.random.normal(noise_key, (2,))
        state, _ = tuner.tell(state, signals(score), tell_key)
        positions.append(float(state.position[0]))
    weights = np.ones(1)
    for moves in range(2, 31):
        weights = np.append(weights * (1 - 7 / (moves + 6)), 7 / (moves + 6))
    expected = np.average(positions, weights=weights)
    np.testing.assert_allclose(tuner.centre(state)["rate"], expected, rtol=1e-4)


def test_gains_and_starts_may_be_traced():
    traces = []

    @jax.jit
    @jax.vmap
    def spread(step_size, probe, rate):
        traces.append(rate)
        tuner = spsa({"rate": (1e-5, 1e-1)}, step_size=step_size, probe=probe)
        state = tuner.init({"rate": rate}, jax.random.key(0))
        after, _ = tuner.tell(state, signals((1.0, 0.0)), jax.random.key(1))
        move = jnp.log(tuner.centre(after)["rate"] / rate)
        return jnp.ptp(jnp.log(tuner.ask(state)["rate"])), jnp.abs(move)

    steps, probes = jnp.array([0.1, 0.4]), jnp.array([0.3, 0.8])
    width, move = spread(steps, probes, jnp.array([1e-3, 1e-2]))
    np.testing.assert_allclose(width, 2 * probes, rtol=1e-4)
    np.testing.assert_allclose(move, steps, rtol=1e-3)
    spread(steps * 1.1, probes * 0.9, jnp.array([2e-3, 1e-3]))
    assert len(traces) == 1


def test_space_there_and_back():
    box = space({"a": (1e-4, 1.0), "b": (-2.0, 6.0), "c": (1.0, 5.0)})
    point = box.encode({"a": 1e-2, "b": 0.0, "c": 99.0, "unknown": 3.0})
    np.testing.assert_allclose(point, [0.5, 0.25, 1.0], rtol=1e-5)
    values = box.decode(point)
    np.testing.assert_allclose([values["a"], values["b"]], [1e-2, 0.0], atol=1e-6)
    assert float(values["c"]) == 5.0
    np.testing.assert_allclose(box.spans, np.log([1e4, 1e3, 1e3]), rtol=1e-6)
    narrow = space({"c": (1.0, 5.0)}, log=["c"])
    np.testing.assert_allclose(narrow.encode({"c": 5**0.5}), [0.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": {"rate": (1.0, 0.1)}}, r"'rate' must be finite with low < high"),
        ({"bounds": {"rate": (0.1, jnp.nan)}}, r"'rate' must be finite"),
        ({"bounds": {}}, r"must name at least one hyperparameter"),
        ({"bounds": RATE, "lanes": 3}, r"lanes must be 1 or 2, got 3"),
        ({"bounds": RATE, "lanes": True}, r"lanes must be 1 or 2, got True"),
        (
            {"bounds": RATE, "log": ["rate"]},
            r"'rate' must be positive .* got \(0.0, 1.0",
        ),
        ({"bounds": RATE, "log": ["rat"]}, r"did you mean 'rate'"),
        ({"bounds": RATE, "probe": 0.0}, r"probe must be in \(0, inf\), got 0.0"),
        ({"bounds": RATE, "step_size": -1}, r"step_size must be in \(0, inf\), got -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spsa(**arguments)


def test_an_unknown_hyperparameter_is_refused_with_the_nearest_name():
    tuner = spsa({"learning_rte": (1e-4, 1e-2)})
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        tuner.init({"learning_rate": 1e-3, "discount": 0.99}, jax.random.key(0))
