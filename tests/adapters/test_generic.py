"""A module and a loss of one's own."""

import numpy as np
import pytest
import torch
from torch import nn

from optix.host.agent import HyperparamSet
from optix_torch import TorchAgent
from tests.adapters.acting import play, same


def reinforce(module, window, hyperparams):
    log_probs = module(window.obs).log_softmax(-1)
    chosen = log_probs.gather(-1, window.action[..., None])[..., 0]
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    loss = -(chosen * window.reward).mean() - hyperparams["bonus"] * entropy
    return loss, {"entropy": entropy, "steps": window.reward.numel()}


def make(**options):
    torch.manual_seed(0)
    hyperparams = {"bonus": 0.1, "kind": "x", **options.pop("hyperparams", {})}
    return TorchAgent(
        nn.Linear(4, 3), reinforce, hyperparams=hyperparams, device="cpu", **options
    )


def test_it_goes_down_its_loss():
    agent = make(hyperparams={"num_epochs": 2, "learning_rate": 0.1})
    weight = agent.modules["module"].weight.detach().clone().requires_grad_()
    bias = agent.modules["module"].bias.detach().clone().requires_grad_()
    window = play(agent)
    told = agent.learn(window)
    assert told["steps"] == 16 and set(told) == {
        "loss",
        "grad_norm",
        "entropy",
        "steps",
    }
    adam = torch.optim.Adam([weight, bias], 0.1)
    for _ in range(2):
        adam.zero_grad()
        logits = torch.tensor(window.observations) @ weight.T + bias
        log_probs = logits.log_softmax(-1)
        action = torch.tensor(window.actions)
        chosen = log_probs.gather(-1, action[..., None])[..., 0]
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
        (-(chosen * torch.tensor(window.rewards)).mean() - 0.1 * entropy).backward()
        adam.step()
    got = agent.modules["module"].weight.detach()
    np.testing.assert_allclose(got, weight.detach(), rtol=1e-4, atol=1e-6)


def test_hyperparameters_of_its_own_are_handed_to_the_loss():
    agent = make()
    assert agent.get_hyperparams().params["bonus"] == 0.1
    agent.set_hyperparams(HyperparamSet({"bonus": 5.0}))
    assert agent.learn(play(agent))["loss"] < -4
    for wrong, match in (
        ({"bonu": 1.0}, "unknown hyperparameter of TorchAgent 'bonu'"),
        ({"learning_rate": -1.0}, "learning_rate must be in"),
    ):
        with pytest.raises(ValueError, match=match):
            agent.set_hyperparams(HyperparamSet(wrong))


def test_it_acts_as_it_is_told():
    def act(outputs, explore, generator):
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return (outputs + noise if explore else outputs), {"noise": noise}

    agent = make(act=act)
    window = play(agent)
    assert window.actions.shape == window.extras["noise"].shape == (8, 2, 3)
    obs = window.observations[0]
    played, _ = agent.act_batch(obs, explore=False)
    with torch.no_grad():
        wanted = agent.modules["module"](torch.tensor(obs))
    np.testing.assert_array_equal(played, wanted)
    with pytest.raises(NotImplementedError, match="does not offer action_probs"):
        agent.action_probs(obs[0])
    assert make().action_probs(obs[0]).sum() == pytest.approx(1)


def test_its_state_comes_back():
    agent = make()
    before = agent.state()
    agent.learn(play(agent))
    agent.restore(before)
    assert same(agent.state(), before)


@pytest.mark.parametrize(
    "loss", [lambda *_: 1.0, lambda *_: torch.ones(2), lambda *_: torch.ones(())]
)
def test_a_loss_that_is_no_number_of_the_parameters(loss):
    agent = TorchAgent(nn.Linear(4, 3), loss, device="cpu")
    with pytest.raises(ValueError, match="loss must give one number"):
        agent.learn(play(agent))
