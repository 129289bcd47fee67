"""What an agent is as arrays and as a file: all that learning goes on from."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from optix_torch import TorchPPOAgent, TorchSACAgent
from tests.adapters.acting import play, same
from tests.adapters.windows import AGENTS, make


def learned(agent, windows=2):
    for seed in range(windows):
        agent.learn(play(agent, seed=seed, fresh=seed == 0))
    return agent


def go_on(agent):
    window = play(agent, seed=7)
    told = agent.learn(window)
    return told, agent.state(), window.actions


@pytest.mark.parametrize("name", AGENTS)
def test_a_restored_agent_goes_on_bit_for_bit(name, tmp_path):
    agent = learned(make(name))
    state, replay = agent.state(), agent.memory and agent.memory.state()
    agent.save_weights(str(tmp_path / "weights"))
    copies = {key: x.copy() for key, x in state.items()}
    told, after, actions = go_on(agent)
    assert not same(state, after)
    assert same(state, copies), "a state is a copy"

    others = [make(name, seed=1) for _ in range(2)]
    others[0].restore(state)
    others[1].load_weights(str(tmp_path / "weights"))
    for other in others:
        if replay:
            other.memory = other.make_memory()
            other.memory.restore(replay)
        assert same(other.state(), state)
        other_told, other_after, other_actions = go_on(other)
        np.testing.assert_array_equal(other_actions, actions)
        assert other_told == told and same(other_after, after)
    assert same(state, copies), "restoring does not write into what it is given"


@pytest.mark.parametrize("name", AGENTS)
def test_the_state_has_one_form_from_the_start(name):
    agent = make(name)
    before = {key: x.shape for key, x in agent.state().items() if "running" not in key}
    learned(agent)
    assert before == {
        key: x.shape for key, x in agent.state().items() if "running" not in key
    }
    assert any(key.endswith("exp_avg_sq") for key in before)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, 1e-3),
        lambda p: torch.optim.Adagrad(p, 1e-2),
        lambda p: torch.optim.AdamW(p, 1e-3, amsgrad=True),
    ],
)
def test_of_any_optimizer_the_state_of_before_its_first_step_comes_back(optimizer):
    actor, critic = nn.Linear(4, 3), nn.Linear(4, 1)
    parameters = [*actor.parameters(), *critic.parameters()]
    agent = TorchPPOAgent(actor, critic, optimizer(parameters), device="cpu")
    window = play(agent)
    first = agent.state()
    agent.seed(1)
    agent.learn(window)
    after = agent.state()
    agent.restore(first)
    assert same(agent.state(), first)
    agent.seed(1)
    agent.learn(window)
    assert same(agent.state(), after)
    agent.restore(first)
    agent.restore(after)
    assert same(agent.state(), after)


def test_the_state_of_another_optimizer_is_refused():
    agents = []
    for kind in (torch.optim.Adam, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)):
        actor, critic = nn.Linear(4, 3), nn.Linear(4, 1)
        optimizer = kind([*actor.parameters(), *critic.parameters()])
        agents.append(learned(TorchPPOAgent(actor, critic, optimizer, device="cpu")))
    for agent, other in (agents, reversed(agents)):
        before = agent.state()
        with pytest.raises(ValueError, match=r"^optimizer.* of the state must"):
            agent.restore(other.state())
        assert same(agent.state(), before)


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_a_hostile_file_is_refused(tmp_path):
    agent = make("ppo")
    before = agent.state()
    for number, write in enumerate(
        (
            lambda path: path.write_bytes(pickle.dumps(Hostile())),
            lambda path: torch.save({"actor": Hostile()}, path),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(b"\xff" * 64),
        )
    ):
        path = tmp_path / f"{number}.safetensors"
        write(path)
        with pytest.raises(
            ValueError, match="must be a safetensors file that save_weig"
        ):
            agent.load_weights(str(path))
    with pytest.raises(FileNotFoundError, match="no weights at .*nothing.safetensors"):
        agent.load_weights(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="there is no folder .*none; make it"):
        agent.save_weights(str(tmp_path / "none" / "policy"))
    assert same(agent.state(), before)


def test_weights_of_another_network_are_refused(tmp_path):
    agent = make("ppo")
    for number, other in enumerate(
        (make("ppo", hidden=(5,)), make("dqn"), make("gaussian"), make("recurrent"))
    ):
        path = str(tmp_path / str(number))
        other.save_weights(path)
        before = agent.state()
        with pytest.raises(ValueError, match=r"of the state must .* it is of another"):
            agent.load_weights(path)
        assert same(agent.state(), before)


def test_the_mean_of_weights(tmp_path):
    agents = [learned(make("sac", seed=seed)) for seed in (0, 1)]
    paths = [str(tmp_path / str(seed)) for seed in (0, 1)]
    states = [agent.state() for agent in agents]
    for agent, path in zip(agents, paths, strict=True):
        agent.save_weights(path)
    agents[0].average_weights(paths)
    for name, value in agents[0].state().items():
        if "optimizer" in name or value.dtype.kind != "f":
            np.testing.assert_array_equal(value, states[0][name])
        else:
            mean = (states[0][name].astype(float) + states[1][name]) / 2
            np.testing.assert_allclose(value, mean, rtol=1e-6)
    with pytest.raises(ValueError, match="paths must name at least one file"):
        agents[0].average_weights([])


def test_perturbed_weights_are_multiplied():
    agent = make("ppo")
    before = agent.state()
    agent.seed(3)
    agent.perturb_weights(0.1)
    after = agent.state()
    shares = []
    for name, value in before.items():
        if name.startswith(("actor.", "critic.")) and name.endswith("weight"):
            shares += list((after[name] / value - 1).ravel())
    assert 0.05 < np.std(shares) < 0.2 and abs(np.mean(shares)) < 0.05
    for wrong in (-1, float("nan"), "x", None):
        with pytest.raises(ValueError, match="noise must be in"):
            agent.perturb_weights(wrong)


@pytest.mark.parametrize("name", AGENTS)
def test_seeds_begin_with_weights_of_their_own(name):
    agent = make(name)
    first = agent.state()
    states = []
    for seed in (1, 2, 1):
        agent.restore(first)
        agent.reset(seed)
        states.append(agent.state())
        learned(agent)
    assert same(states[0], states[2])
    assert not same(states[0], states[1]) and not same(states[0], first)
    for name, value in states[0].items():
        if name.startswith("target"):
            source = name.removeprefix("target_").replace("target.", "q_network.", 1)
            np.testing.assert_array_equal(value, states[0][source])


def test_weights_of_ones_own_are_not_taken_away(tmp_path):
    own = TorchPPOAgent(nn.Linear(4, 3), nn.Linear(4, 1))
    loaded = make("ppo")
    loaded.save_weights(str(tmp_path / "weights"))
    loaded.load_weights(str(tmp_path / "weights"))
    perturbed = make("ppo")
    perturbed.perturb_weights(0.1)
    for agent in (own, loaded, perturbed, learned(make("ppo"))):
        before = agent.state()
        agent.reset(5)
        assert same(agent.state(), before)


def test_resetting_leaves_the_global_generator_alone():
    agent = make("ppo")
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    agent.reset(9)
    agent.seed(4)
    agent.learn(play(agent))
    assert torch.equal(torch.rand(2), wanted)


def test_a_shared_torso_and_a_bfloat16_one():
    torso = nn.Linear(4, 4)
    actor = nn.Sequential(torso, nn.Tanh(), nn.Linear(4, 3))
    critic = nn.Sequential(torso, nn.Tanh(), nn.Linear(4, 1))
    agent = TorchPPOAgent(actor, critic, device="cpu")
    assert len(agent.learned()) == 6
    learned(agent)
    state = agent.state()
    agent.restore(state)
    assert same(agent.state(), state)

    class Half(nn.Linear):
        def forward(self, x):
            return super().forward(x.bfloat16()).float()

    half = TorchPPOAgent(Half(4, 3).bfloat16(), Half(4, 1).bfloat16(), device="cpu")
    learned(half)
    state = half.state()
    other = TorchPPOAgent(Half(4, 3).bfloat16(), Half(4, 1).bfloat16(), device="cpu")
    other.restore(state)
    assert same(other.state(), state)


def test_frozen_parameters_stay():
    actor = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    actor[0].requires_grad_(False)
    before = actor[0].weight.clone()
    agent = learned(TorchPPOAgent(actor, nn.Linear(4, 1), device="cpu"))
    assert torch.equal(actor[0].weight, before) and len(agent.learned()) == 4


def test_rates_keep_their_ratio():
    networks = nn.Linear(4, 4), nn.Linear(6, 1), nn.Linear(6, 1)
    agent = TorchSACAgent(
        *networks,
        2,
        torch.optim.Adam(networks[0].parameters(), 1e-3),
        torch.optim.Adam([p for n in networks[1:] for p in n.parameters()], 3e-3),
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], 5e-4),
        {"learning_starts": 8, "batch_size": 4},
        "cpu",
    )
    assert agent.hyperparams["learning_rate"] == 1e-3
    agent.set_hyperparams(type(agent.get_hyperparams())({"learning_rate": 1e-2}))
    agent.learn(play(agent))
    rates = [o.param_groups[0]["lr"] for o in agent.optimizers.values()]
    np.testing.assert_allclose(rates, [1e-2, 3e-2, 5e-3])
    assert isinstance(agent.optimizers["alpha_optimizer"], torch.optim.SGD)
