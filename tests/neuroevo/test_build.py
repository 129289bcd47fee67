"""Building graphs on the host, and reading them back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.neuroevo.graph import forward
from optix.neuroevo.graph.build import GraphBuilder, draw, layered, random_graph
from optix.neuroevo.graph.cells import KINDS
from optix.neuroevo.graph.edges import (
    Edge,
    Neuron,
    from_edges,
    from_networkx,
    slots,
    to_edges,
    to_networkx,
)
from tests.neuroevo import reference

RNG = np.random.default_rng(0)


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), a, b)


def mixed(**options):
    """A graph of every kind, with parallel edges and delays."""
    builder = GraphBuilder(**options)
    source = builder.add_neuron("input")
    hidden = [builder.add_neuron("hidden", kind, bias=0.1) for kind in KINDS]
    out = builder.add_neuron("output", "sigmoid")
    for n, neuron in enumerate(hidden):
        builder.add_edge(source, neuron, 0.5 + n)
        builder.add_edge(source, neuron, -0.5, delay=2)
        builder.add_edge(neuron, out, 1.0, delay=n % 3)
        builder.add_edge(neuron, neuron, 0.25, delay=1)
    return builder.build(capacity=20)


def test_slots_are_inputs_then_outputs_then_hidden():
    graph = mixed()
    roles = ["input", *["hidden"] * len(KINDS), "output"]
    assert slots([Neuron(r) for r in roles]) == [0, *range(2, 2 + len(KINDS)), 1]
    assert graph.structure.kind[2 : 2 + len(KINDS)].tolist() == list(range(len(KINDS)))
    assert graph.max_cells == 4 and graph.max_delay == 2 and graph.capacity == 20
    np.testing.assert_array_equal(
        graph.structure.level, reference.levels(np.asarray(graph.structure.edge[0]), 1)
    )


@pytest.mark.parametrize("dale", ["clamp", "softplus"])
def test_edge_lists_and_networkx_give_the_same_graph_back(dale):
    neurons = [
        Neuron("input", "linear", "excitatory"),
        Neuron("hidden", "trainable_lstm", "inhibitory", 0.5, region=1),
        Neuron("hidden", "elu", "excitatory"),
        Neuron("output", "linear"),
    ]
    edges = [Edge(0, 1, 0.5), Edge(0, 1, 0.25, 3), Edge(1, 3, -2.0), Edge(0, 2, 1.0)]
    graph = from_edges(neurons, [*edges, Edge(2, 3, 1.5, 1)], dale=dale)
    assert_same(from_edges(*to_edges(graph), dale=dale), graph)
    pytest.importorskip("networkx")
    assert_same(from_networkx(to_networkx(graph), dale=dale), graph)
    # in the order of slots: input, output, hidden ones
    given = {(e.src, e.dst, e.delay): e.weight for e in to_edges(graph)[1]}
    assert given[0, 2, 3] == pytest.approx(0.25)
    assert given[2, 1, 0] == pytest.approx(-2.0)


def test_a_misspelt_attribute_of_an_edge_is_refused():
    networkx = pytest.importorskip("networkx")
    drawn = networkx.DiGraph()
    drawn.add_node("eye", role="input", kind="linear")
    drawn.add_node("hand", role="output", kind="linear")
    drawn.add_edge("eye", "hand", wieght=2.0)
    with pytest.raises(ValueError, match="edge 'eye' to 'hand' .* mean 'weight'"):
        from_networkx(drawn)


def test_softplus_keeps_the_weights_that_were_asked_for():
    neurons = [Neuron("input", "linear", "excitatory"), Neuron("output", "linear")]
    graph = from_edges(neurons, [Edge(0, 1, 0.5)], dale="softplus")
    assert to_edges(graph)[1][0].weight == pytest.approx(0.5)
    graph = from_edges(neurons, [Edge(0, 1, 0.0)], dale="softplus")
    assert 0 < to_edges(graph)[1][0].weight < 0.01


def test_layers_are_fully_connected():
    graph = layered(3, (4, 2), 2, recurrent_delay=1)
    edge = np.asarray(graph.structure.edge)
    assert edge[0].sum() == 3 * 4 + 4 * 2 + 2 * 2
    assert edge[1].sum() == 4 * 4 + 2 * 2
    assert graph.recurrent and not layered(3, (4,), 2).recurrent
    assert int(graph.structure.level.max()) == 3


@pytest.mark.parametrize("seed", range(4))
def test_in_random_graphs_every_neuron_can_learn(seed):
    graph = random_graph(
        jax.random.key(seed),
        3,
        9,
        2,
        density=0.1,
        max_delay=2,
        delayed_density=0.1,
        kinds=("tanh", "relu", "gru"),
    )
    edge = np.asarray(graph.structure.edge)
    living = np.asarray(graph.structure.alive)
    assert edge[0].any(1)[3:][living[3:]].all()  # all but inputs hear something
    assert reference.levels(edge[0], 3) is not None
    assert (np.asarray(graph.weights.edge)[edge] != 0).all()


def test_drawing_respects_dales_law_and_is_one_trace_for_many_seeds():
    builder = GraphBuilder()
    source = builder.add_neuron("input", cell_type="excitatory")
    hidden = builder.add_neuron("hidden", "tanh", "inhibitory")
    out = builder.add_neuron("output")
    builder.add_edge(source, hidden)
    builder.add_edge(hidden, out)
    graph = builder.build()
    many = jax.vmap(draw, in_axes=(None, 0))(
        graph, jax.random.split(jax.random.key(0), 9)
    )
    assert jnp.all(many.weights.edge[:, 0, 2, 0] > 0)
    assert jnp.all(many.weights.edge[:, 0, 1, 2] < 0)


def test_a_builder_ends_in_the_definition():
    graph = mixed()
    obs = RNG.standard_normal((6, 1))
    outputs, _ = reference.run(graph, obs)
    given = jax.jit(forward.sequence)(
        graph, forward.initial_carry(graph), jnp.float32(obs), jnp.zeros(6, bool)
    )[1]
    np.testing.assert_allclose(given, outputs, atol=1e-5)


def builder():
    b = GraphBuilder()
    for role in ("input", "hidden", "hidden", "output"):
        b.add_neuron(role)
    b.add_edge(0, 1, 1.0)
    b.add_edge(1, 2, 1.0)
    return b


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.add_edge(2, 1), "must form no cycle, .* a delay of 1 or more"),
        (lambda b: b.add_edge(1, 1), "from a neuron to itself must have a delay"),
        (lambda b: b.add_edge(1, 0), "no edge may lead into an input"),
        (lambda b: b.add_edge(0, 9), "dst must be one of the 4 neurons, got 9"),
        (lambda b: b.add_edge(0, 1), "are one edge"),
        (lambda b: b.add_edge(0, 2, delay=-1), "delay must be an integer >= 0, got -1"),
        (lambda b: b.add_edge(0, 2, float("nan")), "weight must be in .* got nan"),
        (lambda b: b.add_neuron("hiden"), "did you mean 'hidden'"),
        (lambda b: b.add_neuron("hidden", "tan"), "did you mean 'tanh'"),
        (lambda b: b.add_neuron("hidden", "tanh", "inhibitor"), "'inhibitory'"),
        (lambda b: b.add_neuron("input", "gru"), "an input hands on"),
        (lambda b: b.add_neuron("hidden", "tanh", gate=[0.0]), "gate must be"),
        (lambda b: b.add_neuron(region=128), "region must be 0 to 127, got 128"),
        (lambda b: b.build(capacity=3), "capacity must be at least 4, got 3"),
        (lambda b: GraphBuilder().build(), "at least one input"),
        (lambda b: GraphBuilder("clam").build(), "did you mean 'clamp'"),
        (lambda b: layered(2, (0,), 1), "a hidden layer must be an integer >= 1"),
        (lambda b: layered(2, 8, 1), "hidden must be a sequence of widths, got 8"),
        (
            lambda b: random_graph(jax.random.key(0), 2, 3, 1, kinds="tanh"),
            "kinds must be a sequence of one name or more, got 'tanh'",
        ),
        (
            lambda b: b.add_neuron("hidden", "gru", gate=[[np.nan] * 3] * 4),
            "gate must be finite",
        ),
        (
            lambda b: from_edges(
                [Neuron(r) for r in ("input", "hidden", "hidden", "output")],
                [Edge(1, 2), Edge(2, 1)],
            ),
            "must form no cycle",
        ),
        (
            lambda b: from_edges(
                [Neuron("input", "linear", "inhibitory"), Neuron("output")],
                [Edge(0, 1, 1.0)],
            ),
            "on its side of 0",
        ),
    ],
)
def test_what_can_not_be_built_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(builder())


def test_a_refused_edge_leaves_the_builder_as_it_was():
    b = builder()
    with pytest.raises(ValueError, match="cycle"):
        b.add_edge(2, 1)
    b.add_edge(2, 1, delay=1)
    assert int(b.build().structure.edge.sum()) == 3
