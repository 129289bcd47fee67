"""Relabelled windows against what a loop over the episodes allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import stats

from optix.buffers.hindsight import hindsight
from optix.types import Trajectory

T, B, DISCOUNT = 12, 4, 0.9


def achieved(obs):
    return obs[:1]


def substitute(obs, goal):
    return obs.at[1:].set(goal)


def reward(reached, goal):
    success = jnp.all(reached == goal)
    return jnp.where(success, 5.0, -1.0), success


FUNCTIONS = achieved, substitute, reward


@pytest.fixture(scope="module")
def walk():
    """Every next observation achieves a goal of its own: 100 b + t."""
    rng = np.random.default_rng(0)
    place = (100 * np.arange(B) + np.arange(T)[:, None]).astype(np.float32)
    terminated, truncated = rng.random((2, T, B)) < 0.15
    terminated[4, 0] = truncated[4, 0] = True
    terminated[:, 3] = truncated[:, 3] = False
    obs = np.stack([place - 0.5, place * 0 - 1], -1)
    after = np.stack([place, place * 0 - 1], -1)
    zeros = np.zeros((T, B), np.float32)
    return Trajectory(obs, place.astype(np.int32), zeros, terminated, truncated, after)


def candidates(walk, strategy, t, b):
    """The steps whose goals the strategy may take, by looking along the stream."""
    ended = walk.terminated[:, b] | walk.truncated[:, b]
    first, last = t, t
    while first > 0 and not ended[first - 1]:
        first -= 1
    while last < T - 1 and not ended[last]:
        last += 1
    steps = {"future": (t, last), "final": (last, last), "episode": (first, last)}
    return range(steps[strategy][0], steps[strategy][1] + 1)


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_rows_are_those_of_a_loop(walk, strategy):
    goals = 300
    relabel = jit(hindsight(*FUNCTIONS, goals=goals, strategy=strategy))
    rows, valid = relabel(walk, jax.random.key(0), DISCOUNT)
    assert valid.shape == (goals * T * B,) and valid.all()
    rows = jax.tree.map(
        lambda x: np.asarray(x).reshape(goals, T, B, *x.shape[1:]), rows
    )
    smallest = 1.0
    for t in range(T):
        for b in range(B):
            allowed = candidates(walk, strategy, t, b)
            step = rows.obs[:, t, b, 1] - 100 * b
            np.testing.assert_array_equal(rows.obs[:, t, b, 0], walk.obs[t, b, 0])
            np.testing.assert_array_equal(rows.next_obs[:, t, b, 0], 100 * b + t)
            np.testing.assert_array_equal(rows.obs[..., 1], rows.next_obs[..., 1])
            np.testing.assert_array_equal(rows.action[:, t, b], walk.action[t, b])
            counts = np.bincount(step.astype(int), minlength=T)
            assert counts[allowed.start : allowed.stop].sum() == goals
            if len(allowed) > 1:
                test = stats.chisquare(counts[allowed.start : allowed.stop])
                smallest = min(smallest, test.pvalue)
            success = step == t
            np.testing.assert_array_equal(
                rows.reward[:, t, b], np.where(success, 5.0, -1.0)
            )
            over = success | walk.terminated[t, b]
            np.testing.assert_allclose(
                rows.discount[:, t, b], np.where(over, 0.0, DISCOUNT)
            )
    assert smallest > 1e-3 / (T * B)


def test_rows_that_are_not_finite_are_not_valid(walk):
    broken = walk.next_obs.copy()
    broken[6, 3, 0] = np.nan
    relabel = jit(hindsight(*FUNCTIONS, goals=1, strategy="final"))
    _, valid = relabel(walk._replace(next_obs=broken), jax.random.key(0), DISCOUNT)
    valid = np.asarray(valid).reshape(T, B)
    assert not valid[6, 3] and valid.sum() == T * B - 1


def test_seeds_side_by_side_are_a_loop(walk):
    relabel = hindsight(*FUNCTIONS)
    keys = jax.random.split(jax.random.key(0), 2)
    together = jit(jax.vmap(relabel, in_axes=(None, 0, None)))(walk, keys, DISCOUNT)
    for seed, key in enumerate(keys):
        alone = jit(relabel)(walk, key, DISCOUNT)
        jax.tree.map(
            lambda x, y, s=seed: np.testing.assert_array_equal(x[s], y), together, alone
        )


def test_wrong_calls(walk):
    with pytest.raises(ValueError, match="did you mean 'future'"):
        hindsight(*FUNCTIONS, strategy="futur")
    with pytest.raises(ValueError, match="goals must be an integer >= 1"):
        hindsight(*FUNCTIONS, goals=0)
    for functions, message in [
        ((lambda obs: obs, substitute, reward), "substitute must take"),
        ((achieved, lambda o, g: jnp.append(o, g), reward), "substitute must return"),
        ((achieved, substitute, lambda a, g: (a - g, a == g)), "two scalars"),
        ((achieved, substitute, lambda a, g: 1.0), "two scalars"),
        ((achieved, substitute, lambda a, g: a @ jnp.ones(3)), "reward must take"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(hindsight(*functions), walk, jax.random.key(0), DISCOUNT)
