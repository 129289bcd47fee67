"""Acting, exploring and the replay of DQN, Rainbow, SAC and TD3 in Torch."""

import numpy as np
import pytest
import torch
from torch import nn

from optix.host.agent import HyperparamSet
from optix.host.replay import Replay
from optix_torch import NoisyLinear, TorchDQNAgent, TorchRainbowDQNAgent
from tests.adapters.acting import play
from tests.adapters.windows import make


def test_rainbow_draws_afresh_at_every_step_and_rests_when_evaluated():
    agent = make("rainbow")
    agent.learn(play(agent))
    assert agent.warm
    obs = np.ones((400, 4), np.float32)
    explored = [agent.act_batch(obs)[0] for _ in range(2)]
    assert len(set(explored[0])) > 1 and (explored[0] != explored[1]).any()
    played = [agent.act_batch(obs, explore=False)[0] for _ in range(2)]
    assert len(set(played[0])) == 1 and (played[0] == played[1]).all()


def test_td3_explores_with_noise_within_the_bounds():
    agent = make("td3", exploration_noise=0.3)
    agent.learn(play(agent))
    obs = np.ones((2000, 4), np.float32)
    played, _ = agent.act_batch(obs, explore=False)
    explored, _ = agent.act_batch(obs)
    beside = agent.bounds.encode(explored) - agent.bounds.encode(played)
    inside = np.abs(agent.bounds.encode(explored)) < 1
    assert inside.mean() > 0.3
    assert 0.1 < beside[inside].std() < 0.35
    low, high = [-2, -1], [2, 3]
    assert (explored >= low).all() and (explored <= high).all()


@pytest.mark.parametrize("name", ["dqn", "rainbow", "sac", "td3"])
def test_actions_are_random_until_there_is_enough_to_learn_from(name):
    agent = make(name, learning_starts=20)
    first = agent.state()
    assert agent.learn(play(agent)) == {}
    obs = np.ones((3000, 4), np.float32)
    actions, _ = agent.act_batch(obs)
    if name in ("dqn", "rainbow"):
        np.testing.assert_allclose(np.bincount(actions) / 3000, 1 / 3, atol=0.04)
    else:
        np.testing.assert_allclose(actions.mean(0), [0, 1], atol=0.15)
        assert actions.min() < -1.9 and actions.max() > 2.9
    after = agent.state()
    assert all(np.array_equal(after[k], first[k]) for k in first if "weight" in k)
    assert agent.learn(play(agent, fresh=False))
    assert len(agent.memory) == 32


def test_epsilon_falls_with_the_steps_of_the_window_under_way():
    agent = make("dqn", epsilon_steps=100, epsilon_end=0.2, learning_starts=1)
    agent.learn(play(agent))  # 16 steps
    assert agent.epsilon == pytest.approx(1 - 0.16 * 0.8)
    agent.act_batch(np.ones((10, 4), np.float32))
    assert agent.epsilon == pytest.approx(1 - 0.26 * 0.8)
    agent.act_batch(np.ones((10, 4), np.float32), explore=False)
    assert agent.epsilon == pytest.approx(1 - 0.26 * 0.8)
    agent.seed(0)  # another window begins
    assert agent.epsilon == pytest.approx(1 - 0.16 * 0.8)
    agent.learn(play(agent, steps=60))
    assert agent.epsilon == pytest.approx(0.2)
    obs = np.random.default_rng(0).normal(size=(4000, 4))
    explored, _ = agent.act_batch(obs)
    greedy, _ = agent.act_batch(obs, explore=False)
    assert (explored != greedy).mean() == pytest.approx(0.2 * 2 / 3, abs=0.02)


@pytest.mark.parametrize(("ratio", "wanted"), [(1.0, 16), (0.25, 4), (0.1, 1)])
def test_updates_are_made_as_steps_ask_for(ratio, wanted):
    agent = make("sac", updates_per_step=ratio, learning_starts=1)
    for seed in range(5):
        agent.learn(play(agent, seed=seed, fresh=seed == 0))
        total = int(agent.numbers["updates"])
        assert total == int(16 * (seed + 1) * ratio + 1e-9)
    assert total >= wanted * 5


def test_what_is_stored_is_in_the_agents_own_units_and_next_observations_are_true():
    agent = make("td3")
    window = play(agent, ends=0.9)
    agent.learn(window)
    saved = agent.memory.state()
    np.testing.assert_allclose(
        agent.bounds.decode(saved["action"]), window.actions.reshape(-1, 2), atol=1e-6
    )
    assert np.abs(saved["action"]).max() <= 1 + 1e-6
    np.testing.assert_array_equal(
        saved["next_obs"], window.next_observations.reshape(-1, 4)
    )


def test_rewards_are_scaled_when_they_are_learned_from():
    agent = make("dqn", normalize_rewards=True, n_step=1)
    seen = []
    agent._update = lambda batch: (
        seen.append(batch) or [torch.zeros(())] * 3,
        torch.zeros(len(batch.obs)),
    )
    window = play(agent)
    agent.learn(window)
    scale = agent.records["returns"].inverse()
    raw = set(np.round(window.rewards.ravel() * scale, 4))
    assert set(np.round(seen[0].reward.numpy(), 4)) <= raw and scale != 1


def test_priorities_are_the_errors():
    agent = make("rainbow", priority_exponent=1.0)
    agent.learn(play(agent))
    priority = agent.memory.state()["priority"]
    assert len(set(priority)) > 5
    errors = torch.arange(1.0, 9.0)
    agent._update = lambda batch: ([torch.zeros(())] * 3, errors)
    drawn = {}
    sample_rows = Replay.sample

    def watched(self, *args, **kwargs):
        rows = sample_rows(self, *args, **kwargs)
        drawn["index"], drawn["exponent"] = rows.index, kwargs["importance_exponent"]
        return rows

    agent.memory.sample = watched.__get__(agent.memory)
    agent._learn_once()
    after = agent.memory.state()["priority"]
    for row in set(drawn["index"]):
        assert after[row] == errors.numpy()[drawn["index"] == row].max()
    assert drawn["exponent"] == pytest.approx(0.4 + 0.6 * 16 / 100_000)


def test_each_run_has_a_replay_of_its_own():
    agent = make("sac")
    one, other = agent.make_memory(), agent.make_memory()
    agent.memory = one
    agent.learn(play(agent))
    agent.memory = other
    assert len(one) == 16 and len(other) == 0
    assert agent.make_memory() is not one and not agent.warm


def test_networks_of_other_outputs_are_refused():
    for agent, match in (
        (
            TorchDQNAgent(nn.Linear(4, 2), 3),
            "q_network must give values of n_actions=3",
        ),
        (
            TorchRainbowDQNAgent(NoisyLinear(4, 6), 3),
            r"q_network must give logits \[N, 3, atoms\]",
        ),
    ):
        with pytest.raises(ValueError, match=match):
            agent.act(np.zeros(4), explore=False)
    with pytest.raises(ValueError, match="q_network must hold NoisyLinear layers"):
        TorchRainbowDQNAgent(nn.Linear(4, 6), 3)


def test_a_support_whose_ends_are_reversed():
    agent = make("rainbow")
    with pytest.raises(ValueError, match="value_min must be below value_max=10"):
        agent.set_hyperparams(HyperparamSet({"value_min": 11.0}))
    assert agent.hyperparams["value_min"] == -10
    with pytest.raises(ValueError, match="value_min must be below"):
        make("rainbow", value_max=-20.0)
