"""What reaches no output or is fed by nothing: not counted, and freed by pruning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.neuroevo.drawing.layout import snapshot
from optix.neuroevo.drawing.summary import summary
from optix.neuroevo.graph.build import GraphBuilder
from optix.neuroevo.graph.graph import working
from optix.neuroevo.graph.optimizer import topology_adam
from optix.neuroevo.graph.regions import count_region
from optix.neuroevo.growth.conditions import shares_in_use
from optix.neuroevo.growth.gradients import gradient_moments
from optix.neuroevo.growth.importance import activity, importance
from optix.neuroevo.growth.upkeep import hidden_kept
from optix.neuroevo.topology.mutate import add_edge, add_neuron
from optix.neuroevo.topology.prune import merge_neurons, prune_neuron, prune_stranded
from tests.neuroevo import reference

IN, OUT = 0, 1
NAMES = {}


def build():
    """Neurons of every kind of fate; `NAMES` has their slots."""
    builder = GraphBuilder()
    for name, options in {
        "in": dict(role="input"),
        "out": dict(role="output"),
        "works": dict(),
        "before_dead_end": dict(),
        "dead_end": dict(),
        "dead_loop": dict(),
        "constant": dict(bias=0.5),
        "after_constant": dict(kind="sigmoid", bias=-0.25),
        "silent_loop": dict(),
        "clock": dict(bias=0.3),
        "alone": dict(bias=1.0),
    }.items():
        NAMES[name] = builder.add_neuron(**options)
    for src, dst, weight, delay in (
        ("in", "works", 0.5, 0),
        ("works", "out", 0.5, 2),
        ("in", "before_dead_end", 1.0, 0),
        ("before_dead_end", "dead_end", 1.0, 1),
        ("in", "dead_loop", 1.0, 0),
        ("dead_loop", "dead_loop", 1.0, 1),
        ("constant", "after_constant", 0.7, 1),
        ("after_constant", "out", 0.6, 0),
        ("constant", "works", -0.4, 0),
        ("silent_loop", "silent_loop", 0.9, 1),
        ("silent_loop", "out", 0.9, 0),
        ("clock", "clock", -0.9, 1),
        ("clock", "out", 0.2, 0),
    ):
        builder.add_edge(NAMES[src], NAMES[dst], weight, delay)
    return builder.build(capacity=14)


graph = build()
AT_WORK = ["in", "out", "works", "clock"]


def test_what_works_is_between_inputs_and_outputs():
    found = np.flatnonzero(working(graph)).tolist()
    assert found == sorted(NAMES[name] for name in AT_WORK)


def test_pruning_frees_the_rest_and_keeps_the_function():
    pruned, ok, _, _, lost = jax.jit(prune_stranded)(graph)
    assert bool(ok) and float(lost) == 0.0
    alive = np.flatnonzero(pruned.structure.alive).tolist()
    assert alive == sorted(NAMES[name] for name in AT_WORK)
    obs = np.random.default_rng(0).standard_normal((8, 1)).astype(np.float32)
    before, after = (reference.run(g, obs)[0] for g in (graph, pruned))
    # behind a delay a constant is felt from the first step on
    np.testing.assert_allclose(before[2:, OUT], after[2:, OUT], atol=1e-6)
    assert not bool(jax.jit(prune_stranded)(pruned).ok)


def test_it_is_counted_nowhere():
    text = summary(graph)
    assert "1 inputs, 2 hidden, 1 outputs" in text and "not counted 7 neurons" in text
    assert snapshot(graph).alive.sum() == 4
    assert count_region(graph, 0).hidden == 2
    outputs = jnp.ones((3, graph.capacity))
    worth = np.asarray(importance(graph, activity(outputs)))
    assert worth[NAMES["dead_end"]] == worth[NAMES["constant"]] == 0 < worth[IN]
    state = topology_adam().init(graph.weights)
    busy = jax.tree.map(lambda x: jnp.full_like(x, 0.9), state.mu)
    # gradients all one way of the neurons at work, none of the others
    state = state._replace(
        mu=busy._replace(
            edge=busy.edge * np.asarray(working(graph))[:, None],
            bias=busy.bias * working(graph),
        ),
        nu=jax.tree.map(lambda x: jnp.full_like(x, 0.1), state.nu),
        count=jax.tree.map(lambda x: jnp.full_like(x, 100), state.count),
    )
    assert gradient_moments(state).decays.shape == (2,)
    assert shares_in_use(graph, state, 1).tolist() == [1.0]


def test_the_least_number_of_hidden_neurons_are_neurons_that_work():
    builder = GraphBuilder()
    eye, hand = builder.add_neuron("input"), builder.add_neuron("output")
    first, second = builder.add_neuron(), builder.add_neuron()
    for src, dst in ((eye, first), (first, second), (second, hand), (eye, hand)):
        builder.add_edge(src, dst, 0.5)
    chain = builder.build()
    after = prune_neuron(chain, second).graph
    assert np.flatnonzero(working(after)).tolist() == [eye, hand]
    assert not bool(hidden_kept(1, 1, chain, after))
    assert bool(hidden_kept(0, 1, chain, after))


@pytest.mark.parametrize("size", [1e29, -3e38])
def test_a_change_that_leaves_float32_is_refused(size):
    builder = GraphBuilder()
    eye, hand = builder.add_neuron("input"), builder.add_neuron("output")
    linear = builder.add_neuron("hidden", "linear")
    twins = [builder.add_neuron() for _ in range(2)]
    builder.add_edge(eye, linear, 1.0)
    builder.add_edge(linear, hand, 1.0)
    for twin in twins:
        builder.add_edge(eye, twin, 1.0)
        builder.add_edge(twin, hand, 1.0)
    graph = builder.build()
    huge = jnp.where(graph.structure.edge, jnp.float32(size), 0.0)
    graph = graph.replace(weights=graph.weights._replace(edge=huge))
    for mutation in (
        prune_neuron(graph, linear),
        prune_neuron(graph, twins[0], jnp.float32(1e30)),
        merge_neurons(graph, *twins, 2.0 if size < 0 else 1e20),
        add_edge(graph, linear, twins[0], 0, jnp.float32(jnp.inf)),
        add_neuron(builder.build(capacity=6), "tanh", bias=jnp.float32(jnp.nan)),
    ):
        assert not bool(mutation.ok) and float(mutation.lost) == 0.0
    jax.tree.map(
        np.testing.assert_array_equal, prune_neuron(graph, linear).graph, graph
    )
