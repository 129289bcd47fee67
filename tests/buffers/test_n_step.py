"""Returns of several steps against a loop over every step's own future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.buffers.n_step import n_step
from optix.types import Trajectory

T, B, DISCOUNT = 40, 5, 0.9


@pytest.fixture(scope="module")
def stream():
    """Steps whose numbers say where they come from; ends of both kinds, and of both."""
    rng = np.random.default_rng(0)
    terminated, truncated = rng.random((2, T, B)) < 0.15
    terminated[7, 0] = truncated[7, 0] = True
    terminated[:, 4] = truncated[:, 4] = False
    name = np.arange(T * B, dtype=np.float32).reshape(T, B)
    reward = rng.normal(size=(T, B)).astype(np.float32)
    obs = np.stack([name, -name], -1)
    return Trajectory(
        {"x": obs},
        name.astype(np.int32),
        reward,
        terminated,
        truncated,
        {"x": obs + 0.5},
    )


def one_step(stream):
    return jax.tree.map(lambda x: jnp.asarray(x[0, 0]), stream)


def through(n, stream, discount=DISCOUNT, cut=None):
    """All of the stream, in windows of `cut` steps with the state carried over."""
    line = n_step(n)

    @jit
    def window(state, steps, discount):
        def body(state, step):
            state, *out = line.push(state, step, discount)
            return state, out

        return jax.lax.scan(body, state, steps)

    state, parts = line.init(one_step(stream), B), []
    for start in range(0, T, cut or T):
        steps = jax.tree.map(lambda x, s=start: x[s : s + (cut or T)], stream)
        state, out = window(state, steps, discount)
        parts.append(out)
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def slow(n, stream, t, b):
    """Reward, discount and the step that is bootstrapped from."""
    total = 0.0
    for k in range(n):
        total += DISCOUNT**k * stream.reward[t + k, b]
        if stream.terminated[t + k, b]:
            return total, 0.0, t + k
        if stream.truncated[t + k, b] or k == n - 1:
            return total, DISCOUNT ** (k + 1), t + k
    raise AssertionError


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_step_comes_out_once_with_its_own_return(stream, n):
    rows, valid = through(n, stream)
    assert not valid[: n - 1].any() and valid[n - 1 :].all()
    for t in range(T - n + 1):
        for b in range(B):
            reward, discount, last = slow(n, stream, t, b)
            at = t + n - 1, b
            assert rows.action[at] == stream.action[t, b]
            np.testing.assert_array_equal(rows.obs["x"][at], stream.obs["x"][t, b])
            np.testing.assert_allclose(rows.reward[at], reward, atol=1e-5)
            np.testing.assert_allclose(rows.discount[at], discount, atol=1e-6)
            np.testing.assert_array_equal(
                rows.next_obs["x"][at], stream.next_obs["x"][last, b]
            )


def test_nothing_is_lost_between_windows(stream):
    whole, parts = through(4, stream), through(4, stream, cut=5)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_a_discount_of_zero_keeps_the_first_reward(stream):
    rows, valid = through(3, stream, discount=0.0)
    np.testing.assert_array_equal(rows.reward[valid], stream.reward[: T - 2].ravel())
    assert not rows.discount.any()


def test_one_step_has_no_state(stream):
    assert n_step(1).init(one_step(stream), B) == ()


def test_wrong_calls(stream):
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="n must be an integer >= 1"):
            n_step(wrong)
    line = n_step(3)
    state = line.init(one_step(stream), B)
    step = jax.tree.map(lambda x: x[0], stream)
    with pytest.raises(ValueError, match="step.*reward.*got"):
        line.push(state, step._replace(reward=np.zeros((B, 1), np.float32)), 0.9)
    with pytest.raises(ValueError, match="step must have the structure"):
        line.push(state, step._replace(extras=np.zeros(B)), 0.9)
