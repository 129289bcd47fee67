"""The static form of a graph against the graph itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.graph.network import graph_actor_critic, graph_network, graph_of
from optix.neuroevo.graph.static import freeze, static_weights
from optix.trees import all_finite
from optix.types import Discrete, Policy
from tests.neuroevo import reference

B, T = 3, 5


def sample(dale, **options):
    graph = reference.sample(
        np.random.default_rng(3), dale=dale, signed=True, **options
    )
    return jax.tree.map(jnp.asarray, graph)


@pytest.mark.parametrize("dale", ["clamp", "softplus"])
def test_it_computes_what_the_graph_does(dale):
    graph = sample(dale)
    network = graph_network(freeze(graph))
    key = jax.random.key(0)
    obs = jax.random.normal(key, (T, B, graph.num_inputs))
    ended = np.zeros((T, B), bool)
    ended[2, 1] = True
    params, structure = network.init(key)
    carry = network.initial_carry(B)
    out = jax.jit(network.sequence)(params, structure, carry, obs, ended)[1]
    for row in range(B):
        exact, state = reference.as_numpy(graph), reference.rest(graph)
        for t in range(T):
            state, now = reference.step(exact, state, obs[t, row])
            np.testing.assert_allclose(
                out[t, row], reference.readout(graph, now), rtol=2e-5, atol=2e-5
            )
            if ended[t, row]:
                state = reference.rest(graph)


@pytest.mark.parametrize("dale", ["clamp", "softplus"])
def test_the_graph_of_what_it_learned_is_had_again(dale):
    graph = sample(dale)
    frozen = freeze(graph)
    params, _ = graph_network(frozen).init(jax.random.key(0))
    same = graph_of(frozen, Policy(params, (), (), ()))
    jax.tree.map(np.testing.assert_array_equal, same, graph)

    learned = jax.tree.map(lambda x: 1.5 * x + 0.1 * (x != 0), params)
    thawed = jax.jit(lambda params: graph_of(frozen, Policy(params, (), (), ())))(
        learned
    )
    jax.tree.map(
        np.testing.assert_array_equal, static_weights(frozen, thawed.weights), learned
    )
    obs = np.ones((B, graph.num_inputs), np.float32)
    of = {}
    for name, given, network in (
        ("static", learned, graph_network(frozen)),
        ("graph", thawed.weights, graph_network(graph)),
    ):
        rest = () if name == "static" else thawed.structure
        carry = network.initial_carry(B)
        for _ in range(3):
            carry, of[name] = network.apply(given, rest, carry, obs)
    np.testing.assert_allclose(of["static"], of["graph"], rtol=1e-5, atol=1e-5)

    other = graph_network(freeze(layered(2, (3,), 1))).init(jax.random.key(0))[0]
    with pytest.raises(ValueError, match="must be of the static graph"):
        graph_of(frozen, Policy(other, (), (), ()))


def operations(function, *arguments):
    """The names of the operations of a function, as lowered."""
    text = jax.jit(function).lower(*arguments).as_text()
    return [
        word
        for line in text.splitlines()
        for word in line.replace('"', " ").split()
        if word.startswith("stablehlo.")
    ]


def test_layers_are_one_product_each_and_nothing_else():
    network = graph_network(freeze(layered(4, (8, 8), 3)))
    params, structure = network.init(jax.random.key(0))

    def apply(params, obs):
        return network.apply(params, structure, (), obs)[1]

    obs = jnp.ones((5, 4))
    found = operations(apply, params, obs)
    assert found.count("stablehlo.dot_general") == 3
    assert set(found) <= {
        *("stablehlo.dot_general", "stablehlo.add", "stablehlo.tanh"),
        *("stablehlo.broadcast_in_dim", "stablehlo.constant"),
    }
    # forward mode as well as reverse mode
    forward = jax.jacfwd(apply)(params, obs)
    reverse = jax.jacrev(apply)(params, obs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        forward,
        reverse,
    )


def test_what_remembers_lowers_without_loops_and_can_be_exported():
    graph = sample("clamp")
    network = graph_network(freeze(graph))
    params, structure = network.init(jax.random.key(0))

    def apply(carry, obs):
        return network.apply(params, structure, carry, obs)

    arguments = network.initial_carry(B), jnp.ones((B, graph.num_inputs))
    found = set(operations(apply, *arguments))
    assert not {"stablehlo.while", "stablehlo.custom_call", "stablehlo.case"} & found
    exported = jax.export.export(jax.jit(apply))(*arguments)
    pytest.importorskip("flatbuffers")
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(
        again.call(*arguments)[1], apply(*arguments)[1], rtol=1e-5
    )


def test_it_trains_as_an_actor_critic():
    graph = layered(4, (6,), 3, recurrent_delay=1)
    network = graph_actor_critic((4,), Discrete(2), graph=freeze(graph))
    assert jax.eval_shape(network.init, jax.random.key(0))[1] == ()
    loop = optix.make(
        "CartPole-v1",
        network=freeze(graph),
        num_envs=2,
        num_steps=8,
        sequence_length=8,
        num_epochs=1,
        num_minibatches=1,
        evaluation_episodes=2,
    )
    state = jax.jit(lambda key: loop.step(loop.init(key))[0])(jax.random.key(0))
    before = static_weights(freeze(graph), graph.weights)
    after = jax.tree.map(lambda x: x[0], state.learner.policy.params)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert all(moved.kernel) and bool(all_finite(after))


def test_what_is_no_single_known_graph_is_refused():
    graph = layered(2, (3,), 1)
    with pytest.raises(ValueError, match="graph must be a NeuronGraph"):
        freeze(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="being traced"):
        jax.eval_shape(lambda graph: freeze(graph).graph, graph)
    many = jax.tree.map(lambda x: jnp.stack([x, x]), graph)
    assert isinstance(many, NeuronGraph)
    with pytest.raises(ValueError, match="single one, got 2"):
        freeze(many)
