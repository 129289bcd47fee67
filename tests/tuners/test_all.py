"""What holds for every tuner; a new one is tested by being in the table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.registry import TUNERS
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.tuners.trust import trust
from optix.types import Signals
from tests.optimised import jit

BOUNDS = {"rate": (0.0, 1.0)}
BASE = {"rate": jnp.float32(0.5), "discount": jnp.float32(0.99)}
TABLE = {
    "fixed": fixed,
    "spsa, two lanes": lambda: spsa(BOUNDS),
    "spsa, one lane": lambda: spsa(BOUNDS, lanes=1),
    "trust": lambda: trust({"rate": (0.1, 1.0)}),
}
ROUNDS = 150


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


@pytest.fixture(params=TABLE, scope="module")
def tuner(request):
    return TABLE[request.param]()


@pytest.fixture(scope="module")
def course(tuner):
    """Rounds of a run, compiled once: (key, scale) -> (asked, centres, parents)."""
    traces = []

    @jit
    def run(key, scale):
        traces.append(scale)
        assert len(traces) == 1, "a float that changes must not trace again"
        keys = jax.random.split(key, ROUNDS)
        scales = jnp.full(ROUNDS, scale)
        first = tuner.init(BASE, key)
        return jax.lax.scan(
            lambda state, inputs: play(tuner, state, inputs), first, (scales, keys)
        )[1]

    return lambda key, scale: run(key, jnp.float32(scale))


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


def test_it_tunes_what_it_may(tuner, course):
    centres = course(jax.random.key(1), 1.0)[1]["rate"]
    if "rate" in tuner.bounds:
        assert abs(centres[-1] - 0.8) < 0.05 < abs(centres[0] - 0.8)
    else:
        np.testing.assert_array_equal(centres, 0.5)


def test_asking_reads_only_and_a_run_goes_on_bit_for_bit(tuner):
    """All there is of a run is its state: saved as plain arrays, it goes on as before."""
    step = jax.jit(lambda state, key: play(tuner, state, (1.0, key)))
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


def test_seeds_are_mapped(tuner, course):
    keys, scales = jax.random.split(jax.random.key(3), 2), jnp.array([1.0, 7.0])

    def run(key, scale):
        first = tuner.init(BASE, key)
        inputs = jnp.full(ROUNDS, scale), jax.random.split(key, ROUNDS)
        return jax.lax.scan(lambda s, i: play(tuner, s, i), first, inputs)[1]

    together = jit(jax.vmap(run))(keys, scales)
    for seed in range(2):
        one = course(keys[seed], scales[seed])
        many = jax.tree.map(lambda x, seed=seed: x[seed], together)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), many, one
        )
