"""Levels, cycles and paths against Kahn's algorithm and the transitive closure."""

import jax
import jax.numpy as jnp
import numpy as np

from optix.neuroevo.levels import acyclic, levels, reaches
from tests.neuroevo import reference
from tests.quick import jit

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
paths = jit(
    jax.vmap(
        jax.vmap(
            jax.vmap(reaches, in_axes=(None, None, None, 0)),
            in_axes=(None, None, 0, None),
        )
    )
)


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


def test_reaches_equals_the_transitive_closure():
    rng = np.random.default_rng(1)
    edge = random_edges(rng, 60, cycles=False)
    closure = np.eye(SIZE, dtype=bool) | edge
    for _ in range(4):
        closure = np.einsum("gij,gjk->gik", closure, closure)
    neurons = jnp.arange(SIZE)
    level = found(edge)
    answer = paths(
        edge, level, jnp.tile(neurons, (60, 1)), jnp.tile(neurons, (60, 1))
    )  # [graph, start, goal]
    np.testing.assert_array_equal(np.array(answer), closure.transpose(0, 2, 1))
    assert 0.1 < closure.mean() < 0.6
