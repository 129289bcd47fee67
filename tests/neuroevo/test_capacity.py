"""More room changes nothing but the shapes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit

from optix.neuroevo.graph.capacity import grow_capacity, pad_like
from optix.neuroevo.graph.cells import KINDS
from optix.neuroevo.graph.graph import levels
from optix.neuroevo.graph.optimizer import topology_adam
from optix.neuroevo.topology import mutate
from optix.types import Policy
from tests.neuroevo import reference

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), topology_adam())


def test_sizes():
    graph = reference.sample(np.random.default_rng(0), max_cells=3)
    sizes = [
        (grow_capacity(graph), (32, 3, 6)),
        (grow_capacity(graph, 20), (20, 3, 3)),
        (grow_capacity(graph, max_delay=5), (16, 5, 3)),
        (grow_capacity(graph, max_cells=4), (16, 3, 4)),
    ]
    for grown, expected in sizes:
        assert (grown.capacity, grown.max_delay, grown.max_cells) == expected
        assert [x.dtype for x in jax.tree.leaves(grown)] == [
            x.dtype for x in jax.tree.leaves(graph)
        ]
        found = levels(grown.structure.edge[0], grown.num_inputs)
        np.testing.assert_array_equal(grown.structure.level, found)


@pytest.mark.parametrize(
    "sizes", [{}, {"max_delay": 5}, {"capacity": 18, "max_cells": 4}]
)
@pytest.mark.parametrize("dale", ["clamp", "softplus"])
def test_the_function_is_kept_in_the_middle_of_an_episode(sizes, dale):
    rng = np.random.default_rng(1)
    graph = reference.sample(rng, dale=dale, signed=True, scale=0.5)
    grown = grow_capacity(graph, **sizes)
    obs = rng.standard_normal((12, graph.num_inputs))
    _, state = reference.run(graph, obs[:6])
    expected, _ = reference.run(graph, obs[6:], state)
    with jax.enable_x64(True):
        padded = pad_like(state, reference.rest(grown))
    outputs, _ = reference.run(grown, obs[6:], jax.tree.map(np.asarray, padded))
    np.testing.assert_array_equal(outputs[:, : graph.capacity], expected)
    assert not outputs[:, graph.capacity :].any()


def test_growth_makes_room_for_neurons_and_cells():
    full = reference.sample(
        np.random.default_rng(2), capacity=11, hidden=6, max_cells=1
    )
    add = jit(lambda graph, kind: mutate.add_neuron(graph, kind))
    for kind in ("tanh", "trainable_gru"):
        number = jnp.int32(KINDS.index(kind))
        assert not add(full, number).ok
        grown = add(grow_capacity(full), number)
        assert grown.ok and grown.neuron == 11


def test_a_population_keeps_its_leading_axis():
    rng = np.random.default_rng(3)
    graphs = [reference.sample(rng) for _ in range(3)]
    together = grow_capacity(jax.tree.map(lambda *x: np.stack(x), *graphs))
    one_by_one = [grow_capacity(graph) for graph in graphs]
    chex.assert_trees_all_equal(
        together, jax.tree.map(lambda *x: jnp.stack(x), *one_by_one)
    )


def test_a_grown_policy_learns_on_as_before():
    """Old entries take the same steps, with the moments they had; new ones take none."""
    rng = np.random.default_rng(4)
    graph = jax.tree.map(jnp.asarray, reference.sample(rng))
    weights = graph.weights
    gradients = [
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), weights)
        for _ in range(2)
    ]
    step = jax.jit(
        lambda policy, gradient: OPTIMIZER.update(
            gradient, policy.opt_state, policy.params, version=policy.structure
        )
    )
    policy = Policy(weights, graph.structure, OPTIMIZER.init(weights))
    _, opt_state = step(policy, gradients[0])
    policy = policy._replace(opt_state=opt_state)
    grown = grow_capacity(graph)
    template = Policy(grown.weights, grown.structure, OPTIMIZER.init(grown.weights))
    larger = pad_like(policy, jax.eval_shape(lambda: template))
    chex.assert_trees_all_equal(
        larger._replace(opt_state=()), template._replace(opt_state=())
    )
    expected, _ = step(policy, gradients[1])
    updates, _ = step(larger, pad_like(gradients[1], grown.weights))
    chex.assert_trees_all_close(updates, pad_like(expected, grown.weights), rtol=1e-6)
    assert jnp.abs(updates.edge).max() > 0.1


def test_errors_say_what_to_do():
    graph = reference.sample(np.random.default_rng(0))
    with pytest.raises(ValueError, match="must be at least the present 16, got 8"):
        grow_capacity(graph, 8)
    with pytest.raises(ValueError, match=r"shape \(4,\) must have room in .* \(2,\)"):
        pad_like(jnp.zeros(4), jnp.zeros(2))
