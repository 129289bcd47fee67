"""The files of Torch agents against the agents, at batches 1 and 7."""

import builtins
import functools
import importlib.util

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from optix.checks import OptionError
from optix_torch import (
    TorchAgent,
    TorchDQNAgent,
    TorchGaussianPPOAgent,
    TorchPPOAgent,
    TorchRainbowDQNAgent,
    TorchRecurrentPPOAgent,
    TorchSACAgent,
    TorchTD3Agent,
)
from tests.onnx.parity import BATCHES, TOLERANCE, Played, after

pytest.importorskip("onnxscript", reason="onnxscript is not installed")

SMALL = {"hidden": (3,)}
NORMAL = {**SMALL, "normalize_observations": True}
CELL = {**SMALL, "cell_size": 4}


class Spaces(gymnasium.Env):
    """What `for_env` looks at of an environment."""

    def __init__(self, action, observation=None):
        self.observation_space = observation or spaces.Box(-5, 5, (3,), np.float32)
        self.action_space = action


DISCRETE = Spaces(spaces.Discrete(3))
BOX = Spaces(spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 5.0])))
IMAGE = Spaces(spaces.Discrete(3), spaces.Box(0, 255, (6, 5, 2), np.uint8))
STATES = Spaces(spaces.Discrete(3), spaces.Discrete(4))


def linear(inputs=3, outputs=3):
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))


AGENTS = {
    "ppo": (lambda: TorchPPOAgent.for_env(DISCRETE, **SMALL), ["logits"]),
    "gaussian": (
        lambda: TorchGaussianPPOAgent.for_env(BOX, **SMALL),
        ["mean", "log_scale"],
    ),
    "gru": (lambda: TorchRecurrentPPOAgent.for_env(DISCRETE, **CELL), ["logits"]),
    "lstm": (
        lambda: TorchRecurrentPPOAgent(
            nn.LSTM(3, 2, num_layers=2, batch_first=True),
            nn.Linear(2, 3),
            nn.Linear(2, 1),
            3,
        ),
        ["logits"],
    ),
    "dqn": (
        lambda: TorchDQNAgent.for_env(DISCRETE, dueling=True, **NORMAL),
        ["q_values"],
    ),
    "rainbow": (lambda: TorchRainbowDQNAgent.for_env(DISCRETE, **SMALL), ["q_values"]),
    "sac": (lambda: TorchSACAgent.for_env(BOX, **NORMAL), ["mean", "log_scale"]),
    "td3": (lambda: TorchTD3Agent.for_env(BOX, **SMALL), ["unit_action"]),
    "own": (lambda: TorchAgent(linear(), lambda *given: None), ["logits"]),
    "image": (lambda: TorchDQNAgent.for_env(IMAGE, **SMALL), ["q_values"]),
    "states": (lambda: TorchDQNAgent.for_env(STATES, **SMALL), ["q_values"]),
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Torch reads its table of operations anew for every export: a second each."""
    patch = pytest.MonkeyPatch()
    path = "torch.onnx._internal.exporter._registration.ONNXRegistry.from_torchlib"
    try:
        home, _, name = path.rpartition(".")
        module, _, kind = home.rpartition(".")
        registry = getattr(importlib.import_module(module), kind)
        read = functools.cache(getattr(registry, name))
        patch.setattr(registry, name, staticmethod(read))
    except (ImportError, AttributeError):
        pass  # another Torch: slower
    yield
    patch.undo()


def trained(agent):
    """An agent whose weights and moments are no longer the first ones."""
    random = np.random.default_rng(0)
    agent.seed(3)
    with torch.no_grad():
        for parameter in agent.learned():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.4))
    if agent.view.normalised:
        agent.view.observe(random.normal(1, [2, 5, 0.1], (50, 3)).astype(np.float32), 1)
    return agent


def observations(agent, batch):
    shape = agent.policy_inputs()["observation"]
    random = np.random.default_rng(1)
    if shape == ():
        return random.integers(0, 4, batch).astype(np.float32)
    return 2 * random.normal(size=(batch, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", AGENTS)
def test_parameters_and_greedy_actions_are_those_of_the_agent(name, tmp_path):
    make, beside = AGENTS[name]
    torch.manual_seed(0)
    agent = trained(make())
    before = agent.state()
    agent.act_batch(observations(agent, 2), explore=False)
    agent.export_onnx(str(tmp_path / "policy.onnx"))
    played = Played(tmp_path / "policy.onnx")
    assert [n for n in played.outputs if "next_" not in n] == [*beside, "action"]
    assert played.about == {"agent": type(agent).__name__}
    for batch in BATCHES:
        agent.carry, fed = None, played.at_rest(batch)
        for _ in range(3 if fed else 1):
            obs = observations(agent, batch)
            found = played(observation=obs, **fed)
            carry = [torch.from_numpy(x) for x in fed.values()]
            with torch.no_grad():
                seen = agent.view(obs)
                if name in ("gru", "lstm"):
                    held, features = agent.cell.step(carry[0], agent._inputs(seen))
                    logits = agent.modules["actor_head"](features)
                    values = [logits]
                    np.testing.assert_allclose(found["next_carry"], held, **TOLERANCE)
                else:
                    values = PARAMETERS.get(name, first_module)(agent, seen)
            for one, value in zip(beside, values, strict=True):
                np.testing.assert_allclose(found[one], value, **TOLERANCE)
            actions, _ = agent.act_batch(obs, explore=False)
            np.testing.assert_allclose(found["action"], actions, **TOLERANCE)
            fed = after(found)
    for key, value in agent.state().items():
        np.testing.assert_array_equal(value, before[key])


def first_module(agent, seen):
    return [next(iter(agent.modules.values()))(seen)]


def expected_values(agent, seen):
    probabilities = agent.q_network(seen).softmax(-1).numpy()
    return [probabilities @ np.linspace(-10, 10, probabilities.shape[-1])]


def both_halves(agent, seen):
    return agent.modules["actor"](seen).chunk(2, -1)


PARAMETERS = {"rainbow": expected_values, "gaussian": both_halves, "sac": both_halves}


@pytest.mark.parametrize("kind", ["PPO", "A2C", "DQN", "SAC", "TD3"])
def test_models_of_stable_baselines3(kind, tmp_path):
    sb3 = pytest.importorskip("stable_baselines3", reason="it is not installed")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from optix_torch import SB3Agent

    name = "CartPole-v1" if kind in ("PPO", "DQN") else "Pendulum-v1"
    envs = DummyVecEnv([lambda: gymnasium.make(name)])
    if kind in ("A2C", "SAC"):
        envs = VecNormalize(envs, clip_obs=1.0)
        envs.obs_rms.mean[:] = 0.5
        envs.obs_rms.var[:] = 3.0
    options = {} if kind in ("PPO", "A2C") else {"buffer_size": 10}
    net = {"policy_kwargs": {"net_arch": [4]}}
    model = getattr(sb3, kind)("MlpPolicy", envs, seed=0, **options, **net)
    agent = SB3Agent(model, total_timesteps=100)
    agent.export_onnx(tmp_path / "policy.onnx")
    played = Played(tmp_path / "policy.onnx")
    shape = model.observation_space.shape
    for batch in BATCHES:
        obs = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
        actions, _ = agent.act_batch(obs, explore=False)
        found = played(observation=obs)
        np.testing.assert_allclose(found["action"], actions, **TOLERANCE)
        if kind == "PPO":
            seen = torch.from_numpy(obs)
            with torch.no_grad():
                logits = model.policy.get_distribution(seen).distribution.logits
            given = torch.from_numpy(found["logits"]).log_softmax(-1)
            np.testing.assert_allclose(given, logits, **TOLERANCE)


class Deciding(nn.Module):
    """Asks Python about its input."""

    def forward(self, obs):
        return obs[:, :2] if float(obs.sum()) > 0 else obs[:, 1:]


class Two(nn.Module):
    """Gives more than one tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, obs):
        return {"mean": self.layer(obs), "spread": obs.abs()}


