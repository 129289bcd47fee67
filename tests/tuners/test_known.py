"""Problems whose answer is known: an optimum that moves, and scores that say nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.tuners.adaptive import adaptive
from optix.tuners.backoff import backoff
from optix.tuners.momentum import momentum
from optix.tuners.pbt import pbt
from optix.tuners.space import space
from optix.tuners.spsa import spsa
from optix.types import Signals

BOUNDS = {"linear": (0.0, 1.0), "decades": (1e-4, 1.0)}
BOX = space(BOUNDS)
ROUNDS, SEEDS = 300, 200
MOVES_UNTIL = 200  # the optimum; at the end it has stood still for a while
NOISE, COEFFICIENT = 0.02, 0.5  # standard deviation of the scores, and of their memory
TABLE = {  # with the share of seeds that come within .1 on both sides of the box
    "spsa": (partial(spsa, BOUNDS), 1.0),
    "momentum": (partial(momentum, BOUNDS), 1.0),
    "backoff": (partial(backoff, BOUNDS), 1.0),
    "adaptive": (partial(adaptive, BOUNDS), 0.9),
    "pbt, four lanes": (partial(pbt, BOUNDS), 0.75),
}


def optimum(index):
    """Where the score is best on both sides, in the unit box."""
    return 0.25 + 0.5 * jnp.clip(index / MOVES_UNTIL, 0, 1)


def play(tuner, key, start, scale, signal, noise):
    """Centres [ROUNDS, 2] and what was asked [ROUNDS, L, 2], in the unit box.

    Half of the noise is common to the lanes, and what is left of it is copied with a lane.
    """
    start_key, key = jax.random.split(key)
    base = BOX.decode(jnp.full(2, start))
    lanes = tuner.lanes

    def body(carry, inputs):
        state, error = carry
        index, key = inputs
        common_key, own_key, tell_key = jax.random.split(key, 3)
        points = jax.vmap(BOX.encode)(tuner.ask(state))
        drawn = jax.random.normal(common_key) + jax.random.normal(own_key, (lanes,))
        error = COEFFICIENT * error + jnp.sqrt(0.5 * (1 - COEFFICIENT**2)) * drawn
        exact = -jnp.sum((points - optimum(index)) ** 2, -1)
        score = scale * (signal * exact + noise * error + 3.0)
        state, parents = tuner.tell(state, Signals(score), tell_key)
        error = jnp.append(error, error[0])[parents]
        return (state, error), (BOX.encode(tuner.centre(state)), points)

    inputs = jnp.arange(ROUNDS), jax.random.split(key, ROUNDS)
    first = tuner.init(base, start_key), jnp.zeros(lanes)
    return jax.lax.scan(body, first, inputs)[1]


@pytest.fixture(params=TABLE, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def course(name):
    """`(start, scale, signal, noise) -> centres [SEEDS, ROUNDS, 2], asked`."""
    keys = jax.random.split(jax.random.key(5), SEEDS)
    tuner = TABLE[name][0]()
    axes = (0, None, None, None, None)
    return jax.jit(
        lambda *setting: jax.vmap(partial(play, tuner), axes)(keys, *setting)
    )


def test_it_follows_an_optimum_at_every_scale_of_the_scores(name, course):
    shares = []
    for scale in (1e-2, 1.0, 1e4):
        centres, asked = course(0.9, scale, 1.0, NOISE)
        assert (asked >= 0).all() and (asked <= 1).all()
        miss = np.abs(centres[:, -1] - optimum(ROUNDS)).max(-1)
        shares.append((miss < 0.1).mean())
    assert min(shares) >= TABLE[name][1], shares


def test_equal_scores_move_nothing(course):
    centres, _ = course(0.4, 7.0, 0.0, 0.0)
    np.testing.assert_allclose(centres, 0.4, atol=1e-5)


def test_noise_drives_it_nowhere(course):
    """It wanders, but to no side: 200 seeds, the mean within four standard errors."""
    centres, asked = course(0.5, 1.0, 0.0, 1.0)
    moved = np.asarray(centres[:, -1]) - 0.5
    error = moved.std(0, ddof=1) / np.sqrt(SEEDS)
    assert (np.abs(moved.mean(0)) < 4 * error).all(), (moved.mean(0), error)
    assert (asked >= 0).all() and (asked <= 1).all()
