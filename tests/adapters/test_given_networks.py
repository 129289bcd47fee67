"""Networks that people hand over and that do not fit: one error, at the first act."""

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from optix.host import BatchPipeline, VectorBatchPipeline  # noqa: E402
from optix_torch import (  # noqa: E402
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
from tests.numpy_agent import StillAgent  # noqa: E402

Linear, GRU = torch.nn.Linear, torch.nn.GRU


def squeezed(*sizes):
    return torch.nn.Sequential(Linear(*sizes), torch.nn.Flatten(0))


def ppo(actor=(4, 2), critic=(4, 1), make=Linear):
    return TorchPPOAgent(make(*actor), Linear(*critic))


def gaussian(actor=(4, 4), critic=(4, 1)):
    return TorchGaussianPPOAgent(Linear(*actor), Linear(*critic), None, 2)


def recurrent(rnn=(4, 8), actor=(8, 2), critic=(8, 1), torso=None):
    torso = torso and Linear(*torso)
    heads = Linear(*actor), Linear(*critic)
    return TorchRecurrentPPOAgent(GRU(*rnn), *heads, 2, torso=torso)


def twin(kind, actor, one=(6, 1), two=(6, 1)):
    return kind(Linear(*actor), Linear(*one), Linear(*two), 2)


def loss(module, window, hyperparams):
    return module(window.obs).mean()


WRONG = {
    "actor of 3 numbers": (
        lambda: ppo(actor=(3, 2)),
        r"actor must take observations \[N, 4\] .* got Linear\(in_features=3",
    ),
    "critic of 3 numbers": (
        lambda: ppo(critic=(3, 1)),
        r"critic must take observations \[N, 4\]",
    ),
    "actor of doubles": (
        lambda: ppo(make=lambda *sizes: Linear(*sizes).double()),
        "actor must take observations .* of float32, .* same dtype",
    ),
    "actor without rows": (
        lambda: ppo(make=squeezed),
        "actor must give a tensor with a row for each",
    ),
    "actor that gives two things": (lambda: ppo(make=GRU), "actor must .* got tuple"),
    "critic of two values": (lambda: ppo(critic=(4, 2)), "critic must give one value"),
    "Gaussian of no scale": (lambda: gaussian(actor=(4, 2)), "actor must give a mean"),
    "Gaussian of 3 numbers": (lambda: gaussian((3, 4)), "actor must take observ"),
    "odd Gaussian": (lambda: gaussian(actor=(4, 5)), "actor must give a mean"),
    "Gaussian's critic": (lambda: gaussian(critic=(5, 1)), "critic must take observ"),
    "rnn": (lambda: recurrent(rnn=(3, 8)), "rnn must take observations .*, got .*=3"),
    "torso": (lambda: recurrent((5, 8), torso=(3, 5)), "torso must take observations"),
    "after the torso": (
        lambda: recurrent((6, 8), torso=(4, 5)),
        r"rnn must take what torso gives \[N, 5\], got input_size=6",
    ),
    "actor's head": (
        lambda: recurrent(actor=(7, 2)),
        r"actor_head must take features of the rnn \[N, 8\]",
    ),
    "actor's head of 3": (
        lambda: recurrent(actor=(8, 3)),
        r"actor_head must give logits of n_actions=2 actions, \[N, 2\]",
    ),
    "critic's head": (lambda: recurrent(critic=(7, 1)), "critic_head must take feat"),
    "critic's head of 2": (lambda: recurrent(critic=(8, 2)), "critic_head must give"),
    "values of 3 numbers": (
        lambda: TorchDQNAgent(Linear(3, 2), 2),
        r"q_network must take observations \[N, 4\]",
    ),
    "Rainbow of 3 numbers": (
        lambda: TorchRainbowDQNAgent(RainbowQNetwork.build(3, 2, hidden_size=4), 2),
        r"q_network must take observations \[N, 4\] .* got RainbowQNetwork",
    ),
    "SAC's actor": (
        lambda: twin(TorchSACAgent, (3, 4)),
        r"actor must take observations \[N, 4\]",
    ),
    "SAC's critic": (
        lambda: twin(TorchSACAgent, (4, 4), two=(4, 1)),
        r"critic2 must take rows of observation and action \[N, 6\]",
    ),
    "SAC's critic of 2": (
        lambda: twin(TorchSACAgent, (4, 4), one=(6, 2)),
        "critic1 must give one value",
    ),
    "TD3's actor": (lambda: twin(TorchTD3Agent, (4, 3)), "actor must give an action"),
    "TD3's critic": (
        lambda: twin(TorchTD3Agent, (4, 2), one=(2, 1)),
        "critic1 must take rows of observation and action",
    ),
    "a module of one's own": (
        lambda: TorchAgent(Linear(3, 2), loss),
        r"module must take observations \[N, 4\]",
    ),
    "one of one's own act": (
        lambda: TorchAgent(Linear(3, 2), loss, act=lambda out, *_: out),
        r"module must take observations \[N, 4\]",
    ),
}


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize(("make", "match"), WRONG.values(), ids=WRONG)
def test_a_network_that_does_not_fit_is_named_at_the_first_act(make, match, explore):
    agent = make()
    for _ in range(2):  # it is as wrong the second time
        with pytest.raises(ValueError, match=match):
            agent.act_batch(np.zeros((1, 4), np.float32), explore)


def test_what_fits_is_tried_once_and_draws_nothing():
    calls = []

    class Counts(Linear):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    agent = TorchPPOAgent(Counts(4, 2), Linear(4, 1))
    before = agent.generator.get_state()
    for _ in range(3):
        agent.act(np.zeros(4), explore=False)
    assert calls == [2, 1, 1, 1]
    assert torch.equal(before, agent.generator.get_state())
    assert agent.number_of_actions == 2


class Gives(StillAgent):
    def __init__(self, action):
        self.action = action

    def act(self, observation):
        return self.action


class Takes(gymnasium.Env):
    """Takes what it is given."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 0.0, False, False, {}


class Asserts(Takes):
    def step(self, action):
        assert action in (0, 1)
        return super().step(action)


class Several(Takes):
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


def pipelines(kind):
    return BatchPipeline(kind, window_size=4), VectorBatchPipeline([kind] * 2)


def test_functions_that_give_one_environment_twice_are_refused():
    one = Takes()
    with pytest.raises(
        ValueError, match="a new environment at each call, got the same"
    ):
        VectorBatchPipeline([lambda: one] * 2)


def test_a_replay_that_can_never_be_warm_is_refused():
    options = {"capacity": 4, "learning_starts": 8}
    agent = TorchDQNAgent(Linear(4, 2), 2, hyperparams=options)
    with pytest.raises(ValueError, match="learning_starts must be at most capacity=4"):
        agent.make_memory()


@pytest.mark.parametrize(
    ("kind", "agent", "match"),
    [
        (Takes, ppo(actor=(4, 3)), r"TorchPPOAgent must .* Discrete\(2\), .* among 3"),
        (
            Asserts,
            ppo(actor=(4, 3)),
            r"TorchPPOAgent must .* Discrete\(2\), .* among 3",
        ),
        (Takes, ppo(actor=(4, 1)), r"TorchPPOAgent must .* Discrete\(2\), .* among 1"),
        (Takes, TorchDQNAgent(Linear(4, 3), 3), "TorchDQNAgent must .* among 3"),
        (
            Takes,
            Gives(2),
            r"an action of Gives in .* of Discrete\(2\), got 2; mend act",
        ),
        (Takes, Gives(-1), r"an action of Gives in .* of Discrete\(2\), got -1"),
        (Asserts, Gives(2), r"an action of Gives in .* of Discrete\(2\), got 2"),
        (
            Several,
            Gives(np.array([1, 3])),
            r"of MultiDiscrete\(\[2 3\]\), got \[1, 3\]",
        ),
    ],
)
def test_actions_that_the_environment_does_not_have_are_told(kind, agent, match):
    for pipeline in pipelines(kind):
        with pytest.raises(ValueError, match=match):
            pipeline.collect(agent, pipeline.open(), 0)
        pipeline.close()
