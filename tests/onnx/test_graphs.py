"""The files of graphs against the graphs, over several steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checks import OptionError
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.edges import from_edges
from optix.neuroevo.graph.network import graph_network
from optix.neuroevo.graph.records import Edge, Neuron
from optix.neuroevo.graph.regions import Brain
from optix.neuroevo.graph.static import StaticGraph, freeze
from optix.onnx import export_graph, export_policy
from optix.types import Agent, Policy
from tests.onnx.parity import BATCHES, TOLERANCE, Played, after

KINDS = (
    "linear",
    "relu",
    "tanh",
    "sigmoid",
    "elu",
    "sin",
    "gaussian",
    "softplus",
    "gelu",
)


def points():
    """A layer of every kind of point neuron, and one that reaches no output."""
    neurons = [Neuron("input")] * 2 + [Neuron("output")]
    neurons += [Neuron("hidden", kind, bias=0.1) for kind in KINDS]
    edges = [Edge(n % 2, 3 + n, 0.7 - 0.2 * n) for n in range(len(KINDS))]
    edges += [Edge(3 + n, 2, 0.3 + 0.1 * n) for n in range(len(KINDS) - 1)]
    return from_edges(neurons, edges, capacity=16)


def remembering():
    """Cells of both kinds, delays of one, two and three steps, Dale's law."""
    neurons = [
        *(Neuron("input"), Neuron("input"), Neuron("output", "tanh"), Neuron("output")),
        Neuron("hidden", "gru", gate=np.linspace(-1, 1, 12).reshape(4, 3).tolist()),
        Neuron("hidden", "lstm", gate=np.linspace(1, -2, 12).reshape(4, 3).tolist()),
        Neuron("hidden", "tanh", cell_type="inhibitory", bias=-0.2),
    ]
    edges = [
        *(Edge(0, 4, 0.8), Edge(1, 5, -0.9), Edge(0, 6, 0.5, 1), Edge(4, 6, 0.4)),
        *(Edge(5, 2, 1.1), Edge(6, 2, -0.7), Edge(6, 3, -0.3, 2), Edge(3, 4, 0.6, 3)),
        *(Edge(4, 4, 0.2, 1), Edge(1, 3, 0.5)),
    ]
    return from_edges(neurons, edges, capacity=10)


def brain():
    network = BrainNetwork()
    network.add_region("sensory", layered(2, (3,), 2))
    network.add_region("executive", layered(2, (3,), 2))
    network.add_pathway("sensory", "executive", n_connections=4, delay=0)
    network.add_pathway("executive", "sensory", n_connections=2, delay=1)
    return network.build(inputs=["sensory"], outputs=["executive"])


GRAPHS = {
    "points": points,
    "remembering": remembering,
    "frozen": lambda: freeze(remembering()),
    "brain": brain,
}


def follow(played, graph):
    """Compare three steps of a file with those of a graph, as `graph_network` runs it."""
    network = graph_network(graph, keep_weights=True)
    params, structure = network.init(jax.random.key(0))
    step = jax.jit(lambda carry, obs: network.apply(params, structure, carry, obs))
    carry = network.initial_carry(7)
    fed = {batch: played.at_rest(batch) for batch in BATCHES}
    for turn in range(4):
        obs = np.random.default_rng(turn).normal(size=(7, graph.num_inputs))
        obs = obs.astype(np.float32)
        carry, outputs = step(carry, obs)
        for batch in BATCHES:
            found = played(observation=obs[:batch], **fed[batch])
            np.testing.assert_allclose(found["outputs"], outputs[:batch], **TOLERANCE)
            fed[batch] = after(found)


@pytest.mark.parametrize("name", GRAPHS)
def test_outputs_are_those_of_the_graph(name, tmp_path):
    graph = GRAPHS[name]()
    export_graph(graph, tmp_path / "graph.onnx", about={"score": "3"})
    played = Played(tmp_path / "graph.onnx")
    plain = graph.graph if isinstance(graph, Brain | StaticGraph) else graph
    follow(played, plain)
    assert played.about["score"] == "3"
    assert bool(played.at_rest(1)) == (name != "points")


def test_a_policy_of_a_graph_that_remembers(tmp_path):
    """By the graph itself, whose levels are a loop, not by what `freeze` makes of it."""
    graph = remembering()
    network = graph_network(graph)
    policy = Policy(*network.init(jax.random.key(0)))

    def outputs(policy, carry, obs):
        return network.apply(policy.params, policy.structure, carry, obs)

    def act(policy, carry, obs, hyperparams, key, explore):
        carry, out = outputs(policy, carry, obs)
        return carry, jnp.argmax(out, -1), {}

    agent = Agent(
        lambda key: policy,
        network.initial_carry,
        act,
        lambda *args: None,
        {},
        outputs=outputs,
        output_names=("outputs",),
    )
    path = tmp_path / "policy.onnx"
    export_policy(agent, policy, path, observation_shape=(2,))
    played = Played(path)
    assert [*played.at_rest(1)] == ["carry_history", "carry_h", "carry_c"]
    follow(played, graph)


def test_something_else_is_no_graph(tmp_path):
    with pytest.raises(OptionError, match="graph must be a NeuronGraph"):
        export_graph("policy", tmp_path / "graph.onnx")
