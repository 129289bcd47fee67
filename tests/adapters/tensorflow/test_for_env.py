"""Agents that fit an environment, and calls that are wrong."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras
from gymnasium import spaces

import optix_tensorflow
from optix.host.agent import HyperparamSet
from optix.host.window import EpisodeData
from optix_tensorflow import (
    TFDQNAgent,
    TFGaussianPPOAgent,
    TFPPOAgent,
    TFSACAgent,
    TFTD3Agent,
    TFTDDAgent,
)
from optix_tensorflow.networks import Duel, OneHot, dense
from tests.adapters.acting import BOX, DISCRETE, Spaces, play
from tests.adapters.tensorflow.windows import AGENTS, linear, make

NUMBERED = spaces.Discrete(5, start=2)
SCALAR = spaces.Box(-1, 1, (), np.float64)
GRID = spaces.Box(-1, 1, (2, 3), np.float64)
SMALL = spaces.Box(0, 255, (5, 6, 3), np.uint8)
IMAGE = spaces.Box(0, 255, (4, 36, 36), np.uint8)


@pytest.mark.parametrize(
    ("kind", "observed"),
    [
        (TFPPOAgent, NUMBERED),
        (TFGaussianPPOAgent, SCALAR),
        (TFTDDAgent, GRID),
        (TFSACAgent, SMALL),
        (TFDQNAgent, IMAGE),
        (TFSACAgent, NUMBERED),
    ],
)
def test_agents_take_every_observation_they_can_be_given(kind, observed):
    actions = DISCRETE if kind in (TFPPOAgent, TFDQNAgent) else BOX
    options = {"hidden": (3,)}
    if "learning_starts" in kind.SIZES:
        options |= {"learning_starts": 1, "batch_size": 4, "updates_per_step": 0.5}
    agent = kind.for_env(Spaces(actions, observed), **options)
    observed.seed(0)
    obs = np.stack([[observed.sample() for _ in range(2)] for _ in range(5)])
    agent.begin_episode(np.ones(2, bool))
    acted = [agent.act_batch(row) for row in obs[:4]]
    extras = {k: np.stack([e[k] for _, e in acted]) for k in acted[0][1]}
    taken = np.stack([action for action, _ in acted])
    assert actions.contains(taken[0, 0].astype(actions.dtype))
    never, rewards = np.zeros((4, 2), bool), np.ones((4, 2), np.float32)
    window = EpisodeData(obs[:4], taken, rewards, never, never, obs[1:], extras=extras)
    assert np.isfinite(list(agent.learn(window).values())).all()
    if agent.memory is not None:
        kept = agent.memory.state()["obs"].dtype
        assert kept == (np.float32 if observed.dtype == np.float64 else observed.dtype)


def test_a_vector_environment_will_do_and_actions_keep_their_shape():
    envs = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 2)
    agent = TFSACAgent.for_env(envs, hidden=(4,))
    assert agent.act_batch(np.zeros((2, 3)))[0].shape == (2, 1)
    envs.close()
    low = -np.ones((2, 3), np.float32)
    for kind in (TFGaussianPPOAgent, TFTDDAgent):
        agent = kind.for_env(Spaces(spaces.Box(low, 2 * -low)), hidden=(3,))
        for explore in (True, False):
            actions, _ = agent.act_batch(np.zeros((4, 4)), explore)
            assert actions.shape == (4, 2, 3) and actions.dtype == np.float32


def test_layers():
    """Against what they say in numbers; each can be made again from its config."""
    value, advantage = np.float32([[1], [2]]), np.float32([[1, 2, 3], [0, 0, 6]])
    got = Duel()(value, advantage)
    np.testing.assert_allclose(got, [[0, 1, 2], [0, 0, 6]])
    one_hot = OneHot.from_config(OneHot(3, start=1).get_config())
    assert one_hot(np.float32([1, 3])).numpy().tolist() == [[1, 0, 0], [0, 0, 1]]
    keras.utils.set_random_seed(0)
    layer = dense(300, scale=0.5)
    layer.build((None, 400))
    weights, bias = layer.get_weights()
    assert weights.std() == pytest.approx(0.5 / 20, rel=0.02) and (bias == 0).all()
    assert np.abs(weights).max() <= 0.5 * 2 / 20 / 0.8796 + 1e-6
    scalar = {"hidden": (3,), "dueling": True}
    for kind, options, actions in (
        (TFDQNAgent, scalar, DISCRETE),
        (TFGaussianPPOAgent, {"hidden": (3,)}, BOX),
        (TFSACAgent, {"hidden": (3,)}, BOX),
    ):
        agent = kind.for_env(Spaces(actions, GRID), **options)
        for model in agent.modules.values():
            other = keras.models.clone_model(model)
            other.set_weights(model.get_weights())
            x = np.random.default_rng(0).normal(size=(5, *model.input_shape[1:]))
            np.testing.assert_allclose(other(x), model(x))


def test_images_of_either_order_are_seen_alike():
    last, first = (
        TFPPOAgent.for_env(
            Spaces(DISCRETE, spaces.Box(0, 255, shape, np.uint8)),
            hidden=(3,),
            normalize_observations=False,
        )
        for shape in ((5, 6, 3), (3, 5, 6))
    )
    first.restore(last.state())
    x = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3)).astype(np.uint8)
    for one, other in zip(x, np.moveaxis(x, -1, 1), strict=True):
        np.testing.assert_allclose(
            last.action_probs(one), first.action_probs(other), rtol=1e-4
        )


class Own(keras.Model):
    """A model by its own code, which says nothing of its inputs."""

    def __init__(self, outputs=3, **options):
        super().__init__(**options)
        self.layer = keras.layers.Dense(outputs)

    def call(self, x):
        return self.layer(x)


def test_models_by_their_own_code():
    agent = TFPPOAgent(Own(3), Own(1), observation_shape=(4,))
    agent.learn(play(agent))
    called = Own(3)
    called(np.zeros((1, 4)))
    agent = TFDQNAgent(called, 3)
    assert agent.act(np.zeros(4), explore=False) in (0, 1, 2)
    with pytest.raises(
        ValueError, match=r"observations must be \[B, 4\], got the shape"
    ):
        agent.act(np.zeros(5))


def test_hyperparameters_that_are_not_named_stay():
    agent = TFPPOAgent(linear(4, 3), linear(4, 1), hyperparams={"clip_ratio": 0.3})
    agent.set_hyperparams(HyperparamSet({"discount": 0.5, "num_epochs": 2}))
    params = agent.get_hyperparams().params
    names = "clip_ratio", "discount", "num_epochs"
    assert [params[name] for name in names] == [0.3, 0.5, 2]
    tunable = {name for name, value in params.items() if isinstance(value, float)}
    assert "learning_rate" in tunable and "num_epochs" not in tunable


@pytest.mark.parametrize("name", AGENTS)
def test_every_hyperparameter_refuses_what_it_can_not_be(name):
    agent = make(name)
    before = agent.get_hyperparams()
    for value in (-1, float("nan"), float("inf"), "x", None, 10**20):
        for key in before.params:
            if value == -1 and agent.FLOATS.get(key, (0, 0))[1] <= -1:
                continue
            with pytest.raises(ValueError, match=rf"^{key} must be"):
                agent.set_hyperparams(HyperparamSet({key: value}))
    assert agent.get_hyperparams() == before


def linear_agent(**options):
    return TFPPOAgent(linear(4, 3), linear(4, 1), **options)


def used_optimizer():
    optimizer = keras.optimizers.Adam()
    linear_agent(optimizer=optimizer)
    return linear_agent(optimizer=optimizer)


def scheduled():
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 10))


def sac(actor=(4, 4), critics=((6, 1), (6, 1)), size=2, **options):
    return TFSACAgent(linear(*actor), *(linear(*c) for c in critics), size, **options)


def twice():
    one = linear(6, 1)
    return TFSACAgent(linear(4, 4), one, one, 2)


WRONG = {
    "an unknown hyperparameter": (
        lambda: linear_agent(hyperparams={"clip_rate": 0.1}),
        "unknown hyperparameter of TFPPOAgent 'clip_rate'; did you mean 'clip_ratio'",
    ),
    "hyperparams that are none": (
        lambda: linear_agent(hyperparams=0.1),
        "hyperparams must be a HyperparamSet, a mapping",
    ),
    "a device": (
        lambda: TFPPOAgent.for_env(Spaces(DISCRETE), device="cpu"),
        "unknown op",
    ),
    "an actor that is none": (
        lambda: TFPPOAgent("actor", linear(4, 1)),
        "actor must be a Model",
    ),
    "a class for a network": (
        lambda: TFPPOAgent(linear(4, 3), keras.Sequential),
        "critic must be a Model",
    ),
    "a model that is not built": (
        lambda: TFPPOAgent(Own(), linear(4, 1)),
        r"actor must be built, .* begin it with keras.Input\(shape\), or give observ",
    ),
    "a model that can not be copied": (
        lambda: TFDQNAgent(Closed(lambda x: x), 3, observation_shape=(4,)),
        "q_network must be a model that Keras can make again for a target, got Closed",
    ),
    "a rate for an optimizer": (
        lambda: linear_agent(optimizer=1e-3),
        "optimizer must be a Optimizer",
    ),
    "an optimizer of another agent": (
        used_optimizer,
        "optimizer must be new or of the variables .* lacks 4 of 4 and has 4 of others",
    ),
    "a schedule": (
        lambda: linear_agent(optimizer=scheduled()),
        "optimizer must have a number for its learning rate, got a schedule",
    ),
    "a schedule of the temperature": (
        lambda: sac(alpha_optimizer=scheduled()),
        "alpha_optimizer must have a number",
    ),
    "a rate for the temperature": (
        lambda: sac(alpha_optimizer=1e-3),
        "alpha_optimizer must be a Optimizer",
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
    "one critic twice": (twice, "critic1 and critic2 must be two networks"),
    "no actions": (lambda: sac(size=0), "action_dim must be an integer >= 1"),
    "bounds of other actions": (
        lambda: sac(bounds=([-1] * 3, [1] * 3)),
        "bounds must be of action_dim=2 actions, got 3",
    ),
    "bounds that are none": (
        lambda: sac(bounds=3),
        r"bounds must be a pair \(low, high\)",
    ),
    "a temperature of zero": (
        lambda: sac(initial_temperature=0.0),
        "initial_temperature must be in",
    ),
    "a name for an environment": (
        lambda: TFPPOAgent.for_env("CartPole-v1"),
        "env must be a Gymnasium environment, got 'CartPole-v1'",
    ),
    "discrete actions for SAC": (
        lambda: TFSACAgent.for_env(Spaces(DISCRETE)),
        "TFSACAgent takes Box actions, .* use TFPPOAgent or TFDQNAgent",
    ),
    "a box of actions for DQN": (
        lambda: TFDQNAgent.for_env(Spaces(BOX)),
        "TFDQNAgent takes Discrete actions, .* use TFGaussianPPOAgent",
    ),
    "a dict of observations": (
        lambda: TFPPOAgent.for_env(
            Spaces(DISCRETE, spaces.Dict({"a": spaces.Discrete(2)}))
        ),
        "takes observations of a Box or Discrete, but Spaces has Dict",
    ),
    "an image of too few pixels": (
        lambda: TFPPOAgent.for_env(Spaces(DISCRETE, spaces.Box(0, 1, (2, 9, 2)))),
        "at least 3 by 3 pixels",
    ),
    "an unknown option": (
        lambda: TFPPOAgent.for_env(Spaces(DISCRETE), hiden=(3,)),
        "unknown option of TFPPOAgent 'hiden'",
    ),
    "an unknown activation": (
        lambda: TFPPOAgent.for_env(Spaces(DISCRETE), activation="relux"),
        "unknown activation 'relux'; did you mean 'relu'",
    ),
    "no hidden layer": (
        lambda: TFPPOAgent.for_env(Spaces(DISCRETE), hidden=()),
        "hidden must be a sequence of at least one width",
    ),
    "a window of one step": (
        lambda: linear_agent().learn(play(linear_agent(), steps=1)),
        "num_minibatches=4 must leave 2 samples to each, got a window of 2",
    ),
    "a dict at act": (
        lambda: linear_agent().act_batch({"a": np.zeros((2, 4))}),
        "observations must be arrays .* of numbers, got a dict",
    ),
    "observations of another shape": (
        lambda: linear_agent().act(np.zeros(5)),
        r"observations must be \[B, 4\], got the shape \[1, 5\]",
    ),
    "a critic of two values": (
        lambda: TFPPOAgent(linear(4, 3), linear(4, 2)).learn(play(linear_agent())),
        "critic must give one value of each observation",
    ),
    "an actor of one number": (
        lambda: sac(actor=(4, 3)).act(np.zeros(4), explore=False),
        r"actor must give a mean and a log scale of 2 actions, \[N, 4\]",
    ),
    "a Gaussian actor of the wrong size": (
        lambda: TFGaussianPPOAgent(linear(4, 6), linear(4, 1), None, 2).act(
            np.zeros(4)
        ),
        "actor must give a mean and a log scale of 2 actions",
    ),
    "a critic of other observations": (
        lambda: TFPPOAgent(linear(4, 3), linear(5, 1)),
        r"critic must take what it will be given, \[N, 4\], got a model of inputs "
        r"\[N, 5\]",
    ),
    "a critic without the action": (
        lambda: sac(critics=((6, 1), (4, 1))),
        r"critic2 must take what it will be given, \[N, 6\]",
    ),
    "values of other actions": (
        lambda: TFDQNAgent(linear(4, 2), 3).act(np.zeros(4), explore=False),
        "q_network must give values of n_actions=3",
    ),
}


class Closed(Own):
    """A model that can not be made again: a function went into it."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function


@pytest.mark.parametrize(("call", "match"), WRONG.values(), ids=WRONG)
def test_a_wrong_call_is_told_by_one_clear_error(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_another_backend_of_keras_is_refused():
    script = (
        "import os; os.environ['KERAS_BACKEND'] = 'jax'; import optix_tensorflow.ppo"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "Keras must run on TensorFlow for these agents, got the backend 'jax'" in (
        done.stderr
    )


def test_the_package_offers_what_it_says():
    for name in optix_tensorflow.__all__:
        assert getattr(optix_tensorflow, name).__module__.startswith(
            "optix_tensorflow."
        )
    assert TFTD3Agent is TFTDDAgent
