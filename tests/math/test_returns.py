"""Generalised advantages and V-trace against their definitions, as slow sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from optix.math.returns import following_values, generalized_advantages, vtrace

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


# -------------------------------------------------------------------------- V-trace

RHO_BAR, C_BAR = 1.3, 0.9
corrected = jax.jit(
    jax.vmap(vtrace, in_axes=(*[1] * 6, *[None] * 4), out_axes=1),
)


@pytest.fixture(scope="module")
def ratio():
    return np.exp(np.random.default_rng(1).normal(scale=0.7, size=(T, B)))


def slow_vtrace(data, ratio, discount, trace_lambda, rho_bar, c_bar):
    """Targets by equation 1 of the paper, sums over each step's own future."""
    reward, value, next_value, terminated, truncated = data
    end = terminated | truncated
    backup = reward + discount * np.where(terminated, 0.0, next_value)
    rho, c = np.minimum(rho_bar, ratio), trace_lambda * np.minimum(c_bar, ratio)
    target, advantage = value.copy(), np.zeros_like(value)
    steps, envs = value.shape
    for b in range(envs):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                target[start, b] += weight * rho[t, b] * (backup[t, b] - value[t, b])
                if end[t, b]:
                    break
                weight *= discount * c[t, b]
        for t in range(steps):
            future = backup[t, b]
            if not end[t, b] and t + 1 < steps:
                rest = target[t + 1, b] - value[t + 1, b]
                future += discount * trace_lambda * rest
            advantage[t, b] = rho[t, b] * (future - value[t, b])
    return target, advantage


@pytest.mark.parametrize(
    "settings",
    [
        (DISCOUNT, LAMBDA, RHO_BAR, C_BAR),
        (1.0, 1.0, 1.0, 1.0),
        (0.99, 0.0, 0.5, 0.5),
        (0.8, 1.0, np.inf, 1.0),
    ],
)
def test_vtrace_by_its_definition(data, ratio, settings):
    got = corrected(*data, ratio, *settings)
    target, advantage = slow_vtrace(data, ratio, *settings)
    assert got.target.dtype == got.advantage.dtype == jnp.float32
    np.testing.assert_allclose(got.target, target, atol=3e-5)
    np.testing.assert_allclose(got.advantage, advantage, atol=3e-5)


def test_vtrace_without_truncation_is_that_of_rlax(data, ratio):
    reward, value, next_value, terminated, _ = data
    # rlax knows one series of values; behind a termination its discount is 0
    value = np.concatenate([value, next_value[-1:]])
    never = np.zeros_like(terminated)
    got = corrected(
        *(reward, value[:-1], value[1:], terminated, never, ratio),
        *(DISCOUNT, LAMBDA, RHO_BAR, 1.0),
    )

    def oracle(value_tm1, value_t, reward, discount, ratio):
        return rlax.vtrace_td_error_and_advantage(
            *(value_tm1, value_t, reward, discount, ratio, LAMBDA, RHO_BAR, RHO_BAR)
        )

    columns = (value[:-1], value[1:], reward, DISCOUNT * ~terminated, ratio)
    theirs = jax.vmap(oracle, 1, 1)(*(jnp.float32(column) for column in columns))
    np.testing.assert_allclose(got.target - value[:-1], theirs.errors, atol=3e-5)
    np.testing.assert_allclose(got.advantage, theirs.pg_advantage, atol=3e-5)


def test_vtrace_of_ones_own_data_is_the_generalised_advantage(data):
    got = corrected(*data, np.ones((T, B)), DISCOUNT, LAMBDA, 1.0, 1.0)
    expected = compiled(*data, DISCOUNT, LAMBDA)
    np.testing.assert_allclose(got.target - data[1], expected, atol=1e-5)
    np.testing.assert_allclose(got.advantage, expected, atol=1e-5)


def test_vtrace_never_looks_behind_an_end(data, ratio):
    reward, value, next_value, terminated, truncated = data
    hidden = np.where(terminated, np.nan, next_value)
    data = (reward, value, hidden, terminated, truncated)
    got = corrected(*data, ratio, DISCOUNT, LAMBDA, RHO_BAR, C_BAR)
    assert np.isfinite(got.target).all() and np.isfinite(got.advantage).all()


def test_vtrace_refuses_a_batch():
    with pytest.raises(AssertionError):
        vtrace(*[jnp.zeros((3, 2))] * 6, 0.9)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_following_values_are_asked_for_where_an_episode_was_cut(share):
    rng = np.random.default_rng(1)
    value, after = rng.normal(size=(2, T, B)).astype(np.float32)
    cut = rng.random((T, B)) < share
    columns = jnp.arange(B)
    asked = []

    def value_after(steps):
        jax.debug.callback(asked.append, steps)
        return jnp.asarray(after)[steps, columns]

    given = following_values(jnp.asarray(value), jnp.asarray(cut), value_after)
    cut[-1] = True  # what followed a window's last step was not acted on
    np.testing.assert_array_equal(given, np.where(cut, after, np.roll(value, -1, 0)))
    jax.effects_barrier()
    assert len(asked) == cut.sum(0).max()


def test_following_values_of_many_seeds_at_once():
    value = jnp.arange(12.0).reshape(2, 3, 2)
    cut = jnp.zeros((2, 3, 2), bool).at[1, 0, 0].set(True)
    given = jax.vmap(
        lambda value, cut: following_values(value, cut, lambda steps: 100.0 + steps)
    )(value, cut)
    expected = np.roll(value, -1, 1)
    expected[:, -1] = 102
    expected[1, 0, 0] = 100
    np.testing.assert_array_equal(given, expected)
