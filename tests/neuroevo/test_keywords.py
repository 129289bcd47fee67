"""Every keyword of every factory: right, or one ValueError that names it."""

import inspect

import jax
import pytest

from optix.neuroevo.drawing.plot import animate, plot, strip
from optix.neuroevo.drawing.summary import summary
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.build import GraphBuilder, layered, random_graph
from optix.neuroevo.graph.capacity import grow_capacity
from optix.neuroevo.graph.cells import register_activation
from optix.neuroevo.graph.edges import from_edges, from_networkx, to_networkx
from optix.neuroevo.graph.network import graph_actor_critic, graph_network
from optix.neuroevo.graph.optimizer import graph_optimizer, keep_sign, topology_adam
from optix.neuroevo.graph.records import Edge, Neuron
from optix.neuroevo.graph.static import freeze
from optix.neuroevo.growth.controller import topology_controller
from optix.neuroevo.growth.hebbian import hebbian
from optix.neuroevo.topology import mutate, prune
from optix.types import Discrete

VALUES = (-1, 0, float("nan"), float("inf"), 1e30, "x", None, True, 1.5, 10**20)
GRAPH = layered(2, (3,), 2, capacity=10, max_delay=1, max_cells=1)


def add_neuron(**options):
    GraphBuilder().add_neuron(**options)


def add_edge(**options):
    builder = GraphBuilder()
    builder.add_neuron("input")
    builder.add_neuron("output")
    builder.add_edge(**options)


def network():
    made = BrainNetwork()
    made.add_region("one", layered(2, (3,), 2))
    made.add_region("two", layered(2, (3,), 2))
    return made


def add_region(**options):
    BrainNetwork().add_region(**options)


def add_pathway(**options):
    network().add_pathway(**options)


def add_brain_edge(**options):
    network().add_edge(**options)


def build_brain(**options):
    made = network()
    made.add_pathway("one", "two")
    made.build(**options)


def build_graph(**options):
    builder = GraphBuilder()
    builder.add_neuron("input")
    builder.add_neuron("output")
    builder.build(**options)


EDGE = dict(source=0, destination=4, delay=0)
FACTORIES = [  # (factory, what it needs, its keywords that are checked)
    (GraphBuilder, {}, "dale"),
    (add_neuron, {}, "role kind cell_type bias gate region"),
    (add_edge, dict(src=0, dst=1), "src dst weight delay"),
    (build_graph, {}, "capacity max_delay max_cells"),
    (
        layered,
        dict(num_inputs=2, hidden=(3,), num_outputs=1),
        "num_inputs hidden num_outputs key kind output_kind recurrent_delay dale "
        "capacity max_delay max_cells",
    ),
    (
        random_graph,
        dict(key=jax.random.key(0), num_inputs=2, num_hidden=3, num_outputs=1),
        "key num_inputs num_hidden num_outputs density delayed_density kinds "
        "output_kind dale capacity max_delay max_cells",
    ),
    (
        from_edges,
        dict(neurons=[Neuron("input"), Neuron("output")], edges=[Edge(0, 1)]),
        "neurons edges dale capacity max_delay max_cells",
    ),
    (to_networkx, {}, "graph"),
    (from_networkx, {}, "drawn"),
    (grow_capacity, dict(graph=GRAPH), "graph capacity max_delay max_cells"),
    (BrainNetwork, {}, "dale"),
    (add_region, dict(name="one", graph=GRAPH), "name graph"),
    (add_pathway, dict(src="one", dst="two"), "src dst n_connections delay weight"),
    (add_brain_edge, dict(src=("one", 2), dst=("two", 4)), "src dst weight delay"),
    (build_brain, {}, "inputs outputs key capacity max_delay max_cells"),
    (graph_network, dict(graph=GRAPH), "graph read keep_weights"),
    (
        graph_actor_critic,
        dict(observation_shape=(2,), action_space=Discrete(1)),
        "observation_shape action_space graph hidden kind recurrent_delay capacity "
        "max_delay max_cells keep_weights",
    ),
    (freeze, dict(graph=GRAPH), "graph"),
    (register_activation, dict(name="never", function=abs), "name function"),
    (topology_adam, {}, "b1 b2 eps"),
    (graph_optimizer, {}, "dale eps"),
    (keep_sign, {}, "dale"),
    (
        topology_controller,
        dict(graph=GRAPH),
        "graph conditions trigger operator kind max_neurons min_hidden min_scores "
        "merge_every prune gain_limit structure_limit utilisation_limit growth_rate "
        "cooldown max_growths weight_limit patience importance_limit "
        "correlation_limit maturity",
    ),
    (hebbian, dict(graph=GRAPH), "graph rule rate decay clip"),
    (mutate.add_edge, dict(graph=GRAPH) | EDGE, "source destination delay weight"),
    (mutate.add_neuron, dict(graph=GRAPH, kind="tanh"), "kind sign region bias gate"),
    (mutate.split_edge, dict(graph=GRAPH) | EDGE, "source destination delay"),
    (mutate.duplicate_neuron, dict(graph=GRAPH, neuron=4), "neuron"),
    (prune.prune_edge, dict(graph=GRAPH) | EDGE, "source destination delay"),
    (prune.prune_neuron, dict(graph=GRAPH, neuron=4), "neuron mean"),
    (
        prune.merge_neurons,
        dict(graph=GRAPH, keep=4, gone=5),
        "keep gone scale offset",
    ),
    (summary, dict(graph=GRAPH), "graph regions"),
    (plot, dict(graph=GRAPH), "graph regions title"),
    (strip, dict(graphs=[GRAPH], path="never.png"), "graphs labels regions columns"),
    (
        animate,
        dict(graphs=[GRAPH], path="never.gif"),
        "graphs labels regions frames_per_second",
    ),
]
CASES = [
    pytest.param(factory, needed, keyword, id=f"{factory.__name__}-{keyword}")
    for factory, needed, keywords in FACTORIES
    for keyword in keywords.split()
]
TRACED = {mutate.add_edge, mutate.add_neuron, mutate.split_edge}
TRACED |= {mutate.duplicate_neuron, prune.prune_edge, prune.prune_neuron}
TRACED |= {prune.merge_neurons}


def call(factory, options):
    """Call it; a mutation is only traced, and nothing is drawn or kept."""
    if factory in TRACED:
        jax.eval_shape(lambda: factory(**options))
    else:
        factory(**options)


@pytest.mark.parametrize(("factory", "needed", "keyword"), CASES)
def test_a_value_is_right_or_refused_by_name(
    factory, needed, keyword, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        try:
            call(factory, needed | {keyword: value})
        except ValueError as error:
            stem = keyword.removesuffix("s").replace("_", " ")
            assert stem in str(error).replace("_", " "), (keyword, value, str(error))
        except Exception as error:
            raise AssertionError(f"{keyword}={value!r}: {error!r}") from error


@pytest.mark.parametrize(
    "factory", [layered, random_graph, topology_controller, hebbian]
)
def test_every_keyword_is_in_the_table(factory):
    listed = next(
        keywords.split() for made, _, keywords in FACTORIES if made is factory
    )
    names = set(inspect.signature(factory).parameters) - {"hyperparams"}
    assert names <= set(listed)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: topology_controller(GRAPH, prune=1), "prune"),
        (lambda: graph_network(GRAPH, keep_weights="False"), "keep_weights"),
    ],
)
def test_switches_are_bools(call, name):
    with pytest.raises(ValueError, match=f"{name} must be True or False"):
        call()
