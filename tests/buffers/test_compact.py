"""Observations in a smaller type: exact where it can hold them, everything else as is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.buffers.compact import compact
from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.types import Transition

RNG = np.random.default_rng(0)
ROWS = 64


def transitions(obs):
    """Rows that differ in everything."""
    action = jnp.arange(ROWS)
    reward = jnp.linspace(-1.0, 1.0, ROWS)
    return Transition(obs, action, reward, 0.9 * reward, obs[::-1])


@pytest.mark.parametrize("kind", [uniform, prioritised])
@pytest.mark.parametrize(
    ("dtype", "obs", "error"),
    [
        ("uint8", RNG.integers(0, 256, (ROWS, 4, 3)), 0.0),
        ("uint8", RNG.integers(0, 256, (ROWS, 3)) + 0.4, 0.41),
        ("bool", RNG.integers(0, 2, (ROWS, 4, 3)), 0.0),
        (jnp.float16, RNG.standard_normal((ROWS, 5)), 2e-3),
    ],
)
def test_what_comes_out_is_what_went_in(kind, dtype, obs, error):
    rows = transitions(jnp.asarray(obs, jnp.float32))
    buffer = compact(kind(ROWS), dtype)
    state = buffer.init(jax.tree.map(lambda x: x[0], rows))
    state = buffer.add(state, rows, jnp.ones(ROWS, bool))
    sample = buffer.sample(state, jax.random.key(0), 32).items
    expected = jax.tree.map(lambda x: x[sample.action], rows)
    for name in ("obs", "next_obs"):
        got = getattr(sample, name)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, getattr(expected, name), atol=error, rtol=0)
    np.testing.assert_array_equal(sample.reward, expected.reward)
    np.testing.assert_array_equal(sample.discount, expected.discount)


def test_images_take_a_quarter_of_the_memory_and_the_agent_acts_as_before():
    sizes = dict(num_envs=2, num_steps=8, capacity=64, batch_size=4, learning_starts=8)
    sizes |= dict(hidden=(8,), evaluation_episodes=1)
    policies, nbytes = [], []
    for dtype in (None, "uint8"):
        run = optix.make("Breakout-MinAtar", "dqn", observation_dtype=dtype, **sizes)
        learner = run.learner
        step = jax.jit(
            lambda state, key, learner=learner: learner.step(
                state, learner.hyperparams, key, True
            )
        )
        state, report = step(learner.init(jax.random.key(0)), jax.random.key(1))
        assert report.finite and report.metrics["value_loss"] != 0
        policies.append(state.policy)
        nbytes.append(state.memory.replay.items.obs.nbytes)
    jax.tree.map(np.testing.assert_array_equal, *policies)
    assert nbytes == [64 * 400 * 4, 64 * 400]


@pytest.mark.parametrize("dtype", ["uint9", "complex64", "str", 3.5])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match="must be one of numbers"):
        compact(uniform(10), dtype)
