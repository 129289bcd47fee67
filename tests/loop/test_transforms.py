"""What holds for every transform; a new one is tested by being in the table."""

import chex
import jax
import jax.numpy as jnp
import pytest

from optix.agents.recurrent_ppo import recurrent_ppo
from optix.envs.device import device
from optix.learners.on_policy import on_policy
from optix.loop.modulation import neuromodulation
from optix.loop.transforms import chain
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.network import graph_actor_critic
from optix.neuroevo.growth.controller import topology_controller
from optix.neuroevo.growth.hebbian import hebbian
from optix.types import Signals, Transform

GRAPH = layered(4, (2,), 3, capacity=12, recurrent_delay=1)
TABLE = {
    "none": chain,
    "neuromodulation": lambda: neuromodulation(window=5),
    "hebbian": lambda: hebbian(GRAPH),
    "hebbian, oja": lambda: hebbian(GRAPH, rule="oja", clip=2.0),
    "topology": lambda: topology_controller(GRAPH),
    "topology of edges": lambda: topology_controller(GRAPH, operator="edge"),
    "all": lambda: chain(
        hebbian(GRAPH), topology_controller(GRAPH), neuromodulation(window=5)
    ),
}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def learner():
    env = device("CartPole-v1")
    spaces = env.observation_shape, env.action_space
    agent = recurrent_ppo(
        graph_actor_critic(*spaces, graph=GRAPH),
        *spaces,
        num_minibatches=1,
        sequence_length=4,
    )
    return on_policy(agent, env, num_envs=2, num_steps=4)


@pytest.fixture(scope="module")
def window(learner):
    """The shapes of a lane after a window: (policy, rollout, report)."""
    state = jax.eval_shape(learner.init, KEY)
    after, report = jax.eval_shape(
        lambda state: learner.step(state, learner.hyperparams, KEY, True), state
    )
    return after.policy, after.rollout, report


@pytest.fixture(params=TABLE)
def transform(request) -> Transform:
    return TABLE[request.param]()


def signals(hyperparams):
    whole, number, no = jnp.int32(0), jnp.float32(0), jnp.bool_(False)
    return Signals(
        score=number,
        round=whole,
        phase=whole,
        verdict=whole,
        gain_limit=number,
        autocorrelation=number,
        improved=no,
        hyperparams=hyperparams,
        metrics={},
        key=jax.random.key(1),
    )


def test_what_it_hands_on_is_what_it_was_given(transform, learner, window):
    """State, policy and rollout keep their types, so a loop can be scanned."""
    policy, rollout, report = window
    known = {**learner.hyperparams, **transform.hyperparams}
    told = signals({name: jnp.float32(value) for name, value in known.items()})
    state = jax.eval_shape(transform.init, policy)

    def rounds(state, policy, rollout, report):
        def turn(carry, _):
            *carry, modulation = transform.update(*carry, report, told)
            return tuple(carry), modulation

        return jax.lax.scan(turn, (state, policy, rollout), None, length=3)

    carry, modulation = jax.eval_shape(rounds, state, policy, rollout, report)
    chex.assert_trees_all_equal_shapes_and_dtypes(carry, (state, policy, rollout))
    assert set(modulation) <= set(known)
    assert all(x.shape == (3,) for x in modulation.values())


def test_lanes_and_seeds_are_mapped(transform, learner, window):
    known = {**learner.hyperparams, **transform.hyperparams}

    def lanes(policy, rollout, report, factor):
        told = signals({name: factor * value for name, value in known.items()})
        state = transform.init(policy)
        return transform.update(state, policy, rollout, report, told)

    def batched(tree):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), tree
        )

    out = jax.eval_shape(jax.vmap(lanes), *batched(window), jnp.ones(2))
    assert all(x.shape[0] == 2 for x in jax.tree.leaves(out))


def test_its_hyperparameters_are_floats_of_its_own(transform, learner):
    assert not set(transform.hyperparams) & set(learner.hyperparams)
    for name, value in transform.hyperparams.items():
        assert "/" in name and type(value) is float
