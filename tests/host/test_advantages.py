"""Advantages and their scale in NumPy against those of `optix.math`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.host.advantages import (
    ReturnScale,
    advantages,
    following_values,
    inverse_deviation,
)
from optix.math import running
from optix.math.returns import generalized_advantages


def random_window(seed=0, steps=9, envs=3):
    rng = np.random.default_rng(seed)
    reward, value, after = rng.normal(size=(3, steps, envs)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, envs)) < 0.2
    return reward, value, after, terminated, truncated


def test_advantages_are_those_of_jax():
    window = random_window()
    wanted = jax.vmap(
        generalized_advantages, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1
    )(*map(jnp.asarray, window), 0.97, 0.9)
    got = advantages(*window, 0.97, 0.9)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_what_follows_a_termination_may_be_anything():
    reward, value, after, terminated, truncated = random_window()
    after[terminated] = np.nan
    assert np.isfinite(
        advantages(reward, value, after, terminated, truncated, 1, 1)
    ).all()


def test_only_cut_steps_and_the_last_are_asked():
    _, value, after, terminated, truncated = random_window()
    asked = []

    def value_after(steps, envs):
        asked.extend(zip(steps.tolist(), envs.tolist(), strict=True))
        return after[steps, envs]

    got = following_values(value, terminated, truncated, value_after)
    for t in range(len(value)):
        for b in range(value.shape[1]):
            last = t == len(value) - 1
            if terminated[t, b]:
                assert got[t, b] == 0
            elif truncated[t, b] or last:
                assert got[t, b] == after[t, b] and (t, b) in asked
            else:
                assert got[t, b] == value[t + 1, b] and (t, b) not in asked
    ends = np.ones((2, 1), bool)
    nobody = following_values(np.ones((2, 1), np.float32), ends, ~ends, None)
    assert (nobody == 0).all()


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_the_inverse_deviation_is_that_of_jax(mean):
    variance = np.array([4.0, 0.0, 1e-12, 2.5], np.float32)
    moments = running.Moments(jnp.float32(4), jnp.full(4, mean), jnp.asarray(variance))
    np.testing.assert_allclose(
        inverse_deviation(np.full(4, mean), variance),
        running.inverse_deviation(moments),
        rtol=1e-5,
    )


def test_the_scale_of_rewards_goes_on_from_window_to_window():
    """Of three windows at once, of each after the other, and by a loop, it is the same."""
    reward, _, _, terminated, truncated = random_window(steps=12)
    ended, discount = terminated | truncated, 0.9
    returns, current = [], np.zeros(3)
    for t in range(12):
        current = discount * current + reward[t]
        returns.append(current)
        current = np.where(ended[t], 0.0, current)
    wanted = 1 / np.std(returns)
    whole, parts = ReturnScale(), ReturnScale()
    whole.observe(reward, ended, np.ones(3, bool), discount)
    for k in range(0, 12, 4):
        began = np.full(3, k == 0)
        parts.observe(reward[k : k + 4], ended[k : k + 4], began, discount)
        copy = ReturnScale()
        copy.restore(parts.state())
        parts = copy
    for scale in (whole, parts):
        np.testing.assert_allclose(scale.inverse(), wanted, rtol=1e-5)


def test_the_scale_begins_anew_where_episodes_do():
    one, other = ReturnScale(), ReturnScale()
    reward, never = np.ones((4, 2)), np.zeros((4, 2), bool)
    for scale in (one, other):
        scale.observe(reward, never, np.ones(2, bool), 1.0)
    one.observe(reward, never, np.zeros(2, bool), 1.0)
    other.observe(reward, never, np.ones(2, bool), 1.0)
    np.testing.assert_allclose(one.inverse(), 1 / np.std(np.arange(1, 9)), rtol=1e-5)
    np.testing.assert_allclose(other.inverse(), 1 / np.std(np.arange(1, 5)), rtol=1e-5)
    assert ReturnScale().inverse() == 1
    with pytest.raises(ValueError, match="running must be in the state"):
        one.restore({})
