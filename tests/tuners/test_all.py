"""What holds for every tuner; a new one is tested by being in the table."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.registry import TUNERS
from optix.tuners.adaptive import adaptive
from optix.tuners.backoff import backoff
from optix.tuners.fixed import fixed
from optix.tuners.momentum import momentum
from optix.tuners.pbt import pbt
from optix.tuners.spsa import spsa
from optix.tuners.trust import trust
from optix.types import Signals

BOUNDS = {"rate": (0.0, 1.0)}
BASE = {"rate": jnp.float32(0.5), "discount": jnp.float32(0.99)}
STEERED = {"rate": (0.1, 1.0)}


class Row(NamedTuple):
    """A tuner with two values of each float that may differ between seeds."""

    factory: Callable
    floats: dict = {}
    error: float = 0.05  # of the rate that it comes to


GAINS = {"step_size": (0.2, 0.3), "probe": (0.8, 0.5)}
COPIES = {"factor": (2.0, 1.5), "anew": (0.25, 0.5), "margin": (1.0, 2.0)}
TABLE = {
    "fixed": Row(fixed),
    "trust": Row(
        partial(trust, STEERED),
        {"target": (0.01, 0.02), "up": (4.0, 2.0), "headroom": (4.0, 3.0)},
    ),
    "spsa, two lanes": Row(partial(spsa, BOUNDS), GAINS),
    "spsa, one lane": Row(partial(spsa, BOUNDS, lanes=1), GAINS),
    "momentum, two lanes": Row(
        partial(momentum, BOUNDS), GAINS | {"decay": (0.8, 0.7)}
    ),
    "momentum, one lane": Row(partial(momentum, BOUNDS, lanes=1), GAINS),
    "backoff, two lanes": Row(
        partial(backoff, BOUNDS), GAINS | {"up": (1.3, 1.2), "down": (0.7, 0.6)}
    ),
    "backoff, one lane": Row(partial(backoff, BOUNDS, lanes=1), GAINS),
    "pbt, four lanes": Row(
        partial(pbt, BOUNDS), COPIES | {"smoothing": (0.5, 0.3)}, error=0.1
    ),
    "pbt, two lanes": Row(partial(pbt, BOUNDS, population=2), COPIES, error=0.1),
    "pbt, one lane": Row(partial(pbt, BOUNDS, population=1), COPIES, error=0.1),
    "adaptive, two lanes": Row(partial(adaptive, BOUNDS), GAINS),
    "adaptive, one lane": Row(partial(adaptive, BOUNDS, lanes=1), GAINS),
    "adaptive, with a rate": Row(
        partial(adaptive, STEERED, rate="rate"), GAINS | {"target": (0.01, 0.02)}
    ),
}
ROUNDS, FEW = 150, 30


def test_every_tuner_with_a_name_is_in_the_table():
    assert {name.split(",")[0] for name in TABLE} == set(TUNERS)


def signals(score, asked):
    zero, key = jnp.float32(0), jax.random.key(0)
    divergence = 0.01 * (asked["rate"] / 0.8) ** 2
    return Signals(
        score, *[zero] * 6, hyperparams=asked, metrics={"kl": divergence}, key=key
    )


def play(tuner, state, inputs):
    """One round on a quadratic without noise, best and of the right divergence at 0.8."""
    scale, key = inputs
    asked = tuner.ask(state)
    score = scale * (1 - (asked["rate"] - 0.8) ** 2)
    after, parents = tuner.tell(state, signals(score, asked), key)
    return after, (asked, tuner.centre(state), parents)


@pytest.fixture(params=TABLE.values(), ids=TABLE, scope="module")
def row(request):
    return request.param


@pytest.fixture(scope="module")
def tuner(row):
    return row.factory()


@pytest.fixture(scope="module")
def run(row):
    """Rounds of a run: (key, scale, floats) -> (asked, centres, parents)."""

    def rounds(key, scale, floats):
        tuner = row.factory(**floats)
        keys = jax.random.split(key, ROUNDS)
        first = tuner.init(BASE, key)
        return jax.lax.scan(
            lambda state, inputs: play(tuner, state, inputs),
            first,
            (jnp.full(ROUNDS, scale), keys),
        )[1]

    return rounds


@pytest.fixture(scope="module")
def course(row, run):
    """The same, compiled once: (key, scale, which of the floats)."""
    compiled = jax.jit(run)

    def course(key, scale, which=0):
        floats = {name: jnp.float32(pair[which]) for name, pair in row.floats.items()}
        told = compiled(key, jnp.float32(scale), floats)
        assert compiled._cache_size() == 1, "a float that changes must not trace again"
        return told

    return course


def test_it_hands_out_every_hyperparameter_within_bounds(tuner, course):
    for scale in (1.0, 1e4):  # another float is not another program
        asked, centres, parents = course(jax.random.key(0), scale)
        assert set(asked) == set(centres) == set(BASE)
        for name in BASE:
            assert asked[name].shape == (ROUNDS, tuner.lanes)
            assert centres[name].shape == (ROUNDS,)
        for name, (low, high) in tuner.bounds.items():
            for given in (asked[name], centres[name]):
                assert ((given >= low) & (given <= high)).all()
        for name in BASE.keys() - tuner.bounds.keys():
            np.testing.assert_array_equal(asked[name], np.float32(BASE[name]))
        assert parents.dtype == jnp.int32 and parents.shape == (ROUNDS, tuner.lanes)
        assert ((parents >= 0) & (parents <= tuner.lanes)).all()


def test_it_tunes_what_it_may(row, tuner, course):
    centres = course(jax.random.key(1), 1.0)[1]["rate"]
    if "rate" in tuner.bounds:
        assert abs(centres[-1] - 0.8) < row.error < abs(centres[0] - 0.8)
    else:
        np.testing.assert_array_equal(centres, 0.5)


@pytest.fixture(scope="module")
def tell(tuner):
    return jax.jit(tuner.tell)


def test_asking_reads_only_and_a_run_goes_on_bit_for_bit(tuner, tell):
    """All there is of a run is its state: saved as plain arrays, it goes on as before."""

    def step(state, key):
        asked = tuner.ask(state)
        score = 1 - (asked["rate"] - 0.8) ** 2
        after, parents = tell(state, signals(score, asked), key)
        return after, (asked, parents)

    keys = jax.random.split(jax.random.key(2), 8)
    whole = broken = tuner.init(BASE, jax.random.key(0))
    for index, key in enumerate(keys):
        chex.assert_trees_all_equal(tuner.ask(whole), tuner.ask(whole))
        if index == 4:
            leaves, form = jax.tree.flatten(broken)
            saved = [np.asarray(leaf).copy() for leaf in leaves]
            broken = jax.tree.unflatten(form, [jnp.asarray(leaf) for leaf in saved])
        whole, one = step(whole, key)
        broken, two = step(broken, key)
        chex.assert_trees_all_equal((whole, one), (broken, two))
    chex.assert_trees_all_equal_shapes_and_dtypes(
        whole, jax.eval_shape(lambda key: tuner.init(BASE, key), keys[0])
    )


def test_seeds_and_hyperparams_are_mapped(row, run, course):
    """Every float differs between the two seeds."""
    keys, scales = jax.random.split(jax.random.key(3), 2), jnp.array([1.0, 7.0])
    floats = {name: jnp.array(pair) for name, pair in row.floats.items()}
    together = jax.jit(jax.vmap(run))(keys, scales, floats)
    for seed in range(2):
        alone = course(keys[seed], scales[seed], seed)
        many = jax.tree.map(lambda x, seed=seed: x[seed], together)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x[:FEW], y[:FEW], atol=1e-3),
            many,
            alone,
        )


def test_scores_that_are_not_finite_never_win(tuner, tell):
    """Neither by a copy nor by a place: who goes on is finite, or the best policy."""
    state = tuner.init(BASE, jax.random.key(0))
    for turn, key in enumerate(jax.random.split(jax.random.key(1), 24)):
        asked = tuner.ask(state)
        fails = (jnp.arange(tuner.lanes) + turn) % 3 == 0
        wrong = [jnp.nan, jnp.inf, -jnp.inf][turn % 3]
        score = jnp.where(fails, wrong, 1.0)
        state, parents = tell(state, signals(score, asked), key)
        if tuner.bounds and "kl" not in tuner.metrics:
            good = np.append(~np.asarray(fails), True)
            assert good[parents].all(), (turn, parents)
        for name, value in {**tuner.ask(state), **tuner.centre(state)}.items():
            assert np.isfinite(value).all(), name
    lost = jnp.full(tuner.lanes, jnp.nan)
    parents = tell(state, signals(lost, tuner.ask(state)), jax.random.key(2))[1]
    if tuner.bounds and "kl" not in tuner.metrics:
        assert (parents == tuner.lanes).all()
