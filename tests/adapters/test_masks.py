"""Torch agents under action masks: what they do, and what they learn, by definition."""

import functools

import jax
import numpy as np
import pytest
import torch
from torch import nn

import optix_torch
from optix.host.ensemble import EnsembleAgent
from optix.types import Masked
from optix_torch.off_policy import Batch
from tests.adapters import masking
from tests.adapters.acting import OBSERVED, REPLAY, Spaces
from tests.adapters.windows import AGENTS as EVERY
from tests.telling import Draws, Method, Silent, Told

SMALL = {
    "ppo": ("TorchPPOAgent", {"num_minibatches": 2}),
    "recurrent": ("TorchRecurrentPPOAgent", {"cell_size": 3, "num_minibatches": 1}),
    "dqn": ("TorchDQNAgent", {"prioritised": True, "n_step": 2, **REPLAY}),
    "rainbow": ("TorchRainbowDQNAgent", {"num_atoms": 5, **REPLAY}),
}


def make(name, observed=OBSERVED, **options):
    """A tiny agent of four actions."""
    torch.manual_seed(0)
    kind, usual = SMALL[name]
    spaces = Spaces(Draws.action_space, observed)
    options = {"hidden": (4,), "device": "cpu", **usual, **options}
    return getattr(optix_torch, kind).for_env(spaces, **options)


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        ("ppo", Draws, "batch"),
        ("ppo", Method, "vector of functions"),
        ("recurrent", Draws, "vector"),
        ("recurrent", Method, "one"),
        ("dqn", Silent, "vector"),
        ("dqn", Told, "batch"),
        ("rainbow", Draws, "vector of functions"),
    ],
)
def test_no_forbidden_action_is_ever_taken(name, kind, how):
    options = {}
    if name in ("dqn", "rainbow"):
        options = {"learning_starts": 16, "updates_per_step": 0.5}
    masking.keeps_to_masks(make(name, kind.observation_space, **options), kind, how)


def test_a_policy_that_is_loaded_acts_under_the_mask(tmp_path):
    agent = functools.partial(make, "recurrent", Draws.observation_space)
    masking.is_loaded(agent, Draws, tmp_path / "run")


@pytest.mark.parametrize("name", ["ppo", "recurrent"])
def test_what_is_learned_first_is_what_acted_under_the_mask(name):
    agent = make(name, normalize_observations=False)
    window = masking.window_of(agent)
    samples, units = agent._prepare(window, window.rewards)
    index = torch.arange(units)
    log_prob, entropy, _, batch = agent._evaluate(samples, index)
    np.testing.assert_allclose(log_prob.detach(), batch.log_prob, atol=1e-5)
    if name == "recurrent":
        assert entropy.min() >= 0 and (entropy < 0.01).any()  # of one that is allowed
        return
    logits = agent.modules["actor"](torch.tensor(window.observations.obs))
    wanted = masking.log_softmax(
        logits.detach().numpy(), window.observations.action_mask
    )
    taken = np.take_along_axis(wanted, window.actions[..., None], -1)[..., 0]
    np.testing.assert_allclose(window.extras["log_prob"], taken, atol=1e-5)
    by_hand = masking.entropies(wanted).reshape(-1)
    np.testing.assert_allclose(entropy.detach(), by_hand, atol=1e-5)
    # of a pipeline that keeps no extras
    plain = masking.optix.EpisodeData(**{**vars(window), "extras": {}})
    found = agent._prepare(plain, window.rewards)[0]
    np.testing.assert_allclose(found.log_prob, taken.reshape(-1), atol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "recurrent"])
def test_the_bias_of_what_is_always_forbidden_is_not_learned(name):
    agent = make(name)
    head = agent.modules.get("actor", agent.modules.get("actor_head"))
    window = masking.window_of(agent)
    never = Masked(window.observations.obs, window.observations.action_mask.copy())
    never.action_mask[..., 3] = False
    never.action_mask[..., 0] |= ~never.action_mask.any(-1)
    taken = never.action_mask.argmax(-1)
    fields = {**vars(window), "observations": never, "actions": taken}
    bias = [m for m in head.modules() if isinstance(m, nn.Linear)][-1].bias
    before = bias.detach().clone()
    agent.learn(masking.optix.EpisodeData(**fields))
    moved = (bias.detach() != before).tolist()
    assert moved == [True, True, True, False]


