"""A memory in Torch: learned over stretches as it acted, step by step."""

import numpy as np
import pytest
import torch
from torch import nn

from optix.host.agent import HyperparamSet
from optix.host.window import EpisodeData
from optix_torch import TorchRecurrentPPOAgent
from optix_torch.memory_cell import Cell
from optix_torch.segments import segments
from tests.adapters.acting import play
from tests.adapters.windows import make


@pytest.mark.parametrize("length", [1, 3, 4, 50])
def test_stretches_cover_a_window_once_and_stop_at_ends(length):
    ended = np.random.default_rng(length).random((11, 3)) < 0.25
    cut = segments(ended, length)
    seen = set()
    for k in range(len(cut.env)):
        steps = cut.step[k][cut.there[k]]
        assert 1 <= len(steps) <= length
        np.testing.assert_array_equal(steps, steps[0] + np.arange(len(steps)))
        assert not ended[steps[:-1], cut.env[k]].any()
        for place, t in enumerate(steps):
            seen.add((t, cut.env[k]))
            np.testing.assert_array_equal(cut.row[t, cut.env[k]], (k, place))
    assert len(seen) == ended.size == cut.there.sum()
    # no shorter than they must be
    for k in range(1, len(cut.env)):
        if cut.env[k] == cut.env[k - 1]:
            full = cut.there[k - 1].sum() == length
            assert full or ended[cut.step[k, 0] - 1, cut.env[k]]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_sequence_is_its_steps(kind, batch_first):
    torch.manual_seed(0)
    cell = Cell(kind(4, 3, num_layers=2, batch_first=batch_first))
    inputs, start = torch.randn(5, 6, 4), torch.randn(5, cell.size)
    carry, rows = start, []
    for t in range(6):
        carry, features = cell.step(carry, inputs[:, t])
        rows.append(features)
    whole = cell.sequence(start, inputs)
    np.testing.assert_allclose(
        whole.detach(), torch.stack(rows, 1).detach(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_is_learned_first_is_what_acted_across_ends_and_windows(cell):
    """At the first minibatch the ratio is one: stretches see what acting saw."""
    agent = make("recurrent", cell=cell, num_epochs=1, num_minibatches=1)
    for seed in range(3):
        window = play(agent, steps=11, seed=seed, fresh=seed == 0, ends=0.4)
        assert window.dones.any()
        info = agent.learn(window)
        assert info["kl"] == pytest.approx(0, abs=1e-6)
        assert info["clip_fraction"] == 0


def test_the_carry_is_fresh_after_an_end_and_goes_on_otherwise():
    agent = make("recurrent")
    window = play(agent, steps=12, ends=0.5)
    memory, ended = window.extras["memory"], window.dones
    assert (memory[0] == 0).all()
    for t in range(1, 12):
        for b in range(2):
            assert (memory[t, b] == 0).all() == ended[t - 1, b]
    second = play(agent, seed=1, fresh=False)
    for b in range(2):
        assert (second.extras["memory"][0, b] == 0).all() == ended[-1, b]


def test_what_another_window_left_does_not_matter():
    """The loop hands the carry back; evaluations of other sizes act in between."""
    one, other = make("recurrent"), make("recurrent")
    play(one, seed=1)
    play(other, seed=1)
    carry = other.carry
    other.begin_episode(np.ones(5, bool))
    for _ in range(3):
        other.act_batch(np.ones((5, 4), np.float32), explore=False)
    other.carry = carry
    left, right = (play(agent, seed=2, fresh=False) for agent in (one, other))
    np.testing.assert_array_equal(left.extras["memory"], right.extras["memory"])
    np.testing.assert_array_equal(left.actions, right.actions)


def test_the_value_after_a_cut_is_found_with_the_memory_of_the_steps_before():
    agent = make("recurrent", num_epochs=1, normalize_rewards=False)
    window = play(agent, steps=6, envs=1, ends=0.0)
    truncated = np.zeros((6, 1), bool)
    truncated[2] = True
    window = EpisodeData(**{**vars(window), "truncated": truncated})
    found = {}

    def advantages(window, reward, values, value_after):
        steps, envs = np.array([2, 5]), np.array([0, 0])
        found["after"] = value_after(steps, envs)
        return np.zeros_like(values)

    agent.advantages = advantages
    agent._prepare(window, window.rewards)
    for place, t in enumerate((2, 5)):
        carry = torch.tensor(window.extras["memory"][t])
        with torch.no_grad():
            for obs in (window.observations[t], window.next_observations[t]):
                inputs = agent.modules["torso"](agent.view(obs))
                carry, features = agent.cell.step(carry, inputs)
            value = agent.modules["critic_head"](features)[0, 0]
        np.testing.assert_allclose(found["after"][place], value, rtol=1e-5)


def test_gradients_flow_back_through_a_stretch():
    """A memory of the first step is learned where stretches reach it, and only there."""
    moved = {}
    for length in (1, 4):
        torch.manual_seed(0)
        rnn = nn.GRU(4, 3, batch_first=True)
        heads = nn.Linear(3, 2), nn.Linear(3, 1)
        agent = TorchRecurrentPPOAgent(
            rnn, *heads, 2, hyperparams={"sequence_length": length}, device="cpu"
        )
        window = play(agent, steps=4, ends=0.0)
        samples, units = agent._prepare(window, window.rewards)
        log_prob, _, _, batch = agent._evaluate(samples, torch.arange(units))
        last = log_prob[batch.obs[:, 0] == samples.samples.obs[6, 0]].sum()
        (slope,) = torch.autograd.grad(last, rnn.weight_hh_l0)
        moved[length] = float(slope.abs().sum())
        assert units == 8 // length
    assert moved[1] != pytest.approx(moved[4], rel=1e-3)


def test_the_probabilities_of_actions_have_the_memory_of_the_episode():
    agent = make("recurrent")
    agent.begin_episode(np.ones(1, bool))
    obs = np.random.default_rng(0).normal(size=(3, 4))
    for row in obs:
        wanted = agent.action_probs(row)
        assert agent.act(row, explore=False) == wanted.argmax()
    again = make("recurrent").action_probs(obs[2])
    assert not np.allclose(again, wanted)


def test_a_window_without_its_carries_is_refused():
    agent = make("recurrent")
    window = EpisodeData(**{**vars(play(agent)), "extras": {}})
    with pytest.raises(ValueError, match="extras of the window must hold 'memory'"):
        agent.learn(window)


@pytest.mark.parametrize(
    "rnn",
    [
        nn.GRU(4, 3, bidirectional=True),
        nn.LSTM(4, 3, proj_size=2),
        nn.GRU(4, 3, 2, dropout=0.1),
        nn.GRUCell(4, 3),
    ],
)
def test_an_rnn_that_can_not_act(rnn):
    with pytest.raises(ValueError, match="rnn must"):
        TorchRecurrentPPOAgent(rnn, nn.Linear(3, 2), nn.Linear(3, 1), 2)


def test_sequence_length_may_change_between_windows():
    agent = make("recurrent")
    for seed, length in enumerate((2, 5)):
        agent.set_hyperparams(HyperparamSet({"sequence_length": length}))
        assert np.isfinite(list(agent.learn(play(agent, seed=seed)).values())).all()