def own(module, **options):
    parameters = [nn.Parameter(torch.zeros(1))]
    module.register_parameter("unused", parameters[0])
    return TorchAgent(module, lambda *given: None, **options)


def test_a_module_of_many_outputs_keeps_their_names(tmp_path):
    agent = own(Two(), act=lambda out, explore, generator: out["mean"])
    agent.act(np.zeros(3))
    agent.export_onnx(tmp_path / "policy.onnx")
    assert list(Played(tmp_path / "policy.onnx").outputs) == ["mean", "spread"]


def test_what_can_not_be_exported_is_refused(tmp_path):
    path = tmp_path / "policy.onnx"
    agent = own(Deciding())
    with pytest.raises(OptionError, match="observation_shape must be known"):
        agent.export_onnx(path)
    agent.act(np.zeros(3))
    with pytest.raises(OptionError, match="torch.onnx can export .* got "):
        agent.export_onnx(path)
    with pytest.raises(OptionError, match="make .*none first"):
        agent.export_onnx(tmp_path / "none" / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    agent = TorchAgent(linear(), lambda *given: None)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "onnxscript" else find(name, *rest),
    )
    with pytest.raises(ImportError, match=r"needs the package onnxscript; .*\[onnx\]"):
        agent.export_onnx(tmp_path / "policy.onnx")
    original = builtins.__import__

    def refuse(module, *args, **kwargs):
        if module.split(".")[0] == "onnx":
            raise ImportError(module)
        return original(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"needs the package onnx; .*\[onnx\]"):
        agent.export_onnx(tmp_path / "policy.onnx")
