"""Compiled programs of a run, and the order of their reports."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.run.programs import _aside, rows
from tests.callbacks.reports import report


def dispatch(seeds, capacity):
    """Reports whose round is 10 * seed + turn."""
    number = 10 * np.arange(seeds)[:, None] + np.arange(capacity)

    def many(leaf):
        leaf = np.asarray(leaf)
        return np.broadcast_to(leaf, (seeds, capacity, *leaf.shape))

    return jax.tree.map(many, report(0))._replace(round=number)


def test_reports_come_round_by_round_and_in_each_seed_by_seed():
    played = rows(dispatch(3, 4), np.array([2, 0, 3]))
    assert played.seeds.tolist() == [0, 2, 0, 2, 2]
    assert played.reports.round.tolist() == [0, 20, 1, 21, 22]
    assert played.reports.lane_scores.shape == (5, 1)
    pairs = [(seed, int(one.round)) for seed, one in played]
    assert pairs == [(0, 0), (2, 20), (0, 1), (2, 21), (2, 22)]


def test_seeds_of_a_smaller_batch_keep_their_places():
    played = rows(dispatch(2, 4), np.array([1, 2]), seeds=np.array([3, 7]))
    assert played.seeds.tolist() == [3, 7, 7]


def test_no_round_is_no_row():
    assert len(rows(dispatch(2, 4), np.array([0, 0]))) == 0
    assert list(rows(dispatch(2, 4), np.zeros(2, int))) == []


def test_a_program_aside_runs_in_a_thread_that_no_exit_waits_for():
    threads, compiled = [], []

    def note(x):
        threads.append(threading.current_thread())
        return x

    @jax.jit
    def double(x):
        compiled.append(x.shape)
        return 2 * jax.pure_callback(note, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    call = _aside(double)
    assert jax.eval_shape(call, jnp.ones(2)).shape == (2,) and not threads
    for x in (jnp.ones(2), jnp.ones(2), jnp.ones(3)):
        np.testing.assert_array_equal(call(x), 2 * x)
    assert compiled == [(2,), (3,)]  # once for each shape, traced ones included
    assert threading.main_thread() not in threads


def test_an_error_aside_arrives():
    def fail(x):
        raise KeyError("of the environment")

    @jax.jit
    def program(x):
        return jax.pure_callback(fail, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    with pytest.raises(jax.errors.JaxRuntimeError, match="of the environment"):
        _aside(program)(jnp.ones(1))
