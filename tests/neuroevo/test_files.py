"""Graphs in files of networkx: what was there is there again."""

import jax
import numpy as np
import pytest

from optix.neuroevo.graph.edges import from_edges, from_networkx, to_networkx
from optix.neuroevo.graph.records import Edge, Neuron

networkx = pytest.importorskip("networkx")


def sample(dale):
    neurons = [
        Neuron("input", "linear", "excitatory"),
        Neuron("hidden", "trainable_lstm", "inhibitory", 0.5, region=1),
        Neuron("hidden", "gaussian", "excitatory", -1e-7),
        Neuron("output", "linear"),
    ]
    edges = [Edge(0, 1, 0.5), Edge(0, 1, 0.25, 3), Edge(1, 3, -2.0), Edge(0, 2, 1e-6)]
    room = {"capacity": 9, "max_delay": 5, "max_cells": 2}
    return from_edges(neurons, [*edges, Edge(2, 3, 1.5, 1)], dale=dale, **room)


def trips():
    """Each format there and back, as readers give it by default or else."""
    return {
        "graphml": (networkx.write_graphml, networkx.read_graphml),
        "graphml multi": (
            networkx.write_graphml,
            lambda path: networkx.read_graphml(path, int, force_multigraph=True),
        ),
        "gml": (networkx.write_gml, networkx.read_gml),
        "gml ids": (networkx.write_gml, lambda path: networkx.read_gml(path, "id")),
        "gml literals": (
            networkx.write_gml,
            lambda path: networkx.read_gml(
                path, destringizer=networkx.readwrite.gml.literal_destringizer
            ),
        ),
        "gexf": (networkx.write_gexf, networkx.read_gexf),
        "gexf relabelled": (
            networkx.write_gexf,
            lambda path: networkx.read_gexf(path, int, relabel=True),
        ),
    }


@pytest.mark.parametrize("dale", ["clamp", "softplus"])
@pytest.mark.parametrize("name", trips())
def test_a_file_keeps_the_graph(name, dale, tmp_path):
    write, read = trips()[name]
    graph = sample(dale)
    write(to_networkx(graph), str(tmp_path / "graph"))
    again = from_networkx(read(str(tmp_path / "graph")))
    assert (again.dale, again.kinds, again.max_delay) == (dale, graph.kinds, 5)
    assert (again.capacity, again.max_cells) == (9, 2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9),
        again,
        graph,
    )


def test_attributes_are_plain():
    drawn = to_networkx(sample("clamp"))
    for fields in (drawn.graph, *(f for _, f in drawn.nodes(data=True))):
        assert {type(value) for value in fields.values()} <= {int, float, str}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bias": "much"}, "bias of node 'hand' must be a number, got 'much'"),
        ({"region": 1.5}, "region of node 'hand' must be an integer, got 1.5"),
        ({"gate": "[1, "}, "gate of node 'hand' must be the text of a list"),
        ({"kind": "tnah"}, "did you mean 'tanh'"),
        ({"knid": "tanh"}, "did you mean 'kind'"),
    ],
)
def test_what_is_no_value_is_refused(fields, message):
    drawn = networkx.DiGraph()
    drawn.add_node("eye", role="input", kind="linear")
    drawn.add_node("hand", role="output", **fields)
    with pytest.raises(ValueError, match=message):
        from_networkx(drawn)