@pytest.mark.parametrize("double", [True, False])
def test_dqn_bootstraps_after_several_steps_from_what_is_allowed_there(double):
    torch.manual_seed(0)
    agent = optix_torch.TorchDQNAgent(
        nn.Linear(4, 4),
        4,
        hyperparams={**REPLAY, "n_step": 3, "learning_starts": 64},
        device="cpu",
        double=double,
        prioritised=True,
    )
    nn.init.normal_(agent.target.weight)
    window = masking.window_of(agent)
    agent.learn(window)  # stores it: there is too little to learn from

    def network(module):
        weight, bias = (x.detach().numpy() for x in module.parameters())
        return lambda obs: weight @ obs + bias

    wanted = masking.dqn_errors(
        window, network(agent.q_network), network(agent.target), double, 3, 0.99
    )
    rows = agent.memory.sample(np.random.default_rng(0), 200, discount=0.99, n_step=3)
    assert isinstance(rows.next_obs, Masked) and set(rows.index) == set(range(30))
    _, priority = agent._update(tensors(agent, rows))
    np.testing.assert_allclose(priority, np.abs(wanted[rows.index]), rtol=1e-4)


def tensors(agent, rows):
    """Rows as `_learn_once` makes a batch of them."""
    return Batch(
        agent.view(rows.obs),
        agent.to_tensor(rows.action),
        agent.to_tensor(rows.reward),
        agent.to_tensor(rows.discount),
        agent.view(rows.next_obs),
        agent.to_tensor(rows.weight),
    )


def test_rainbow_moves_the_returns_of_what_is_allowed_there():
    agent = make("rainbow", noise_scale=0.0, normalize_rewards=False, n_step=1)
    with torch.no_grad():
        for parameter in agent.q_network.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    agent._after_reset()
    for module in (agent.q_network, agent.target):
        for part in module.modules():
            if hasattr(part, "weight_deviation"):
                nn.init.zeros_(part.weight_deviation)
                nn.init.zeros_(part.bias_deviation)
    window = masking.window_of(agent)
    agent.hyperparams["learning_starts"] = 64
    agent.learn(window)
    rows = agent.memory.sample(np.random.default_rng(0), 60, discount=0.99, n_step=1)
    atoms = np.linspace(
        agent.hyperparams["value_min"], agent.hyperparams["value_max"], 5
    )
    logits = agent.target(torch.tensor(rows.next_obs.obs)).softmax(-1).detach().numpy()
    own = agent.q_network(torch.tensor(rows.obs)).log_softmax(-1).detach().numpy()
    wanted, unmasked = [], 0
    for row in range(60):
        means = logits[row] @ atoms
        action = masking.best(means, rows.next_obs.action_mask[row])
        unmasked += action != means.argmax()
        target = np.zeros(5)
        for atom, mass in zip(atoms, logits[row, action], strict=True):
            at = rows.reward[row] + rows.discount[row] * atom
            place = (np.clip(at, atoms[0], atoms[-1]) - atoms[0]) / (
                atoms[1] - atoms[0]
            )
            low = min(int(place), 3)
            target[low] += mass * (1 - (place - low))
            target[low + 1] += mass * (place - low)
        wanted.append(-(target * own[row, rows.action[row]]).sum())
    assert unmasked > 5
    _, priority = agent._update(tensors(agent, rows))
    np.testing.assert_allclose(priority, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["dqn", "rainbow"])
def test_random_actions_are_of_those_allowed_and_all_alike(name):
    agent = make(name)  # nothing is learned yet, so that all are random
    mask = np.tile(np.array([True, False, True, True]), (6000, 1))
    actions, _ = agent.act_batch(Masked(np.zeros((6000, 4), np.float32), mask))
    share = np.bincount(actions, minlength=4) / 6000
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)


@pytest.mark.parametrize("name", list(SMALL))
def test_acting_alone_takes_a_mask_and_moments_do_not(name):
    agent = make(name, normalize_observations=True)
    for action in range(4):
        mask = np.arange(4) == action
        for explore in (False, True):
            assert agent.act(np.ones(4), explore, action_mask=mask) == action
            assert agent.act(Masked(np.ones(4), mask), explore) == action
        probs = agent.action_probs(Masked(np.ones(4), mask))
        np.testing.assert_allclose(probs, mask, atol=1e-6)
    window = masking.window_of(agent)
    agent.learn(window)
    moments = agent.view.state()
    mean = window.observations.obs.reshape(-1, 4).mean(0)
    np.testing.assert_allclose(moments["mean"], mean, atol=1e-4)
    over = Masked(
        np.ones((1, 4)), np.zeros((1, 4), bool)
    )  # what is over allows nothing
    assert agent.act_batch(over, False)[0] in range(4)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([0, 0, 0, 0], "action_mask must allow one action or more"),
        ([1, 2, 0, 0], "action_mask must be bool of shape"),
        ([True, False], "one for each of its 2|bool of shape"),
    ],
)
def test_masks_that_an_agent_refuses(mask, message):
    with pytest.raises(ValueError, match=message):
        make("ppo").act(np.ones(4), action_mask=mask)


