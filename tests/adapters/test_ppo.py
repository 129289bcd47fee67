"""PPO in Torch: against the JAX agent, and against a loop written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from optix.agents import distributions, ppo
from optix.agents.reading import Batch
from optix.host.advantages import advantages
from optix.host.bounds import bounds
from optix.host.normalizers import RewardNormalizer
from optix.host.proximal import INFO
from optix.host.window import EpisodeData
from optix_torch import TorchGaussianPPOAgent, TorchPPOAgent
from optix_torch.actions import Categorical, Gaussian, squashed
from optix_torch.on_policy import Samples, proximal_loss
from tests.adapters.acting import play, same
from tests.adapters.windows import make

H = {"clip_ratio": 0.2, "value_coefficient": 0.7, "entropy_coefficient": 0.03}


def batch_of(kind, seed=0, count=12):
    rng = np.random.default_rng(seed)
    width = 3 if kind == "discrete" else 4
    outputs = rng.normal(size=(count, width)).astype(np.float32)
    value, log_prob, advantage, old = rng.normal(size=(4, count)).astype(np.float32)
    if kind == "discrete":
        action = rng.integers(0, 3, count)
    else:
        action = rng.normal(size=(count, 2)).astype(np.float32)
    return outputs, value, action, log_prob - 1.5, advantage, old


@pytest.mark.parametrize("kind", ["discrete", "gaussian"])
@pytest.mark.parametrize("clip_values", [True, False])
def test_the_loss_and_its_gradient_are_those_of_jax(kind, clip_values):
    outputs, value, action, log_prob, advantage, old = batch_of(kind)

    def parameters(x):
        return x if kind == "discrete" else (x[:, :2], x[:, 2:])

    def objective(outputs, value):
        batch = Batch(None, action, log_prob, advantage, old)
        distribution = distributions.categorical
        if kind != "discrete":
            distribution = distributions.gaussian
        return ppo.loss(
            (parameters(outputs), value), batch, H, distribution, clip_values
        )

    (wanted, info), slopes = jax.value_and_grad(objective, (0, 1), has_aux=True)(
        jnp.asarray(outputs), jnp.asarray(value)
    )
    leaves = [torch.tensor(x, requires_grad=True) for x in (outputs, value)]
    actions = (Categorical if kind == "discrete" else Gaussian)(leaves[0])
    samples = Samples(*map(torch.tensor, (value, action, log_prob, advantage, old)))
    loss, numbers = proximal_loss(
        actions.log_prob(samples.action),
        actions.entropy(),
        leaves[1],
        samples,
        H,
        clip_values,
    )
    loss.backward()
    np.testing.assert_allclose(loss.item(), wanted, rtol=1e-5)
    for name, number in zip(INFO, numbers, strict=False):
        np.testing.assert_allclose(number.item(), info[name], rtol=1e-4, err_msg=name)
    for leaf, slope in zip(leaves, slopes, strict=True):
        np.testing.assert_allclose(leaf.grad.numpy(), slope, rtol=1e-4, atol=1e-6)


def test_the_squashed_gaussian_is_that_of_jax():
    from optix.agents.sac import squashed_gaussian

    rng = np.random.default_rng(0)
    given = 3 * rng.normal(size=(3, 50, 2)).astype(np.float32)
    wanted = squashed_gaussian(*map(jnp.asarray, given))
    got = squashed(*map(torch.tensor, given))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-4)


def test_actions_are_drawn_as_their_probabilities_say():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.5, -1.0, 2.0]).expand(40_000, 3)
    counts = np.bincount(Categorical(logits).sample(generator).numpy(), minlength=3)
    np.testing.assert_allclose(counts / 40_000, logits[0].softmax(-1), atol=0.01)
    drawn = Gaussian(torch.tensor([1.0, -2.0, 0.5, -1.0]).expand(40_000, 4))
    drawn = drawn.sample(generator).numpy()
    np.testing.assert_allclose(drawn.mean(0), [1, -2], atol=0.03)
    np.testing.assert_allclose(drawn.std(0), np.exp([0.5, -1.0]), rtol=0.02)


def by_hand(actor, critic, window, h, generator, order):
    """Two epochs of PPO on a window [T, B], written down once more."""
    steps, envs = window.rewards.shape
    obs = torch.tensor(window.observations).reshape(-1, 4)
    with torch.no_grad():
        value = critic(obs).reshape(steps, envs).numpy()
        after = torch.tensor(window.next_observations).reshape(-1, 4)
        following = critic(after).reshape(steps, envs).numpy()
    gains = np.zeros((steps, envs), np.float32)
    for b in range(envs):
        gain = 0.0
        for t in reversed(range(steps)):
            going_on = not (window.terminated[t, b] or window.truncated[t, b])
            target = window.rewards[t, b]
            target += h["discount"] * following[t, b] * (not window.terminated[t, b])
            gain = (
                target - value[t, b] + h["discount"] * h["gae_lambda"] * going_on * gain
            )
            gains[t, b] = gain
    parameters = [*actor.parameters(), *critic.parameters()]
    adam = torch.optim.Adam(parameters, h["learning_rate"], eps=1e-5)
    gains, value = torch.tensor(gains).reshape(-1), torch.tensor(value).reshape(-1)
    action = torch.tensor(window.actions).reshape(-1)
    old = torch.tensor(window.extras["log_prob"]).reshape(-1)
    for index in order(generator, steps * envs):
        log_probs = torch.log_softmax(actor(obs[index]), -1)
        chosen = log_probs[torch.arange(len(index)), action[index]]
        ratio = torch.exp(chosen - old[index])
        gain = gains[index]
        gain = (gain - gain.mean()) / torch.sqrt(gain.var(correction=0) + 1e-8)
        near = torch.clamp(ratio, 1 - h["clip_ratio"], 1 + h["clip_ratio"])
        loss = -torch.minimum(ratio * gain, near * gain).mean()
        error = critic(obs[index])[:, 0] - (gains + value)[index]
        loss = loss + h["value_coefficient"] * 0.5 * (error**2).mean()
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
        loss = loss - h["entropy_coefficient"] * entropy
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, h["max_grad_norm"])
        adam.step()


def test_learning_is_that_of_a_loop_written_by_hand():
    """Time limits are bootstrapped from what was seen at the cut, not at the reset."""
    options = {
        "normalize_observations": False,
        "normalize_rewards": False,
        "clip_values": False,
        "num_epochs": 2,
        "num_minibatches": 2,
        "learning_rate": 1e-2,
    }
    agent, copy = make("ppo", **options), make("ppo", **options)
    window = play(agent, steps=10, ends=0.5)
    assert window.truncated.any() and window.terminated.any()
    agent.seed(5)
    agent.learn(window)

    def order(generator, count):
        for _ in range(2):
            yield from torch.randperm(count, generator=generator).tensor_split(2)

    modules = copy.modules["actor"], copy.modules["critic"]
    generator = torch.Generator().manual_seed(5)
    by_hand(*modules, window, agent.hyperparams, generator, order)
    for name in ("actor", "critic"):
        pairs = zip(
            agent.modules[name].parameters(),
            copy.modules[name].parameters(),
            strict=True,
        )
        for a, b in pairs:
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ppo", "gaussian"])
def test_windows_without_extras_and_without_an_axis_of_environments(name):
    """The behaviour is the policy as it is: what extras tell can be found again."""
    agents = [make(name) for _ in range(3)]
    window = play(agents[0], envs=1, steps=9)
    if name == "gaussian":  # beyond its bounds an action does not tell what was drawn
        inside = np.abs(window.extras["drawn"]).max() < 1
        window.extras["drawn"][:] = np.clip(window.extras["drawn"], -0.9, 0.9)
        assert not inside
        actions = agents[0].bounds.decode(window.extras["drawn"])
        del window.extras["log_prob"]
        window = EpisodeData(**{**vars(window), "actions": actions})
    flat = {
        key: value[:, 0]
        for key, value in vars(window).items()
        if isinstance(value, np.ndarray)
    }
    windows = (
        window,
        EpisodeData(**{**vars(window), "extras": {}}),
        EpisodeData(**flat),
    )
    for agent, one in zip(agents, windows, strict=True):
        agent.seed(1)
        agent.learn(one)
    for other in agents[1:]:
        for key, value in agents[0].state().items():
            np.testing.assert_allclose(
                other.state()[key], value, rtol=1e-3, atol=1e-5, err_msg=key
            )


def test_observations_and_rewards_are_seen_as_the_jax_agent_sees_them():
    agent = make("ppo")
    window = play(agent, steps=16)
    rows = window.observations.reshape(-1, 4)
    np.testing.assert_array_equal(agent.view(rows), np.clip(rows, -10, 10))
    agent.learn(window)
    scaled = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(agent.view(rows), scaled, rtol=1e-3, atol=1e-3)
    far = rows[0] + 1e6
    assert agent.view(far[None]).max() == 10
    second = play(agent, seed=2, fresh=False)
    # rewards are divided by a deviation that has seen this window already
    wanted = agent.records["returns"].state()
    scaled = agent.scaled(second)
    assert agent.records["returns"].state()["count"] == wanted["count"] + 16
    np.testing.assert_allclose(
        scaled, second.rewards * agent.records["returns"].inverse(), rtol=1e-6
    )


def test_a_normalizer_of_ones_own_scales_the_rewards():
    normalizer = RewardNormalizer(num_envs=2)
    agent = TorchPPOAgent(
        nn.Linear(4, 3), nn.Linear(4, 1), None, None, "cpu", normalizer
    )
    window = play(agent)
    wanted = RewardNormalizer(num_envs=2)
    for reward, ended in zip(window.rewards, window.dones, strict=True):
        wanted.step(reward)
        wanted.reset(ended)
    agent.learn(window)
    assert same(normalizer.state(), wanted.state())
    assert "returns/returns" in agent.state()
    with pytest.raises(ValueError, match="ended must hold 2 numbers"):
        agent.learn(play(agent, envs=3))


def test_updates_end_where_the_divergence_passes_its_limit():
    window = play(make("ppo"))
    free, bound = (
        make("ppo", learning_rate=0.5, num_epochs=20, target_kl=limit)
        for limit in (1e9, 1e-3)
    )
    assert free.learn(window)["kl"] > 0.1
    assert bound.learn(window)["kl"] < 1e-3
    assert bound.hyperparams["target_kl"] == 1e-3


def test_continuous_actions_are_scaled_and_clipped_and_learned_as_drawn():
    agent = make("gaussian")
    window = play(agent, steps=64)
    low, high = np.float32([-2, -1]), np.float32([2, 3])
    drawn = window.extras["drawn"]
    assert (np.abs(drawn) > 1).any()
    wanted = np.clip(drawn * (high - low) / 2 + (high + low) / 2, low, high)
    np.testing.assert_allclose(window.actions, wanted, rtol=1e-6)
    agent.set_hyperparams(type(agent.get_hyperparams())({"learning_rate": 0.0}))
    assert agent.learn(window)["kl"] == pytest.approx(0, abs=1e-6)
    mean, _ = agent.act_batch(window.observations[0], explore=False)
    again, _ = agent.act_batch(window.observations[0], explore=False)
    np.testing.assert_array_equal(mean, again)


def test_entries_without_ends():
    ends = bounds(np.array([-1, -np.inf, 0, -np.inf]), np.array([3, np.inf, np.inf, 5]))
    action = np.float32([[0, 7, -5, 9], [2, -7, 3, -2]])
    np.testing.assert_allclose(ends.decode(action), [[1, 7, 0, 5], [3, -7, 4, 2]])
    inside = np.float32([[0.5, 7, 3, -2]])
    np.testing.assert_allclose(ends.encode(ends.decode(inside)), inside)


def test_entries_whose_ends_are_one_or_between_numbers_of_float32():
    low, high = np.array([3.0, 0.1]), np.array([3.0, 0.3])
    ends = bounds(low, high)
    found = ends.decode(np.float32([[-9, -9], [0, 0], [9, 9]]))
    assert (found >= low).all() and (found <= high).all()
    np.testing.assert_allclose(found, [[3, 0.1], [3, 0.2], [3, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(ends.encode(found)[1], [0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="must be low <= high"):
        bounds(np.inf, np.inf)


def test_seeds_decide_what_is_drawn():
    agent = make("ppo")
    one, other = (play(agent, seed=3).actions for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert (play(agent, seed=4).actions != one).any()


def test_the_probabilities_of_actions():
    agent = make("ppo")
    probs = agent.action_probs(np.ones(4))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-6)
    assert agent.act(np.ones(4), explore=False) == probs.argmax()
    agent = make("gaussian")
    with pytest.raises(NotImplementedError, match="does not offer action_probs"):
        agent.action_probs(np.ones(4))


def test_dropout_and_batch_norm_rest_while_acting():
    actor = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    actor.append(nn.Linear(8, 3))
    agent = TorchPPOAgent(actor, nn.Linear(4, 1), device="cpu")
    before = agent.state()
    window = play(agent)
    assert same(agent.state(), before)
    agent.learn(window)
    assert agent.state()["actor.1.num_batches_tracked"] == 16
    assert not actor.training


def test_gae_takes_float32():
    never = np.zeros((3, 1), bool)
    ones = np.ones((3, 1), np.float32)
    assert advantages(ones, ones, ones, never, never, 0.9, 0.9).dtype == np.float32


def test_a_gaussian_agent_of_the_wrong_size():
    agent = TorchGaussianPPOAgent(nn.Linear(4, 6), nn.Linear(4, 1), None, 2)
    with pytest.raises(ValueError, match="actor must give a mean and a log scale of 2"):
        agent.act(np.zeros(4))
