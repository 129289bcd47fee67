"""TensorFlow agents in the loop: seeds apart, memories, the policy back at the end."""

import jax
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras

from optix.host.learner import host
from optix.host.vector import VectorBatchPipeline
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix_tensorflow import TFSACAgent
from tests.adapters.acting import Reach, same

OPTIONS = {"learning_starts": 10, "batch_size": 4, "updates_per_step": 0.5}


def make(tuner=None, max_rounds=3):
    keras.utils.set_random_seed(0)
    agent = TFSACAgent.for_env(Reach(False), hidden=(4,), **OPTIONS)
    pipeline = VectorBatchPipeline([lambda: Reach(False)] * 2, window_size=5)
    learner = host(agent, pipeline, evaluation_episodes=2)
    run = loop(learner, tuner or fixed(), max_rounds=max_rounds, windows_per_round=1)
    return agent, learner, run


def outcome(learner, state):
    """The weights of the last policy, and its scores."""
    policy = jax.tree.map(lambda x: x[0], state.learner.policy)
    weights = learner.host.agent_of(policy).state()
    return {name: x.copy() for name, x in weights.items()}, np.array(state.curve)


def test_two_seeds_of_one_agent_are_two_runs():
    """Vmapped, or one after the other: the same curves and weights, bit for bit."""
    keys = jax.random.split(jax.random.key(0), 2)
    _, learner, run = make()
    both = jax.jit(jax.vmap(run.run))(jax.vmap(run.init)(keys))
    found = []
    _, alone, separate = make()
    program = jax.jit(lambda key: separate.run(separate.init(key)))
    for seed in range(2):
        weights, curve = outcome(alone, program(keys[seed]))
        got, got_curve = outcome(learner, jax.tree.map(lambda x, s=seed: x[s], both))
        np.testing.assert_array_equal(got_curve, curve)
        assert same(got, weights)
        found.append(weights)
    assert not same(*found)


def test_a_tuner_of_two_lanes_shares_the_replay():
    tuner = spsa({"learning_rate": (1e-5, 1e-2)})
    agent, learner, run = make(tuner)
    assert "learning_rate" in learner.hyperparams
    assert "batch_size" not in learner.hyperparams
    state = jax.jit(run.run)(run.init(jax.random.key(1)))
    best = learner.host.agent_of(state.best.policy)
    assert same(best.state(), agent.state())
    assert int(state.env_steps) == 3 * 2 * 10
