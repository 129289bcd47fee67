"""Torch agents in the loop: seeds apart, resets, memories, the policy back at the end."""

import jax
import numpy as np
import pytest
import torch

from optix.host.learner import host
from optix.host.vector import VectorBatchPipeline
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix_torch import TorchPPOAgent, TorchRecurrentPPOAgent, TorchSACAgent
from tests.adapters.acting import Reach, same

KINDS = {
    "ppo": (TorchPPOAgent, True, {"num_epochs": 1}),
    "recurrent": (
        TorchRecurrentPPOAgent,
        True,
        {"num_epochs": 1, "cell_size": 3, "num_minibatches": 1, "sequence_length": 4},
    ),
    "sac": (
        TorchSACAgent,
        False,
        {"learning_starts": 10, "batch_size": 4, "updates_per_step": 0.5},
    ),
}


def make(name, tuner=None, max_rounds=4, **options):
    kind, discrete, usual = KINDS[name]
    torch.manual_seed(0)
    agent = kind.for_env(Reach(discrete), hidden=(4,), device="cpu", **usual, **options)
    pipeline = VectorBatchPipeline([lambda: Reach(discrete)] * 2, window_size=5)
    learner = host(agent, pipeline, evaluation_episodes=2)
    run = loop(learner, tuner or fixed(), max_rounds=max_rounds, windows_per_round=1)
    return agent, learner, run


def outcome(learner, state, seed=None):
    """The weights of the last policy of a seed, and its scores."""
    if seed is not None:
        state = jax.tree.map(lambda x: x[seed], state)
    policy = jax.tree.map(lambda x: x[0], state.learner.policy)
    weights = learner.host.agent_of(policy).state()
    return {name: x.copy() for name, x in weights.items()}, np.array(state.curve)


@pytest.mark.parametrize("name", ["recurrent", "sac"])
def test_two_seeds_of_one_agent_are_two_runs(name):
    """Vmapped, or one after the other: the same curves and weights, bit for bit."""
    keys = jax.random.split(jax.random.key(0), 2)
    _, learner, run = make(name)
    both = jax.jit(jax.vmap(run.run))(jax.vmap(run.init)(keys))
    found = []
    _, alone, separate = make(name)
    program = jax.jit(lambda key: separate.run(separate.init(key)))
    for seed in range(2):
        state = program(keys[seed])
        weights, curve = outcome(alone, state)
        got, got_curve = outcome(learner, both, seed)
        np.testing.assert_array_equal(got_curve, curve)
        assert same(got, weights)
        found.append(weights)
    assert not same(*found)


def test_a_tuner_of_two_lanes_shares_the_replay():
    agent, learner, run = make(
        "sac", spsa({"learning_rate": (1e-5, 1e-2)}), max_rounds=3
    )
    assert "learning_rate" in learner.hyperparams
    assert "batch_size" not in learner.hyperparams
    state = jax.jit(run.run)(run.init(jax.random.key(1)))
    policy = state.best.policy
    assert same(learner.host.agent_of(policy).state(), agent.state())
    assert int(state.env_steps) == 3 * 2 * 10


def test_weights_that_came_with_the_agent_are_begun_with():
    """Each run of a learner, also after another has learned."""
    agent, learner, run = make("ppo")
    agent.perturb_weights(0.3)
    first = agent.state()
    learner = host(agent, VectorBatchPipeline([lambda: Reach(True)] * 2, window_size=5))
    run = loop(learner, fixed(), max_rounds=2, windows_per_round=1)
    for seed in range(2):
        state = run.init(jax.random.key(seed))
        policy = jax.tree.map(lambda x: x[0], state.learner.policy)
        assert same(learner.host.agent_of(policy).state(), first)
        jax.block_until_ready(jax.jit(run.run)(state))
    assert not same(agent.state(), first)
