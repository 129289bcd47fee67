"""Levels and cycles against Kahn's algorithm."""

import jax
import numpy as np
from jax import jit

from optix.neuroevo.graph.graph import acyclic, levels
from tests.neuroevo import reference

INPUTS, SIZE, GRAPHS = 3, 12, 400


def random_edges(rng, count, cycles):
    """[count, N, N] of many densities, none into inputs."""
    edge = rng.random((count, SIZE, SIZE)) < rng.uniform(0, 0.6, (count, 1, 1))
    edge[:, :INPUTS] = False
    if not cycles:
        order = rng.random((count, SIZE))
        order[:, :INPUTS] -= 1
        edge &= order[:, None, :] < order[:, :, None]
    return edge


found = jit(jax.vmap(lambda edge: levels(edge, INPUTS)))
judged = jit(jax.vmap(lambda level: acyclic(level, INPUTS)))


def test_levels_and_cycles_equal_kahns():
    rng = np.random.default_rng(0)
    edge = np.concatenate([random_edges(rng, GRAPHS, cycles) for cycles in (0, 1)])
    expected = [reference.levels(one, INPUTS) for one in edge]
    level = np.array(found(edge))
    verdict = np.array(judged(level))
    assert level.dtype == np.int32
    assert list(verdict) == [one is not None for one in expected]
    assert verdict[:GRAPHS].all() and 40 < verdict[GRAPHS:].sum() < GRAPHS - 40
    truths = [one for one in expected if one is not None]
    np.testing.assert_array_equal(level[verdict], truths)


def test_the_longest_chain_is_no_cycle_and_one_edge_more_is():
    edge = np.eye(SIZE, k=-1, dtype=bool)
    edge[:INPUTS] = False
    np.testing.assert_array_equal(
        found(edge[None])[0], np.maximum(np.arange(SIZE) - INPUTS + 1, 0)
    )
    assert judged(found(edge[None]))[0]
    edge[INPUTS, -1] = True
    assert not judged(found(edge[None]))[0]
    loop = np.zeros((SIZE, SIZE), bool)
    loop[-1, -1] = True
    assert not judged(found(loop[None]))[0]
