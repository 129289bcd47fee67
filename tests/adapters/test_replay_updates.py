"""Updates of the agents with a replay: as those of JAX, and by hand."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from optix.agents import dqn, rainbow, td3
from optix.math import categorical
from optix.networks.continuous import actor_and_critic
from optix.networks.values import action_values
from optix.types import Box, Discrete, Sample, Transition
from optix_torch import NoisyLinear
from optix_torch.noisy import noise
from optix_torch.off_policy import Batch
from optix_torch.rainbow import project
from tests.adapters.windows import make

COUNT = 10


def batch_of(discrete, seed=0):
    rng = np.random.default_rng(seed)
    obs, after = rng.normal(size=(2, COUNT, 4)).astype(np.float32)
    if discrete:
        action = rng.integers(0, 3, COUNT)
    else:
        action = rng.uniform(-1, 1, (COUNT, 2)).astype(np.float32)
    reward, weight = rng.random((2, COUNT)).astype(np.float32)
    discount = np.float32(0.9) * (rng.random(COUNT) < 0.7)
    return obs, action, reward, discount.astype(np.float32), after, weight


def tensors(batch):
    return Batch(*map(torch.tensor, batch))


def sample(batch):
    obs, action, reward, discount, after, weight = map(jnp.asarray, batch)
    rows = Transition(obs, action, reward, discount, after)
    return Sample(rows, jnp.arange(COUNT), weight)


def copy_layers(layers, params):
    """Give Torch's layers the weights of JAX's, in order."""
    for layer, one in zip(layers, params, strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.array(one["kernel"]).T))
            layer.bias.copy_(torch.tensor(np.array(one["bias"])))


def check_layers(layers, params):
    for layer, one in zip(layers, params, strict=True):
        for got, wanted in (
            (layer.weight, np.array(one["kernel"]).T),
            (layer.bias, one["bias"]),
        ):
            np.testing.assert_allclose(
                got.detach().numpy(), wanted, rtol=2e-4, atol=2e-6
            )


def linear(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def updated(agent, batch):
    """Make one update of a batch, as `learn` does."""
    agent.numbers["updates"] += 1
    agent.begin_learning()
    numbers, priority = agent._update(tensors(batch))
    return dict(zip(agent.NAMES, map(float, numbers), strict=True)), priority.numpy()


@pytest.mark.parametrize("double", [True, False])
def test_dqn_learns_as_jax_does(double):
    options = {"target_period": 2, "target_rate": 0.5, "learning_rate": 1e-2}
    network = action_values((4,), Discrete(3), hidden=(4,))
    other = dqn.dqn(network, (4,), Discrete(3), double=double, **options)
    policy = other.init(jax.random.key(0))
    agent = make("dqn", double=double, **options)

    def layers(params):
        return params["torso"]["Dense_0"], params["values"]

    for module in (agent.q_network, agent.target):
        copy_layers(linear(module), layers(policy.params))
    learn = jax.jit(other.learn)
    for seed in range(3):
        batch = batch_of(discrete=True, seed=seed)
        learned = learn(policy, sample(batch), other.hyperparams, jax.random.key(1))
        info, priority = updated(agent, batch)
        policy = learned.policy
        np.testing.assert_allclose(priority, learned.priority, rtol=1e-3, atol=1e-5)
        wanted = float(learned.info["value_loss"])
        assert info["value_loss"] == pytest.approx(wanted, rel=1e-4)
    check_layers(linear(agent.q_network), layers(policy.params))
    check_layers(linear(agent.target), layers(policy.extras.target))


def test_rainbow_learns_as_jax_does():
    """With all deviations zero; the noise itself is tested below."""
    options = {"target_period": 2, "learning_rate": 1e-2}
    network = action_values((4,), Discrete(3), hidden=(4,), dueling=True, num_atoms=5)
    other = rainbow.rainbow(network, (4,), Discrete(3), noise_scale=0.0, **options)
    policy = other.init(jax.random.key(0))
    agent = make("rainbow", noise_scale=0.0, **options)

    def layers(params):
        return [
            params[f"{stream}{part}"]
            for stream in ("value", "advantage")
            for part in ("_hidden", "")
        ]

    for module in (agent.q_network, agent.target):
        copy_layers(linear(module), layers(policy.params.mean))
    learn = jax.jit(other.learn)
    for seed in range(3):
        batch = batch_of(discrete=True, seed=seed)
        learned = learn(policy, sample(batch), other.hyperparams, jax.random.key(1))
        info, priority = updated(agent, batch)
        policy = learned.policy
        if seed == 0:  # later the deviations are learned, of other noise
            np.testing.assert_allclose(priority, learned.priority, rtol=1e-4)
            check_layers(linear(agent.q_network), layers(policy.params.mean))
            wanted = float(learned.info["value"])
            assert info["value"] == pytest.approx(wanted, rel=1e-3)
    assert (linear(agent.q_network)[0].weight_deviation != 0).any()


def test_td3_learns_as_jax_does():
    options = {"target_noise": 0.0, "target_rate": 0.1, "policy_delay": 2}
    networks = actor_and_critic((4,), Box((2,)), hidden=(4,), stochastic=False)
    other = td3.td3(networks, (4,), Box((2,)), **options)
    policy = other.init(jax.random.key(0))
    agent = make("td3", **options)

    def pairs(params, before=""):
        actor, (one, two) = params["actor"], params["critics"]
        yield f"{before}actor", (actor["Torso_0"]["Dense_0"], actor["mean"])
        for name, critic in (("critic1", one), ("critic2", two)):
            yield f"{before}{name}", (critic["Torso_1"]["Dense_0"], critic["value"])

    for before in ("", "target_"):
        for name, params in pairs(policy.params, before):
            copy_layers(linear(agent.modules[name]), params)
    learn = jax.jit(other.learn)
    for seed in range(4):
        batch = batch_of(discrete=False, seed=seed)
        learned = learn(policy, sample(batch), other.hyperparams, jax.random.key(1))
        info, priority = updated(agent, batch)
        policy = learned.policy
        np.testing.assert_allclose(priority, learned.priority, rtol=1e-3, atol=1e-5)
        wanted = float(learned.info["policy_loss"])
        assert info["policy_loss"] == pytest.approx(wanted, rel=1e-3, abs=1e-6)
        assert (wanted == 0) == (seed % 2 == 0)
    for name, params in pairs(policy.params):
        check_layers(linear(agent.modules[name]), params)
    for name, params in pairs(policy.extras.target, "target_"):
        check_layers(linear(agent.modules[name]), params)


def sac_by_hand(modules, log_temperature, batch, h, generator, optimizers):
    """One update of SAC, written down once more; returns what it changes."""
    obs, action, reward, discount, after, weight = map(torch.tensor, batch)

    def act(obs):
        mean, log_scale = modules["actor"](obs).chunk(2, -1)
        scale = log_scale.clamp(-20, 2).exp()
        before = torch.distributions.Normal(mean, scale)
        drawn = mean + scale * torch.empty_like(mean).normal_(generator=generator)
        squashed = torch.tanh(drawn)
        slope = torch.log(1 - squashed.double() ** 2).float()
        return squashed, (before.log_prob(drawn) - slope).sum(-1)

    def value(name, obs, action):
        return modules[name](torch.cat([obs, action], 1)).squeeze(1)

    temperature = log_temperature.exp().item()
    with torch.no_grad():
        following, log_prob = act(after)
        least = torch.stack(
            [value(f"target_critic{k}", after, following) for k in (1, 2)]
        ).amin(0)
        target = reward + discount * (least - temperature * log_prob)
    loss = sum(
        (weight * (value(f"critic{k}", obs, action) - target) ** 2).mean() / 2
        for k in (1, 2)
    )
    step(optimizers[0], loss, h)
    drawn, log_prob = act(obs)
    least = torch.stack([value(f"critic{k}", obs, drawn) for k in (1, 2)]).amin(0)
    step(optimizers[1], (temperature * log_prob - least).mean(), h)
    surplus = (-log_prob.detach() + 2 * h["entropy_scale"]).mean()
    step(optimizers[2], log_temperature * surplus, h)
    for k in (1, 2):
        pairs = zip(
            modules[f"target_critic{k}"].parameters(),
            modules[f"critic{k}"].parameters(),
            strict=True,
        )
        for slow, fast in pairs:
            slow.data += h["target_rate"] * (fast.data - slow.data)


def step(optimizer, loss, h):
    parameters = optimizer.param_groups[0]["params"]
    for parameter, slope in zip(
        parameters, torch.autograd.grad(loss, parameters), strict=True
    ):
        parameter.grad = slope
    nn.utils.clip_grad_norm_(parameters, h["max_grad_norm"])
    optimizer.step()


def test_sac_learns_as_by_hand():
    agent = make("sac", learning_rate=1e-2, initial_temperature=0.3)
    modules = copy.deepcopy(agent.modules)
    log_temperature = agent.log_temperature.detach().clone().requires_grad_()
    generator = torch.Generator().manual_seed(3)
    groups = (
        [p for k in (1, 2) for p in modules[f"critic{k}"].parameters()],
        list(modules["actor"].parameters()),
        [log_temperature],
    )
    optimizers = [torch.optim.Adam(group, 1e-2) for group in groups]
    agent.seed(3)
    for seed in range(3):
        batch = batch_of(discrete=False, seed=seed)
        updated(agent, batch)
        sac_by_hand(
            modules, log_temperature, batch, agent.hyperparams, generator, optimizers
        )
    assert agent.log_temperature.item() == pytest.approx(
        log_temperature.item(), rel=1e-5
    )
    for name, module in agent.modules.items():
        for a, b in zip(module.parameters(), modules[name].parameters(), strict=True):
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-3, atol=2e-5)


def test_a_temperature_that_is_kept():
    agent = make("sac", tune_temperature=False, initial_temperature=0.3)
    info, _ = updated(agent, batch_of(discrete=False))
    assert info["temperature"] == pytest.approx(0.3)
    assert agent.log_temperature.exp().item() == pytest.approx(0.3)


def test_distributions_are_moved_as_jax_moves_them():
    rng = np.random.default_rng(0)
    atoms = np.linspace(-2, 3, 6).astype(np.float32)
    moved = (5 * rng.normal(size=(20, 6))).astype(np.float32)
    moved[0] = atoms
    probabilities = rng.dirichlet(np.ones(6), 20).astype(np.float32)
    wanted = jax.vmap(categorical.project, (0, 0, None))(moved, probabilities, atoms)
    got = project(*map(torch.tensor, (moved, probabilities, atoms)))
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6)


def test_every_row_has_noise_of_its_own():
    """Rows without building matrices, against matrices that are built."""
    torch.manual_seed(0)
    layer, generator = NoisyLinear(4, 3), torch.Generator().manual_seed(1)
    rows = torch.randn(5, 4)
    with torch.no_grad():
        plain = layer(rows)
        with noise(layer, generator, 5):
            inputs, outputs = layer.factors
            got = layer(rows)
        for k in range(5):
            matrix = layer.weight + layer.weight_deviation * torch.outer(
                outputs[k], inputs[k]
            )
            offset = layer.bias + layer.bias_deviation * outputs[k]
            np.testing.assert_allclose(got[k], matrix @ rows[k] + offset, rtol=1e-5)
        assert layer.factors is None and torch.equal(layer(rows), plain)
        drawn = []
        for _ in range(2000):
            with noise(layer, generator):
                drawn.append(layer.factors[0])
        # sign(x) sqrt(|x|) has variance E|x| = sqrt(2 / pi)
        deviation = torch.cat(drawn).std().item()
    assert deviation == pytest.approx((2 / np.pi) ** 0.25, rel=0.03)
