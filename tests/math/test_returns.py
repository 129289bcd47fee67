"""Generalised advantages against their definition, written as a slow sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.math.returns import generalized_advantages

T, B = 24, 16
DISCOUNT, LAMBDA = 0.9, 0.8

compiled = jax.jit(
    jax.vmap(generalized_advantages, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, T, B))
    terminated, truncated = rng.random((2, T, B)) < 0.15
    terminated[5, 0] = truncated[5, 0] = True  # both at once happens
    assert (terminated & ~truncated).any() and (truncated & ~terminated).any()
    return reward, value, next_value, terminated, truncated


def slow(reward, value, next_value, terminated, truncated, discount, gae_lambda):
    """Every advantage as the sum over its own future, by the definition."""
    advantages = np.zeros_like(reward)
    for b in range(reward.shape[1]):
        for start in range(len(reward)):
            weight = 1.0
            for t in range(start, len(reward)):
                future = 0.0 if terminated[t, b] else discount * next_value[t, b]
                delta = reward[t, b] + future - value[t, b]
                advantages[start, b] += weight * delta
                if terminated[t, b] or truncated[t, b]:
                    break
                weight *= discount * gae_lambda
    return advantages


@pytest.mark.parametrize(
    ("discount", "gae_lambda"),
    [(DISCOUNT, LAMBDA), (1.0, 1.0), (0.0, 0.5), (0.99, 0.0)],
)
def test_the_definition(data, discount, gae_lambda):
    got = compiled(*data, discount, gae_lambda)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, slow(*data, discount, gae_lambda), atol=2e-5)


@pytest.mark.parametrize("kept", ["terminated", "truncated", "neither"])
def test_each_flag_alone(data, kept):
    reward, value, next_value, terminated, truncated = data
    terminated = terminated & (kept == "terminated")
    truncated = truncated & (kept == "truncated")
    args = (reward, value, next_value, terminated, truncated, DISCOUNT, LAMBDA)
    np.testing.assert_allclose(compiled(*args), slow(*args), atol=2e-5)


def test_lambda_zero_is_the_one_step_error(data):
    reward, value, next_value, terminated, _ = data
    expected = reward + DISCOUNT * next_value * ~terminated - value
    np.testing.assert_allclose(compiled(*data, DISCOUNT, 0.0), expected, atol=1e-5)


def test_lambda_one_is_the_discounted_return_minus_the_value():
    """Three rewards of one, then cut off at a value of 10; or ended."""
    value = np.array([[3.0], [5.0], [7.0]])
    next_value = np.array([[5.0], [7.0], [10.0]])
    never = np.zeros((3, 1), bool)
    last = np.array([[False], [False], [True]])
    powers = DISCOUNT ** np.arange(3)
    ended = np.array([powers[: 3 - t].sum() for t in range(3)])[:, None]
    cut = ended + 10 * DISCOUNT ** np.array([[3], [2], [1]])
    for terminated, truncated, returns in [
        (last, never, ended),
        (never, last, cut),
        (never, never, cut),  # the window ends, not the episode
        (last, last, ended),
    ]:
        got = compiled(
            np.ones((3, 1)), value, next_value, terminated, truncated, DISCOUNT, 1.0
        )
        np.testing.assert_allclose(got, returns - value, rtol=1e-5)


def test_the_value_behind_an_end_is_never_looked_at(data):
    reward, value, next_value, terminated, truncated = data
    hidden = np.where(terminated, np.nan, next_value)
    got = compiled(reward, value, hidden, terminated, truncated, DISCOUNT, LAMBDA)
    assert np.isfinite(got).all()


def test_a_batch_is_refused():
    with pytest.raises(AssertionError):
        generalized_advantages(*[jnp.zeros((3, 2))] * 5, 0.9, 0.9)
