"""`make_agent` in other frameworks, and what it says where they are not there."""

import sys

import gymnasium
import pytest

import optix
from optix.registry import ALGORITHMS, FRAMEWORKS
from optix.types import Agent, Box, Discrete

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
SMALL = {"framework": "torch", "hidden": (4,)}


@pytest.mark.parametrize(
    ("env", "options", "name"),
    [
        (CARTPOLE, {}, "TorchPPOAgent"),
        (PENDULUM, {}, "TorchSACAgent"),
        (PENDULUM, {"deterministic": True}, "TorchTD3Agent"),
        (PENDULUM, {"algorithm": "ppo"}, "TorchGaussianPPOAgent"),
        (CARTPOLE, {"algorithm": "dqn"}, "TorchDQNAgent"),
        (CARTPOLE, {"algorithm": "rainbow"}, "TorchRainbowDQNAgent"),
        (lambda: gymnasium.make(PENDULUM), {}, "TorchSACAgent"),
        (gymnasium.make(CARTPOLE), {"algorithm": "recurrent_ppo"}, "TorchRecurrentPPO"),
    ],
)
def test_the_space_of_actions_says_which_agent(env, options, name):
    pytest.importorskip("torch")
    agent = optix.make_agent(env, **SMALL, **options)
    assert type(agent).__name__.startswith(name)


def test_hyperparameters_are_merged_with_the_defaults():
    pytest.importorskip("torch")
    given = optix.HyperparamSet({"learning_rate": 1e-3})
    agent = optix.make_agent(CARTPOLE, hyperparams=given, clip_ratio=0.3, **SMALL)
    params = agent.get_hyperparams().params
    assert params["learning_rate"] == 1e-3 and params["clip_ratio"] == 0.3
    assert params["discount"] == 0.99
    in_jax = optix.make_agent(CARTPOLE, framework="jax", hyperparams={"discount": 0.5})
    assert isinstance(in_jax, Agent)
    assert in_jax.hyperparams["discount"] == 0.5
    assert in_jax.hyperparams["clip_ratio"] == 0.2


def test_the_table_names_known_algorithms_and_the_seeds_choice():
    for framework in FRAMEWORKS.values():
        assert set(framework.agents) <= set(ALGORITHMS)
        for algorithm, pair in framework.agents.items():
            for name, kind in zip(pair, (Discrete, Box), strict=True):
                assert name is None or kind in ALGORITHMS[algorithm].actions
    tf, box = FRAMEWORKS["tf"], Box((1,))
    assert tf.agent("ppo", Discrete(2)) == "TFPPOAgent"
    assert tf.agent("sac", box) == "TFSACAgent"
    assert tf.agent("td3", box) == "TFTDDAgent"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_is_not_installed_is_named_with_its_extra(
    framework, monkeypatch
):
    row = FRAMEWORKS[framework]
    monkeypatch.setitem(sys.modules, row.package, None)
    message = f"needs {row.package}, which is not installed; pip install 'tensor-optix"
    with pytest.raises(ModuleNotFoundError, match=message) as caught:
        optix.make_agent(CARTPOLE, framework=framework)
    assert f"[{row.extra}]" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"framework": "pytorch"}, "unknown framework 'pytorch'; did you mean 'torch'"),
        ({"algorithm": "sac"}, "sac takes Box actions"),
        ({"deterministic": True}, "deterministic=True needs a Box"),
        ({"network": "graph"}, "network is one of JAX"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"hyperparams": {"learning_rat": 1.0}}, "did you mean 'learning_rate'"),
        ({"hyperparams": {"discount": 1.0}, "discount": 1.0}, "must be given once"),
        ({"hyperparams": 1e-3}, "hyperparams must be a HyperparamSet, a mapping"),
        ({"env": "Breakout-MinAtar"}, "env must be of Gymnasium where the agent"),
        ({"env": PENDULUM, "algorithm": "recurrent_ppo"}, "has no recurrent_ppo for"),
        (
            {"env": gymnasium.make(CARTPOLE), "env_params": {"sutton": True}},
            "env_params are for a name",
        ),
    ],
)
def test_one_clear_error(options, message):
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match=message):
        optix.make_agent(**{"env": CARTPOLE, "framework": "torch", **options})
