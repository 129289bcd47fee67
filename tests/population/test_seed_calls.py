"""What the README says that calls of tensor-optix 1.16 are called here, row by row."""

import re
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

import optix
from optix.host import BatchPipeline, EnsembleAgent, as_base_agent
from optix.loop.diagnostics import diagnostics
from optix.population.average import average
from optix.population.ensemble import ensemble, join, stack
from optix.types import Discrete

README = Path(__file__).parent.parent.parent / "README.md"
SMALL = {"num_envs": 2, "num_steps": 8, "hidden": (2,), "num_minibatches": 1}
OBS = np.ones((3, 4), np.float32)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What the calls of the table are about."""
    folder = tmp_path_factory.mktemp("seed") / "run"
    options = {**SMALL, "evaluation_episodes": 2, "max_rounds": 2, "final_scores": 1}
    optix.train("CartPole-v1", directory=folder, progress=False, **options)
    agent = optix.make_agent("CartPole-v1", hidden=(2,))
    init = jax.jit(agent.init)
    return folder, agent, [init(jax.random.key(seed)) for seed in range(2)]


def ensembles(given):
    _, agent, policies = given
    both = ensemble(agent, Discrete(2), 2)
    policy = join(agent, stack(policies), [1.0, 2.0])
    actions = both.act(policy, (), OBS, {}, jax.random.key(0), False)[1]
    assert actions.shape == (3,)
    agents = [as_base_agent(agent, seed=seed) for seed in range(2)]
    assert EnsembleAgent(agents, [1.0, 2.0]).act(OBS[0], explore=False) in (0, 1)


def registries(given):
    for load in (optix.load_average, optix.load_ensemble):
        assert load(given[0], top_k=3).act(OBS).shape == (3,)


def averages(given, tmp_path):
    _, agent, policies = given
    mean = average(agent, stack(policies))
    agents = [as_base_agent(agent, seed=seed) for seed in range(2)]
    for number, (host_agent, policy) in enumerate(zip(agents, policies, strict=True)):
        host_agent.policy = policy
        host_agent.save_weights(str(tmp_path / str(number)))
    agents[0].average_weights([str(tmp_path / "0"), str(tmp_path / "1")])
    found = agents[0].policy.params
    for x, y in zip(jax.tree.leaves(mean.params), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def controllers(given):
    watching = diagnostics(Discrete(2), loss_factor=5, divergence_limit=0.1)
    loop = optix.make("CartPole-v1", transforms=watching, **SMALL)
    assert loop.init(jax.random.key(0)).transforms.events.shape == (1,)
    agent = as_base_agent(given[1])
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), window_size=4)
    optix.RLOptimizer(agent, pipeline, diagnostics=True, metrics=("kl",))


ROWS = {
    "EnsembleAgent(pm, primary)": ensembles,
    "registry.load_ensemble(agent, top_k=3)": registries,
    "agent.average_weights(paths)": averages,
    "DiagnosticController(loss_spike_factor=5, target_kl=0.02)": controllers,
}


@pytest.mark.parametrize("call", ROWS)
def test_a_row_of_the_table(call, given, tmp_path):
    rows = re.findall(r"^\| `([^`]+)`", README.read_text(), re.M)
    assert call in rows
    run = ROWS[call]
    run(given, tmp_path) if run is averages else run(given)
