"""Agents that fit an environment, and calls that are wrong."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import optix_torch
from optix.host.agent import HyperparamSet
from optix.host.bounds import bounds
from optix.host.pipelines import BatchPipeline
from optix.host.window import EpisodeData
from optix_torch import (
    NoisyLinear,
    RainbowQNetwork,
    TorchAgent,
    TorchDQNAgent,
    TorchGaussianPPOAgent,
    TorchPPOAgent,
    TorchRainbowDQNAgent,
    TorchRecurrentPPOAgent,
    TorchSACAgent,
    TorchTD3Agent,
)
from optix_torch.given import chosen_device
from optix_torch.networks import Dense, Duel, Image, OneHot
from tests.adapters.acting import BOX, DISCRETE, Reach, Spaces, play
from tests.adapters.windows import AGENTS, make

KINDS = [
    (TorchPPOAgent, DISCRETE),
    (TorchRecurrentPPOAgent, DISCRETE),
    (TorchDQNAgent, DISCRETE),
    (TorchRainbowDQNAgent, DISCRETE),
    (TorchGaussianPPOAgent, BOX),
    (TorchSACAgent, BOX),
    (TorchTD3Agent, BOX),
]
OBSERVATIONS = {
    "numbered": spaces.Discrete(5, start=2),
    "scalar": spaces.Box(-1, 1, (), np.float64),
    "grid": spaces.Box(-1, 1, (2, 3), np.float64),
    "small image": spaces.Box(0, 255, (5, 6, 3), np.uint8),
    "image": spaces.Box(0, 255, (4, 36, 36), np.uint8),
}


@pytest.mark.parametrize("observed", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize(("kind", "actions"), KINDS)
def test_every_agent_takes_every_observation_it_can_be_given(kind, actions, observed):
    env = Spaces(actions, observed)
    options = {"hidden": (3,)}
    if issubclass(kind, TorchRecurrentPPOAgent):
        options |= {"cell_size": 2, "num_minibatches": 1}
    elif "learning_starts" in kind.SIZES:
        options |= {"learning_starts": 1, "batch_size": 4, "updates_per_step": 0.5}
    agent = kind.for_env(env, device="cpu", **options)
    observed.seed(0)
    obs = np.stack([[observed.sample() for _ in range(2)] for _ in range(5)])
    agent.begin_episode(np.ones(2, bool))
    acted = [agent.act_batch(row) for row in obs[:4]]
    extras = {k: np.stack([e[k] for _, e in acted]) for k in acted[0][1]}
    taken = np.stack([action for action, _ in acted])
    assert actions.contains(taken[0, 0].astype(actions.dtype))
    never = np.zeros((4, 2), bool)
    rewards = np.ones((4, 2), np.float32)
    window = EpisodeData(obs[:4], taken, rewards, never, never, obs[1:], extras=extras)
    assert np.isfinite(list(agent.learn(window).values())).all()
    if agent.memory is not None:
        kept = agent.memory.state()["obs"].dtype
        assert kept == (np.float32 if observed.dtype == np.float64 else observed.dtype)


def test_a_vector_environment_will_do():
    envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 2)
    agent = TorchSACAgent.for_env(envs, hidden=(4,))
    assert agent.act_batch(np.zeros((2, 3)))[0].shape == (2, 1)
    envs.close()


def test_actions_keep_the_shape_of_the_environments():
    low = -np.ones((2, 3), np.float32)
    for kind in (TorchGaussianPPOAgent, TorchSACAgent, TorchTD3Agent):
        agent = kind.for_env(Spaces(spaces.Box(low, 2 * -low)), hidden=(3,))
        actions, _ = agent.act_batch(np.zeros((4, 4)))
        assert actions.shape == (4, 2, 3) and actions.dtype == np.float32


@pytest.mark.parametrize(("kind", "actions"), KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 4)])
def test_an_observation_of_another_shape_is_refused(kind, actions, shape):
    """Less their mean, some of them would have the right one."""
    agent = kind.for_env(Spaces(actions), hidden=(3,))
    with pytest.raises(ValueError, match=r"must be \[B, 4\], got the shape \[1"):
        agent.act(np.zeros(shape))


class OneNumber(Reach):
    """Its action is a number, not an array of one."""

    def __init__(self):
        super().__init__(discrete=False)
        self.action_space = spaces.Box(-3, 1, (), np.float32)

    def step(self, action):
        return super().step([action])


@pytest.mark.parametrize("kind", [TorchGaussianPPOAgent, TorchSACAgent, TorchTD3Agent])
def test_an_action_may_be_one_number(kind):
    pipeline = BatchPipeline(OneNumber, window_size=8)
    agent = kind.for_env(OneNumber(), hidden=(3,))
    assert agent.act_batch(np.zeros((2, 2)))[0].shape == (2,)
    window = pipeline.collect(agent, pipeline.open(), 0)
    assert window.actions.shape == (8,) and np.ptp(window.actions) > 0
    assert np.isfinite(list(agent.learn(window).values())).all()
    assert np.isfinite(pipeline.evaluate(agent, 0, 2))
    pipeline.close()
    np.testing.assert_allclose(agent.bounds.decode(np.float32([[0.5]])), [0.0])
    one = kind.for_env(Spaces(spaces.Box(-3, 1, (1,), np.float32)), hidden=(3,))
    assert one.act_batch(np.zeros((2, 4)))[0].shape == (2, 1)


def test_a_duel_is_dueling():
    value, advantage = torch.nn.Linear(4, 1), torch.nn.Linear(4, 3)
    x = torch.randn(5, 4)
    got = Duel(value, advantage, 3, None)(x)
    centred = advantage(x) - advantage(x).mean(1, keepdim=True)
    np.testing.assert_allclose(got.detach(), (value(x) + centred).detach(), rtol=1e-5)


def test_weights_begin_as_those_of_jax_do():
    torch.manual_seed(0)
    layer = Dense(400, 300, scale=0.5)
    assert layer.weight.std().item() == pytest.approx(0.5 / 20, rel=0.02)
    assert layer.weight.abs().max() <= 0.5 * 2 / 20 / 0.8796 + 1e-6
    assert (layer.bias == 0).all()
    noisy = NoisyLinear(400, 3, noise_scale=0.2)
    assert (noisy.weight_deviation == 0.2 / 20).all()
    noisy.weight_deviation.data.zero_()
    noisy.reset_parameters()
    assert (noisy.weight_deviation == 0.2 / 20).all()


def test_numbers_of_states_become_vectors():
    got = OneHot(3, start=1)(torch.tensor([1.0, 3.0]))
    assert got.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_images_of_either_order():
    last, first = Image((5, 6, 3)), Image((3, 5, 6))
    first.load_state_dict(last.state_dict())
    x = torch.rand(2, 5, 6, 3)
    assert torch.equal(last(x), first(x.movedim(-1, 1)))
    with pytest.raises(ValueError, match="at least 3 by 3 pixels"):
        Image((2, 9, 2))


def test_hyperparameters_that_are_not_named_stay():
    agent = make("ppo", clip_ratio=0.3)
    agent.set_hyperparams(HyperparamSet({"discount": 0.5, "num_epochs": 2}))
    params = agent.get_hyperparams().params
    names = "clip_ratio", "discount", "num_epochs"
    assert [params[name] for name in names] == [0.3, 0.5, 2]
    params["discount"] = 0.1
    assert agent.hyperparams["discount"] == 0.5
    tunable = {name for name, value in params.items() if isinstance(value, float)}
    assert "learning_rate" in tunable and "num_epochs" not in tunable


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "x", None, 10**20])
def test_every_hyperparameter_refuses_what_it_can_not_be(name, value):
    agent = make(name)
    before = agent.get_hyperparams()
    for key in before.params:
        if value == -1 and agent.FLOATS.get(key, (0, 0))[1] <= -1:
            continue
        with pytest.raises(ValueError, match=rf"^{key} must be"):
            agent.set_hyperparams(HyperparamSet({key: value}))
    assert agent.get_hyperparams() == before


def linear_agent(**options):
    return TorchPPOAgent(nn.Linear(4, 3), nn.Linear(4, 1), **options)


def wrong_optimizer(parameters):
    return linear_agent(optimizer=torch.optim.Adam(parameters))


CRITIC = nn.Linear(6, 1)
WRONG = {
    "an unknown hyperparameter": (
        lambda: linear_agent(hyperparams={"clip_rate": 0.1}),
        "unknown hyperparameter of TorchPPOAgent 'clip_rate'; did you mean 'clip_ratio'",
    ),
    "hyperparams that are none": (
        lambda: linear_agent(hyperparams=0.1),
        "hyperparams must be a HyperparamSet, a mapping",
    ),
    "a device that is none": (lambda: linear_agent(device="abacus"), "device must be"),
    "a device of no kind": (lambda: linear_agent(device=1.5), "device must be"),
    "an actor that is none": (
        lambda: TorchPPOAgent("actor", nn.Linear(4, 1)),
        "actor must be a Module",
    ),
    "a class for a network": (
        lambda: TorchPPOAgent(nn.Linear(4, 3), nn.Linear),
        "critic must be a Module",
    ),
    "a rate for an optimizer": (
        lambda: linear_agent(optimizer=1e-3),
        "optimizer must be a Optimizer",
    ),
    "an optimizer of another network": (
        lambda: wrong_optimizer(nn.Linear(4, 3).parameters()),
        "optimizer must hold the parameters .* lacks 4 of 4 and has 2 of others",
    ),
    "an optimizer that wants a closure": (
        lambda: TorchAgent(
            (module := nn.Linear(4, 2)), print, torch.optim.LBFGS(module.parameters())
        ),
        "optimizer must step without a closure",
    ),
    "a reward normalizer that is none": (
        lambda: linear_agent(reward_normalizer=True),
        "reward_normalizer must be a RewardNormalizer",
    ),
    "a switch that is none": (
        lambda: linear_agent(normalize_rewards="no"),
        "normalize_rewards must be True or False",
    ),
    "another switch that is none": (
        lambda: linear_agent(normalize_observations=1),
        "normalize_observations must be True or False",
    ),
    "a limit that is none": (
        lambda: linear_agent(target_kl=-1),
        "target_kl must be in",
    ),
    "one critic twice": (
        lambda: TorchSACAgent(nn.Linear(4, 4), CRITIC, CRITIC, 2),
        "critic1 and critic2 must be two networks",
    ),
    "no actions": (
        lambda: TorchTD3Agent(nn.Linear(4, 2), nn.Linear(6, 1), nn.Linear(6, 1), 0),
        "action_dim must be an integer >= 1",
    ),
    "bounds of other actions": (
        lambda: TorchGaussianPPOAgent(
            nn.Linear(4, 4), CRITIC, None, 2, bounds=([-1] * 3, [1] * 3)
        ),
        "bounds must be of action_dim=2 actions, got 3",
    ),
    "bounds that are reversed": (lambda: bounds(1.0, -1.0), "must be low <= high"),
    "bounds that are none": (
        lambda: TorchGaussianPPOAgent(nn.Linear(4, 4), CRITIC, None, 2, bounds=3),
        r"bounds must be a pair \(low, high\)",
    ),
    "a temperature of zero": (
        lambda: make("sac", initial_temperature=0.0),
        "initial_temperature must be in",
    ),
    "a name for an environment": (
        lambda: TorchPPOAgent.for_env("CartPole-v1"),
        "env must be a Gymnasium environment, got 'CartPole-v1'",
    ),
    "discrete actions for SAC": (
        lambda: TorchSACAgent.for_env(Spaces(DISCRETE)),
        "TorchSACAgent takes Box actions, .* use TorchPPOAgent, TorchDQNAgent or",
    ),
    "a box of actions for DQN": (
        lambda: TorchDQNAgent.for_env(Spaces(BOX)),
        "TorchDQNAgent takes Discrete actions, .* use TorchGaussianPPOAgent",
    ),
    "several choices at once": (
        lambda: TorchPPOAgent.for_env(Spaces(spaces.MultiDiscrete([2, 3]))),
        "takes Discrete actions, but Spaces has MultiDiscrete",
    ),
    "actions that do not start at 0": (
        lambda: TorchPPOAgent.for_env(Spaces(spaces.Discrete(2, start=1))),
        "Discrete actions from 0 or a Box of floats, but .*TransformAction",
    ),
    "a box of integers": (
        lambda: TorchSACAgent.for_env(Spaces(spaces.Box(0, 5, (1,), np.int32))),
        "Discrete actions from 0 or a Box of floats, but .*TransformAction",
    ),
    "a dict of observations": (
        lambda: TorchPPOAgent.for_env(
            Spaces(DISCRETE, spaces.Dict({"a": spaces.Discrete(2)}))
        ),
        "takes observations of a Box or Discrete, but Spaces has Dict",
    ),
    "an unknown option": (
        lambda: TorchPPOAgent.for_env(Spaces(DISCRETE), hiden=(3,)),
        "unknown option of TorchPPOAgent 'hiden'",
    ),
    "an unknown activation": (
        lambda: TorchPPOAgent.for_env(Spaces(DISCRETE), activation="relux"),
        "unknown activation 'relux'; did you mean 'relu'",
    ),
    "no hidden layer": (
        lambda: TorchPPOAgent.for_env(Spaces(DISCRETE), hidden=()),
        "hidden must be a sequence of at least one width",
    ),
    "a hidden layer of nothing": (
        lambda: TorchDQNAgent.for_env(Spaces(DISCRETE), hidden=(0,)),
        "a hidden width must be an integer >= 1",
    ),
    "an unknown cell": (
        lambda: TorchRecurrentPPOAgent.for_env(Spaces(DISCRETE), cell="gnu"),
        "unknown cell 'gnu'; did you mean 'gru'",
    ),
    "one atom": (
        lambda: RainbowQNetwork.build(4, 2, n_atoms=1),
        "n_atoms must be an integer >= 2",
    ),
    "a loss that is none": (
        lambda: TorchAgent(nn.Linear(4, 2), "loss"),
        "loss must be a function",
    ),
    "an act that is none": (
        lambda: TorchAgent(nn.Linear(4, 2), print, act=3),
        "act must be a function",
    ),
    "a window of one step": (
        lambda: make("ppo").learn(play(make("ppo"), steps=1)),
        "num_minibatches=4 must leave 2 samples to each, got a window of 2",
    ),
    "a dict at act": (
        lambda: make("ppo").act_batch({"a": np.zeros((2, 4))}),
        "observations must be arrays .* of numbers, got a dict",
    ),
    "a lazy network": (
        lambda: TorchPPOAgent(nn.LazyLinear(2), nn.Linear(4, 1)),
        "actor must have its weights, got lazy layers",
    ),
    "a lazy network of values": (
        lambda: TorchDQNAgent(nn.LazyLinear(2), 2),
        "q_network must have its weights, got lazy layers",
    ),
    "nothing to learn": (
        lambda: TorchPPOAgent(
            nn.Linear(4, 2).requires_grad_(False), nn.Linear(4, 1).requires_grad_(False)
        ),
        "optimizer must have parameters to learn, got networks that have none",
    ),
    "text at act": (
        lambda: make("ppo").act_batch(np.array(["a", "b"])),
        "observations must be arrays .* of numbers, got <U1",
    ),
    "a critic of two values": (
        lambda: TorchPPOAgent(nn.Linear(4, 3), nn.Linear(4, 2)).learn(
            play(make("ppo"))
        ),
        "critic must give one value of each observation",
    ),
    "an actor of one number": (
        lambda: TorchSACAgent(nn.Linear(4, 3), nn.Linear(6, 1), nn.Linear(6, 1), 2).act(
            np.zeros(4), explore=False
        ),
        r"actor must give a mean and a log scale of 2 actions, \[N, 4\]",
    ),
}


@pytest.mark.parametrize(("call", "match"), WRONG.values(), ids=WRONG)
def test_a_wrong_call_is_told_by_one_clear_error(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_auto_is_cuda_where_there_is_one():
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert (
        chosen_device("auto").type == kind == make("ppo").device.type or kind == "cuda"
    )
    if kind == "cpu":
        with pytest.raises(
            ValueError, match="device must be one that this machine has"
        ):
            linear_agent(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", AGENTS)
def test_on_cuda_it_learns_and_its_state_moves_between_devices(name):
    torch.manual_seed(0)
    agent = AGENTS[name](device="cuda")
    agent.learn(play(agent))
    other = make(name)
    other.restore(agent.state())
    for key, value in agent.state().items():
        np.testing.assert_array_equal(other.state()[key], value)
    assert np.isfinite(list(other.learn(play(other)).values())).all()


def test_the_package_offers_what_it_says():
    for name in optix_torch.__all__:
        assert getattr(optix_torch, name).__module__.startswith("optix_torch.")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        optix_torch.nothing  # noqa: B018
