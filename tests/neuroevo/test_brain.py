"""Brains against their regions run one after another, each by the definition."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.ppo import ppo
from optix.agents.recurrent_ppo import recurrent_ppo
from optix.envs.device import device
from optix.learners.on_policy import on_policy
from optix.neuroevo.graph import forward
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.edges import Edge, Neuron
from optix.neuroevo.graph.network import graph_actor_critic
from optix.neuroevo.graph.regions import RegionEdge
from optix.types import Discrete
from tests import probes
from tests.neuroevo import reference

STEPS = 6
JOINED = {  # source, destination and delay of the edges between regions of `sample`
    ("eye", "memory", 1): 6,
    ("ear", "motor", 0): 5,
    ("memory", "motor", 0): 7,
    ("motor", "memory", 2): 3,
    ("eye", "ear", 0): 1,
    ("motor", "eye", 3): 1,
    ("eye", "motor", 0): 1,
}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


class Slow:
    """Regions as graphs of their own; what comes from elsewhere is added to the bias."""

    def __init__(self, graphs, links, observed):
        self.graphs = {name: reference.as_numpy(g) for name, g in graphs.items()}
        self.links, self.observed = links, observed

    def run(self, obs):
        """The outputs [T] of every neuron, by region and number."""
        now = {name: reference.rest(graph) for name, graph in self.graphs.items()}
        past = []  # of all steps, the outputs by region
        for row in obs:
            outputs, row = {}, list(row)
            seen = {}
            for name in self.observed:
                count = self.graphs[name].num_inputs
                seen[name], row = row[:count], row[count:]
            waiting = list(self.graphs)
            while waiting:
                ready = [name for name in waiting if not self._sources(name, waiting)]
                for name in ready:  # there is always one
                    came = self._came(name, outputs, past)
                    now[name], outputs[name] = self._step(name, now[name], came, seen)
                    waiting.remove(name)
            past.insert(0, outputs)
        return {
            (name, number): np.array([step[name][slot] for step in past[::-1]])
            for name, graph in self.graphs.items()
            for number, slot in enumerate(np.flatnonzero(graph.structure.alive))
        }

    def _sources(self, name, waiting):
        return [
            e
            for e in self.links
            if not e.delay and e.dst_region == name and e.src_region in waiting
        ]

    def _came(self, name, outputs, past):
        """What the links bring into each neuron [N] of a region."""
        slot = {n: np.flatnonzero(g.structure.alive) for n, g in self.graphs.items()}
        came = np.zeros(self.graphs[name].capacity)
        for edge in self.links:
            if edge.dst_region != name or edge.delay > len(past):
                continue
            source = past[edge.delay - 1] if edge.delay else outputs
            signal = source[edge.src_region][slot[edge.src_region][edge.src]]
            came[slot[name][edge.dst]] += edge.weight * signal
        return came

    def _step(self, name, state, came, seen):
        graph = self.graphs[name]
        weights = graph.weights._replace(bias=graph.weights.bias + came)
        inputs = seen.get(name, came[: graph.num_inputs])
        return reference.step(graph.replace(weights=weights), state, inputs)


def sample(seed, **options):
    """A brain of four regions, and the same as a slow one."""
    rng = np.random.default_rng(seed)
    names = ("eye", "ear", "memory", "motor")
    sizes = {"hidden": 3, "capacity": 10, "max_delay": 2, "max_cells": 2}
    graphs = {
        name: reference.sample(rng, num_inputs=2, **sizes, **options) for name in names
    }
    network = BrainNetwork(dale=options.get("dale", "clamp"))
    for name, graph in graphs.items():
        network.add_region(name, jax.tree.map(jnp.asarray, graph))
    network.add_pathway("eye", "memory", n_connections=6, delay=1)
    network.add_pathway("ear", "motor", n_connections=5, delay=0)
    network.add_pathway("memory", "motor", n_connections=7, delay=0)
    network.add_pathway("motor", "memory", n_connections=3, delay=2)
    # neurons 0 and 1 are inputs, 2 and 3 outputs, 4 to 6 hidden
    singles = [
        ("eye", "ear", 4, 5, 0),
        ("motor", "eye", 6, 4, 3),
        ("eye", "motor", 3, 1, 0),
    ]
    for src, dst, source, target, delay in singles:
        (sign,) = graphs[src].structure.sign[
            np.flatnonzero(graphs[src].structure.alive)[source]
        ][None]
        weight = float(np.float32(rng.normal())) * (1 if sign == 0 else 0)
        network.add_edge((src, source), (dst, target), weight, delay)
    brain = network.build(
        inputs=("ear", "eye"), key=jax.random.key(seed), capacity=30, outputs=("motor",)
    )
    return graphs, brain, Slow(graphs, links(brain), ("ear", "eye"))


def links(brain):
    """The edges between regions, neurons by their numbers in the regions."""
    number = {
        (name, slot): n
        for name, own in brain.slots.items()
        for n, slot in enumerate(own)
    }
    return [
        edge._replace(
            src=number[edge.src_region, edge.src], dst=number[edge.dst_region, edge.dst]
        )
        for edge in brain.pathways()
    ]


def run(graph, obs):
    ended = jnp.zeros(len(obs), bool)
    return forward.sequence(graph, forward.initial_carry(graph), obs, ended)[1]


@pytest.mark.parametrize(("dale", "tolerance"), [("clamp", 1e-12), ("softplus", 1e-5)])
def test_a_brain_is_its_regions_one_after_another(float64, dale, tolerance):
    for seed in range(4):
        _, brain, slow = sample(seed, dale=dale, signed=True)
        obs = np.random.default_rng(seed).standard_normal((STEPS, 4))
        graph = jax.tree.map(jnp.asarray, reference.as_numpy(brain.graph))
        outputs = np.asarray(jit(run)(graph, obs))
        expected = slow.run(obs)
        joined = Counter((e.src_region, e.dst_region, e.delay) for e in slow.links)
        assert joined == JOINED
        assert max(abs(x).max() for x in expected.values()) > 0.5
        for name, own in brain.slots.items():
            for place, slot in enumerate(own):
                np.testing.assert_allclose(
                    outputs[:, slot], expected[name, place], rtol=0, atol=tolerance
                )


def test_gradients_of_pathways_are_central_differences(float64):
    smooth = ("linear", "tanh", "sigmoid", "trainable_gru", "trainable_lstm")
    graphs, brain, slow = sample(0, kinds=smooth)
    rng = np.random.default_rng(1)
    obs = rng.standard_normal((STEPS, 4))
    motor = brain.slots["motor"][2:4]
    assert motor == [4, 5]  # its outputs are the graph's
    readout = rng.standard_normal((STEPS, 2))
    graph = jax.tree.map(jnp.asarray, reference.as_numpy(brain.graph))

    def loss(weights):
        outputs = run(graph.replace(weights=weights), obs)
        return jnp.sum(forward.outputs_of(graph, outputs) * readout)

    def slow_loss(links):
        outputs = Slow(graphs, links, slow.observed).run(obs)
        return sum(outputs["motor", 2 + n] @ readout[:, n] for n in range(2))

    grads = jit(jax.grad(loss))(graph.weights).edge
    for place, edge in enumerate(brain.pathways()):

        def at(distance, place=place):
            moved = list(slow.links)
            link = moved[place]
            moved[place] = link._replace(weight=link.weight + distance)
            return slow_loss(moved)

        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        given = grads[edge.delay, edge.dst, edge.src]
        assert given != 0
        np.testing.assert_allclose(given, slope, rtol=1e-6, atol=1e-6)


def region(inputs, hidden, outputs):
    """A region of full layers with weights of 0.5, as lists."""
    neurons = [Neuron("input")] * inputs + [Neuron("output", "linear")] * outputs
    first = inputs + outputs
    inner = range(first, first + hidden)
    edges = [Edge(src, dst, 0.5) for src in range(inputs) for dst in inner]
    edges += [Edge(src, dst, 0.5) for src in inner for dst in range(inputs, first)]
    return neurons + [Neuron("hidden")] * hidden, edges


def small(delay=1, weight=None):
    """Two regions: 12 and 11 neurons."""
    network = BrainNetwork()
    network.add_region("sensory", region(4, 6, 2))
    network.add_region("executive", region(2, 6, 3))
    network.add_pathway("sensory", "executive", 6, delay, weight)
    return network


@pytest.mark.parametrize(
    ("delay", "weight", "algorithm"), [(0, None, ppo), (1, 0.0, recurrent_ppo)]
)
def test_a_brain_learns_as_a_policy(delay, weight, algorithm):
    network = BrainNetwork()
    network.add_region("sensory", region(2, 3, 1))
    network.add_region("executive", region(1, 3, 3))
    network.add_pathway("sensory", "executive", 5, delay, weight)
    brain = network.build(capacity=16)
    assert brain.graph.recurrent == bool(delay)
    spaces = (2,), Discrete(2)
    policy_network = graph_actor_critic(*spaces, graph=brain.graph)
    agent = algorithm(policy_network, *spaces, learning_rate=0.01)
    learner = on_policy(agent, device(probes.Recall()), num_envs=4, num_steps=16)

    @jit
    def train(key):
        def one(state, key):
            state, report = learner.step(state, agent.hyperparams, key, True)
            return state, report.finite

        keys = jax.random.split(key, 3)
        state, finite = jax.lax.scan(one, learner.init(key), keys)
        return state.policy, finite

    policy, finite = train(jax.random.key(0))
    assert finite.all()
    assert all(np.isfinite(x).all() for x in policy.params)
    learned = brain.graph.replace(weights=policy.params, structure=policy.structure)
    before, after = brain.pathways(), brain.pathways(learned)
    moved = [abs(a.weight - b.weight) for a, b in zip(before, after, strict=True)]
    assert len(moved) == 5 and min(moved) > 1e-4


def test_pathways_are_drawn_evenly_and_differ_with_the_key():
    first, second = (small().build(key=jax.random.key(n)) for n in range(2))
    assert first.pathways() != second.pathways()
    assert first.pathways() == small().build(key=jax.random.key(0)).pathways()
    for brain in (first, second):
        own = brain.slots
        # 8 sources, hidden neurons and outputs; 8 targets, inputs and hidden neurons
        sources = {*own["sensory"][4:]}
        targets = {*own["executive"][:2], *own["executive"][5:]}
        edges = brain.pathways()
        assert len({edge.src for edge in edges} & sources) == 6
        assert len({edge.dst for edge in edges} & targets) == 6
        assert all(edge.weight != 0 for edge in edges)
    everything = small()
    everything.pathways[0] = everything.pathways[0]._replace(n_connections=64)
    assert len(everything.build().pathways()) == 64


def test_drawn_weights_have_the_variance_of_their_destination():
    network = BrainNetwork()
    network.add_region("a", region(1, 40, 1))
    network.add_region("b", region(1, 39, 1))
    network.add_pathway("a", "b", n_connections=1000)  # 25 into each of 40
    weights = [edge.weight for edge in network.build().pathways()]
    assert abs(np.std(weights) * 5 - 1) < 0.1  # 4.5 standard errors


def test_drawn_weights_keep_the_side_of_their_source():
    for dale in ("clamp", "softplus"):
        network = BrainNetwork(dale=dale)
        pair = [Neuron("input"), Neuron("output", "linear", "inhibitory")]
        network.add_region("a", (pair, [Edge(0, 1, 1.0)]))
        network.add_region("b", region(2, 3, 1))
        network.add_pathway("a", "b", 3)
        network.add_pathway("a", "b", 2, weight=0.5)
        weights = sorted(edge.weight for edge in network.build().pathways())
        assert max(weights) < 0
        assert sum(abs(w + 0.5) < 1e-6 for w in weights) >= 2


def test_regions_are_read_back_and_counted():
    brain = small().build(capacity=24)
    graph = brain.graph
    assert (graph.num_inputs, graph.num_outputs, graph.capacity) == (4, 3, 24)
    np.testing.assert_array_equal(
        brain.members("executive"), sorted(brain.slots["executive"])
    )
    counts = brain.counts()
    # 4 * 6 + 6 * 2 edges; a neuron that no edge leads away from does not count
    leads = np.asarray(graph.structure.edge).any((0, 1))
    led = np.asarray(graph.structure.edge).any((0, 2))
    idle = int((~leads[brain.members("sensory")]).sum())
    unfed = int((~led[brain.members("executive")]).sum())
    assert counts["sensory"] == (12 - idle, 8 - idle, 36 - 6 * idle, 0, 6) and idle == 1
    fed = 11 - unfed, 8 - unfed, 30 - 6 * unfed, 6, 0
    assert counts["executive"] == fed and unfed == 1
    # one edge of the pathway less, in the graph as it is now
    gone = brain.pathways()[0]
    edge = graph.structure.edge.at[gone.delay, gone.dst, gone.src].set(False)
    now = graph.replace(structure=graph.structure._replace(edge=edge))
    assert brain.pathways(now) == brain.pathways()[1:]
    assert brain.counts(now)["executive"].incoming == 5
    assert brain.caps({"executive": 16}) == {1: 16}


def test_inputs_of_inner_regions_hand_on_what_they_are_given():
    network = BrainNetwork()
    pair = [Neuron("input"), Neuron("output", "linear")]  # an input's kind is no matter
    for name in ("a", "b"):
        network.add_region(name, (pair, [Edge(0, 1, 2.0)]))
    network.add_edge(("a", 1), ("b", 0), weight=3.0, delay=0)
    graph = network.build().graph
    assert jit(run)(graph, jnp.array([[5.0]]))[0, graph.num_inputs] == 60.0


def test_ends_of_a_brain_are_regions_without_pathways_or_those_named():
    network = BrainNetwork()
    for name, count in (("a", 1), ("b", 2), ("c", 3)):
        network.add_region(name, region(count, 2, count))
    network.add_pathway("a", "b")
    brain = network.build()  # c sees and acts on its own
    assert brain.slots["a"][:1] + brain.slots["c"][:3] == [0, 1, 2, 3]
    assert brain.slots["b"][2:4] + brain.slots["c"][3:6] == [4, 5, 6, 7, 8]
    brain = network.build(inputs=("c", "b"), outputs=("a",))
    assert (brain.graph.num_inputs, brain.graph.num_outputs) == (5, 1)
    # a pathway into a region that sees goes around its inputs
    assert {edge.dst for edge in brain.pathways()} <= {*brain.slots["b"][4:]}
    network.add_pathway("b", "c")
    network.add_pathway("c", "a")
    with pytest.raises(
        ValueError, match=r"inputs must name one region .* pass inputs="
    ):
        network.build()


def test_regions_act_in_the_order_of_same_step_pathways():
    network = BrainNetwork()
    for name in "abc":
        network.add_region(name, region(1, 2, 1))
    assert network.order == ("a", "b", "c")
    network.add_pathway("c", "a", delay=0)
    network.add_pathway("b", "c", delay=0)
    network.add_pathway("a", "b", delay=1)
    assert network.order == ("b", "c", "a")
    with pytest.raises(ValueError, match=r"no cycle, but Pathway\(src='a', dst='b'"):
        network.add_pathway("a", "b", delay=0)
    with pytest.raises(ValueError, match="no cycle, but RegionEdge"):
        network.add_edge(("a", 2), ("b", 0), delay=0)
    assert len(network.pathways) == 3 and not network.edges


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda n: n.add_region("sensory", region(1, 0, 1)), "'sensory' again"),
        (
            lambda n: n.add_region("x", layered(1, (), 1, dale="softplus")),
            "brain's dale 'clamp', got 'softplus' of 'x'",
        ),
        (lambda n: n.add_pathway("sensory", "excutive"), "did you mean 'executive'"),
        (lambda n: n.add_pathway("sensory", "sensory"), "must lead to another region"),
        (lambda n: n.add_pathway("sensory", "executive", 0), "n_connections must be"),
        (lambda n: n.add_pathway("sensory", "executive", delay=-1), "delay must be"),
        (lambda n: n.add_edge(("sensory", 12), ("executive", 0)), "got 12 of 12"),
        (lambda n: n.add_region("x", ([Neuron("inputs")], [])), "mean 'input'"),
    ],
)
def test_mistakes_are_refused(mistake, message):
    network = small()
    with pytest.raises(ValueError, match=message):
        mistake(network)
    assert list(network.regions) == ["sensory", "executive"]
    assert len(network.pathways) == 1 and not network.edges


def test_mistakes_that_show_when_it_is_built_are_refused():
    network = small()
    network.add_pathway("sensory", "executive", 59)
    with pytest.raises(ValueError, match=r"free pairs of neurons, got .* and 58 pairs"):
        network.build()
    network = small()
    with pytest.raises(ValueError, match="did you mean 'sensory'"):
        network.build(inputs=("sensor",))
    network.add_edge(("executive", 8), ("sensory", 0))
    with pytest.raises(ValueError, match="no edge may lead into an input"):
        network.build(inputs=["sensory"], outputs=["executive"])
    brain = small().build()
    with pytest.raises(ValueError, match="at least its 11 neurons, got 5"):
        brain.caps({"sensory": 5})
    with pytest.raises(ValueError, match="did you mean 'executive'"):
        brain.members("executiv")


def test_a_region_may_be_plain_lists():
    network = BrainNetwork()
    network.add_region("only", ([("input", "linear"), ("output",)], [(0, 1, 0.5)]))
    assert float(network.build().graph.weights.edge[0, 1, 0]) == 0.5


def test_an_edge_between_regions_is_a_record():
    network = small()
    network.add_edge(("executive", 5), ("sensory", 4), 0.25, 2)
    edge = RegionEdge("executive", 5, "sensory", 4, 0.25, 2)
    assert network.edges == [edge]
    brain = network.build(inputs=["sensory"], outputs=["executive"])
    assert edge in links(brain)