@pytest.mark.parametrize("name", ["gaussian", "sac", "td3"])
def test_agents_of_real_actions_refuse_a_mask(name):
    agent = EVERY[name](device="cpu")
    assert not agent.takes_masks
    with pytest.raises(
        ValueError, match="without an action mask for an agent that does"
    ):
        agent.act(np.ones(4), action_mask=[True, False])


def test_a_replay_with_masks_is_saved_and_goes_on():
    agent = make("dqn")
    window = masking.window_of(agent)
    agent.learn(window)
    other = agent.make_memory()
    other.restore(agent.memory.state())
    draws = [
        m.sample(np.random.default_rng(0), 9, discount=0.9, n_step=3)
        for m in (agent.memory, other)
    ]
    for one, two in zip(*map(jax.tree.leaves, draws), strict=True):
        np.testing.assert_array_equal(one, two)
    plain = {
        **vars(window),
        "observations": window.observations.obs,
        "next_observations": window.next_observations.obs,
    }
    with pytest.raises(ValueError, match="with action masks as in the rows stored"):
        agent.learn(masking.optix.EpisodeData(**plain))


def test_an_ensemble_keeps_to_the_mask_also_with_members_that_do_not():
    module = optix_torch.TorchAgent(nn.Linear(4, 4), lambda *given: None, device="cpu")
    both = EnsembleAgent([make("ppo"), module, make("dqn")])
    obs = masking.masked_rows(np.random.default_rng(0), 50)
    for explore in (False, True):
        actions, _ = both.act_batch(obs, explore)
        assert obs.action_mask[np.arange(50), actions].all()
    one = Masked(obs.obs[0], obs.action_mask[0])
    probs = both.action_probs(one)
    assert probs.sum() == pytest.approx(1) and not probs[~one.action_mask].any()


@pytest.mark.parametrize("width", [1, 3, 5])
def test_an_ensemble_of_members_that_read_no_mask_refuses_one_of_other_actions(width):
    module = optix_torch.TorchAgent(nn.Linear(4, 4), lambda *given: None, device="cpu")
    with pytest.raises(ValueError, match=r"an action mask must be of shape \(1, 4\)"):
        EnsembleAgent([module]).act(np.ones(4), action_mask=np.ones(width, bool))


@pytest.mark.parametrize("kind", [bool, int, np.int8, float, np.float32])
def test_an_agent_and_an_ensemble_take_masks_as_environments_tell_them(kind):
    agent, mask = make("ppo"), np.array([0, 0, 1, 0], kind)
    both, obs = EnsembleAgent([agent, make("dqn")]), np.ones(4, np.float32)
    for player in (agent, both):
        assert player.act(Masked(obs, mask)) == 2
        assert player.act(obs, action_mask=mask > 0) == 2
        assert player.act(obs, False, action_mask=mask > 0) == 2
        probs = player.action_probs(Masked(obs, mask))
        np.testing.assert_allclose(probs, mask.astype(float), atol=1e-6)
    for player in (agent, both):
        with pytest.raises(ValueError, match="action_mask must allow one action"):
            player.act(obs, action_mask=mask > 1)


@pytest.mark.parametrize("name", list(SMALL))
def test_an_exported_policy_takes_the_mask(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    agent = make(name, normalize_observations=True)
    agent.learn(masking.window_of(agent))
    agent.export_onnx(str(tmp_path / "policy.onnx"), action_mask=True)
    obs = masking.masked_rows(np.random.default_rng(0), 7)
    obs.action_mask[3] = False  # of what allows nothing everything is allowed
    found = masking.run_onnx(onnx, tmp_path / "policy.onnx", agent, obs)
    agent.begin_episode(np.ones(7, bool))
    wanted, _ = agent.act_batch(obs, explore=False)
    assert found.pop("action").tolist() == wanted.tolist()
    values = found.get("logits", found.get("q_values"))
    free = obs.action_mask | ~obs.action_mask.any(-1, keepdims=True)
    assert (values[~free] == -1e9).all() and (np.abs(values[free]) < 100).all()


def test_a_mask_is_no_input_of_agents_that_take_none(tmp_path):
    with pytest.raises(ValueError, match="action_mask must be False for TorchSAC"):
        EVERY["sac"](device="cpu").export_onnx(tmp_path / "x.onnx", action_mask=True)
