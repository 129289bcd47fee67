"""What is made for XLA:CPU is off elsewhere, and both ways give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.math.returns import generalized_advantages, vtrace
from optix.xla.affine import apply_affine
from optix.xla.backend import on_cpu, time_unroll
from optix.xla.barrier import barrier
from optix.xla.recurrence import discounted_sums
from optix.xla.stored import stored

T = 13
rng = np.random.default_rng(0)
X, DECAY = rng.normal(size=T), rng.random(T) * (rng.random(T) > 0.2)


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    """Trace as for this backend; what is traced runs here all the same."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


def test_loops_over_time_are_unrolled_where_a_turn_costs(backend):
    assert on_cpu() == (backend == "cpu")
    assert time_unroll() == 1 if backend == "cpu" else 4 <= time_unroll() <= 8


@pytest.mark.parametrize(
    ("function", "mark"),
    [
        (lambda x: barrier({"x": x}), "optimization_barrier"),
        (lambda x: apply_affine(x, x[:3], x[0]), "custom_vjp"),
        (lambda x: discounted_sums(x[:, 0], x[:, 0]), "scan["),
        (lambda x: stored(jnp.sin)(x), "xla_metadata"),
    ],
)
def test_what_a_cpu_needs_is_for_a_cpu_alone(backend, function, mark):
    # a function of its own: what was traced for one backend is kept
    program = str(jax.make_jaxpr(lambda x: function(x))(jnp.ones((1024, 3))))
    assert (mark in program) == (backend == "cpu"), program


@pytest.mark.parametrize("length", [1, 2, 7, T])
def test_sums_are_those_of_the_recurrence(backend, length):
    x, decay = X[:length], DECAY[:length]
    expected, after = np.zeros(length), 0.0
    for t in reversed(range(length)):
        expected[t] = after = x[t] + decay[t] * after
    given = jit(discounted_sums)(jnp.float32(x), jnp.float32(decay))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_nothing_passes_an_end(backend):
    """What is infinite, or no number, stays on its side of a zero."""
    x = jnp.array([1.0, 2.0, jnp.finfo(jnp.float32).max, 4.0])
    given = discounted_sums(x, jnp.array([1.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(given[:2], [3.0, 2.0])


def test_advantages_and_targets_are_the_same_either_way(monkeypatch):
    reward, value, after = (jnp.float32(rng.normal(size=T)) for _ in range(3))
    ends = [jnp.asarray(rng.random(T) < 0.2) for _ in range(2)]
    ratio = jnp.float32(np.exp(rng.normal(size=T)))

    def found():
        advantages = generalized_advantages(reward, value, after, *ends, 0.9, 0.8)
        return advantages, *vtrace(reward, value, after, *ends, ratio, 0.9, 0.8)

    step_by_step = found()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for a, b in zip(step_by_step, found(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
