"""A graph as the network of an agent: acting and learning are one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

import optix
from optix.make import usual_agent
from optix.neuroevo.graph import forward
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.build import GraphBuilder, layered
from optix.neuroevo.graph.graph import num_neurons
from optix.neuroevo.graph.network import (
    graph_actor_critic,
    graph_network,
    num_heads,
    trace,
)
from optix.neuroevo.growth.activity import graph_of, replay
from optix.types import Box, Discrete, Policy, Trajectory

T, B = 5, 3
RNG = np.random.default_rng(0)


def remembering():
    return layered(4, (3,), 3, kind="trainable_gru", recurrent_delay=2)


def brain():
    network = BrainNetwork()
    network.add_region("first", layered(4, (2,), 2))
    network.add_region("last", layered(2, (2,), 3))
    network.add_pathway("first", "last", n_connections=4, delay=1)
    return network


def test_a_sequence_is_step_after_step_and_rests_after_each_end():
    network = graph_network(remembering())
    params, structure = network.init(jax.random.key(0))
    obs = jnp.asarray(RNG.standard_normal((T, B, 4)), jnp.float32)
    ended = jnp.asarray(RNG.random((T, B)) < 0.4)
    start = network.initial_carry(B)
    carry, whole = jit(network.sequence)(params, structure, start, obs, ended)
    own, apply = start, jit(network.apply)
    for x, end, out in zip(obs, ended, whole, strict=True):
        own, single = apply(params, structure, own, x)
        np.testing.assert_allclose(single, out, atol=1e-6)
        own = jax.tree.map(
            lambda new, old, end=end: jnp.where(
                end.reshape(-1, *[1] * (new.ndim - 1)), new, old
            ),
            start,
            own,
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), carry, own)


def test_carries_may_have_any_leading_axes():
    network = graph_network(remembering())
    params, structure = network.init(jax.random.key(0))
    obs = jnp.asarray(RNG.standard_normal((T, B, 4)), jnp.float32)
    carry = jax.tree.map(
        lambda x: x.reshape(T, B, *x.shape[1:]), network.initial_carry(T * B)
    )
    after, out = jit(network.apply)(params, structure, carry, obs)
    assert out.shape == (T, B, 3)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)


def test_without_memory_there_is_no_carry():
    network = graph_network(layered(4, (3,), 2))
    params, structure = network.init(jax.random.key(0))
    assert network.initial_carry(B) == ()
    carry, out = jit(network.apply)(params, structure, (), jnp.ones((T, B, 4)))
    assert carry == () and out.shape == (T, B, 2)
    assert jit(network.apply)(params, structure, (), jnp.ones(4))[1].shape == (2,)


def test_the_last_output_is_the_value_and_a_box_has_means_and_scales():
    graph = layered(2, (), 5)
    outputs = jnp.arange(5.0)
    graph = graph.replace(
        weights=graph.weights._replace(
            edge=jnp.zeros_like(graph.weights.edge),
            bias=jnp.concatenate([jnp.zeros(2), outputs]),
        )
    )
    assert num_heads(Box((2,))) == 5 == num_heads(Discrete(4))
    for space, parameters in (
        (Discrete(4), outputs[:4]),
        (Box((2,)), (outputs[:2], outputs[2:4])),
    ):
        network = graph_actor_critic((2,), space, graph=graph, keep_weights=False)
        _, (given, value) = network.apply(
            graph.weights, graph.structure, (), jnp.ones(2)
        )
        jax.tree.map(np.testing.assert_array_equal, given, parameters)
        assert value == 4


def test_seeds_draw_other_weights_unless_those_of_the_graph_are_kept():
    graph = layered(4, (8,), 3)
    keys = jax.random.split(jax.random.key(1), 2)
    drawn = jax.vmap(graph_network(graph, keep_weights=False).init)(keys)[0].edge
    assert jnp.any(drawn[0] != drawn[1])
    kept = jax.vmap(graph_network(graph).init)(keys)[0].edge
    np.testing.assert_array_equal(kept[0], kept[1])
    # variance 1 / incoming edges
    hidden = drawn[:, 0, 7:, :4]
    assert 0.35 < hidden.std() < 0.65


def test_replay_sees_what_the_policy_saw():
    graph = remembering()
    network = graph_network(graph)
    params, structure = network.init(jax.random.key(0))
    obs = jnp.asarray(RNG.standard_normal((T, B, 4)), jnp.float32)
    carry = jax.tree.map(jnp.ones_like, network.initial_carry(B))
    no = jnp.zeros((T, B), bool)
    carries = jax.tree.map(lambda x: jnp.broadcast_to(x, (T, *x.shape)), carry)
    window = Trajectory(obs, no, no, no, no, obs, {"carry": carries})
    signals = replay(graph, Policy(params, structure), window)
    np.testing.assert_allclose(signals, trace(graph, carry, obs, no)[1], atol=1e-6)
    assert signals.shape == (T, B, graph.capacity)
    np.testing.assert_array_equal(signals[..., :4], obs)


@pytest.mark.parametrize(
    ("agent", "network"),
    [
        ("ppo", dict(network="graph", hidden=(4,))),
        ("recurrent_ppo", dict(network="graph", hidden=(4,), kind="trainable_lstm")),
        ("recurrent_ppo", dict(network=remembering())),
        ("recurrent_ppo", dict(network=brain())),
        ("recurrent_ppo", dict(network=brain().build(capacity=20))),
    ],
)
def test_the_agent_follows_the_network(agent, network):
    run = optix.make(
        "CartPole-v1", num_envs=2, num_steps=16, num_minibatches=2, **network
    )
    assert usual_agent("CartPole-v1", **network) == agent
    state = run.learner.init(jax.random.key(0))
    assert (state.rollout.carry != ()) == (agent == "recurrent_ppo")


def test_updates_learn_every_weight_that_leads_to_an_output():
    run = optix.make(
        "CartPole-v1",
        network=remembering(),
        num_envs=4,
        num_steps=16,
        num_minibatches=2,
    )
    learner = run.learner
    state = learner.init(jax.random.key(0))
    hyperparams = {k: jnp.float32(v) for k, v in learner.hyperparams.items()}
    after, report = jit(learner.step)(state, hyperparams, jax.random.key(1), True)
    assert report.finite
    before, params = state.policy.params, after.policy.params
    moved = before.edge != params.edge
    np.testing.assert_array_equal(moved, state.policy.structure.edge)
    assert jnp.all(params.gate[3] != before.gate[3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graph_network(GraphBuilder), "graph must be a NeuronGraph"),
        (
            lambda: graph_actor_critic((3,), Discrete(2), graph=layered(4, (), 3)),
            "must have 3 inputs and 3 outputs .* got 4 and 3",
        ),
        (lambda: graph_actor_critic((5, 5, 1), Discrete(2)), "a graph takes vectors"),
        (
            lambda: optix.make("CartPole-v1", network=len),
            "network must be a Network, a NeuronGraph, a brain .* got a builtin",
        ),
        (lambda: optix.make("CartPole-v1", network="grph"), "did you mean 'graph'"),
        (
            lambda: optix.make("CartPole-v1", network="graph", capacty=9),
            "did you mean 'capacity'",
        ),
        (
            lambda: optix.make("CartPole-v1", "ppo", network=remembering()),
            "give it to recurrent_ppo",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_of_zero_are_refused_as_nothing_would_be_learned():
    builder = GraphBuilder()
    source, out = builder.add_neuron("input"), builder.add_neuron("output")
    builder.add_edge(source, out)
    with pytest.raises(ValueError, match="weights other than 0 to learn"):
        graph_network(builder.build())
    graph_network(builder.build(), keep_weights=False)


def test_observations_of_another_size_are_refused():
    network = graph_network(layered(4, (), 2))
    params, structure = network.init(jax.random.key(0))
    with pytest.raises(ValueError, match="the graph's 4 numbers"):
        network.apply(params, structure, (), jnp.ones(3))
    network = graph_network(layered(4, (2,), 2, recurrent_delay=1))
    params, structure = network.init(jax.random.key(0))
    carry, ended = network.initial_carry(1), jnp.zeros((5, 1), bool)
    with pytest.raises(ValueError, match="the graph's 4 inputs, got 3 numbers"):
        network.sequence(params, structure, carry, jnp.ones((5, 1, 3)), ended)


@pytest.mark.parametrize("network", [layered(4, (2,), 3), None])
def test_a_transform_of_another_graph_is_refused(network):
    agent = optix.make_agent("CartPole-v1", "ppo", network=network)
    policy = jax.eval_shape(agent.init, jax.random.key(0))
    with pytest.raises(ValueError, match="give the loop the same graph as network="):
        graph_of(layered(4, (2,), 3, capacity=16), policy)


def test_counts():
    graph = layered(4, (3, 2), 2, kind="gru", capacity=16)
    assert int(num_neurons(graph.structure)) == 11
    assert int((graph.structure.cell < graph.capacity).sum()) == 5
    assert forward.initial_carry(graph).h.shape == (5,)
