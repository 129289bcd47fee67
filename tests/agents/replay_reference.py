"""One update of DQN, Rainbow, SAC and TD3 in NumPy: float64, row by row, no gradients.

Gradients are differences of the loss, densities are scipy's, the projection of C51 is the
loop of its paper. Observations are [N, INPUTS]; every network is `net`. `build` makes the
agents to compare.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import jit
from scipy import special, stats

from optix.agents.dqn import dqn
from optix.agents.rainbow import rainbow
from optix.agents.sac import sac
from optix.agents.td3 import td3
from optix.networks.continuous import ActorAndCritic
from optix.types import Box, Discrete, Network

N, INPUTS, HIDDEN, ACTIONS, ATOMS, SIZE = 6, 3, 4, 3, 5, 2
PERIOD = 3  # of DQN's and Rainbow's targets and of TD3's actor


def net(params, x, xp=np):
    """A layer of tanh units and a linear one on top."""
    hidden = xp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def network(inputs, *shape, split=False):
    """`net` as a user's own network, with outputs of a shape, or two halves of them."""
    outputs = int(np.prod(shape))

    def init(key):
        def layer(key, *sizes):
            kernel, bias = jax.random.split(key)
            return {
                "kernel": jax.random.normal(kernel, sizes),
                "bias": jax.random.normal(bias, sizes[1:]),
            }

        below, above = jax.random.split(key)
        layers = layer(below, inputs, HIDDEN), layer(above, HIDDEN, outputs)
        return dict(zip(("hidden", "head"), layers, strict=True)), ()

    def apply(params, structure, carry, obs):
        del structure
        x = jnp.concatenate(obs, -1) if isinstance(obs, tuple) else obs
        out = net(params, x, jnp).reshape(*x.shape[:-1], *shape)
        return carry, tuple(jnp.split(out, 2, -1)) if split else out

    return Network(init, lambda batch: (), apply)


def actor_and_critic(stochastic):
    actor = network(INPUTS, SIZE * (1 + stochastic), split=stochastic)
    return ActorAndCritic(actor, network(INPUTS + SIZE))


@functools.cache
def build(algorithm, **options):
    """An agent of plain descent that normalises what it sees; compiled once."""
    agent = agent_of(algorithm, **options)
    return agent._replace(learn=jit(agent.learn))


def agent_of(algorithm, **options):
    """The same, traced at every call."""
    options = {"optimizer": optax.identity, "normalize_observations": True, **options}
    options = {"normalize_rewards": True, **options}
    discrete = (INPUTS,), Discrete(ACTIONS)
    continuous = (INPUTS,), Box((SIZE,))
    if algorithm == "dqn":
        options = {"target_period": PERIOD, **options}
        return dqn(network(INPUTS, ACTIONS), *discrete, **options)
    if algorithm == "rainbow":
        options = {"target_period": PERIOD, "noise_scale": 0.0, **options}
        return rainbow(network(INPUTS, ACTIONS, ATOMS), *discrete, **options)
    if algorithm == "sac":
        return sac(actor_and_critic(True), *continuous, **options)
    options = {"policy_delay": PERIOD, **options}
    return td3(actor_and_critic(False), *continuous, **options)


def float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def seen(policy, batch):
    """The rows as the agent sees them: normalised."""
    items, extras = float64(batch.items), float64(policy.extras)

    def view(obs):
        moments = extras.observations
        return np.clip((obs - moments.mean) / np.sqrt(moments.variance), -10, 10)

    return items._replace(
        obs=view(items.obs),
        next_obs=view(items.next_obs),
        reward=items.reward / np.sqrt(extras.returns.variance),
        action=np.asarray(batch.items.action),
    )


def descended(objective, params, hyperparams):
    """One clipped step of plain gradient descent."""
    leaves, form = jax.tree.flatten(params)
    flat = np.concatenate([x.ravel() for x in leaves])
    ends = np.cumsum([x.size for x in leaves])[:-1]

    def restored(flat):
        parts = zip(np.split(flat, ends), leaves, strict=True)
        return jax.tree.unflatten(form, [x.reshape(y.shape) for x, y in parts])

    gradient = np.array(
        [
            (objective(restored(flat + h)) - objective(restored(flat - h))) / 2e-6
            for h in 1e-6 * np.eye(flat.size)
        ]
    )
    norm = np.linalg.norm(gradient)
    gradient *= min(1, hyperparams["max_grad_norm"] / norm)
    return restored(flat - hyperparams["learning_rate"] * gradient)


def followed(target, params, rate):
    return jax.tree.map(lambda t, p: (1 - rate) * t + rate * p, target, params)


def slow_dqn(policy, batch, hyperparams, double, due):
    rows, params = seen(policy, batch), float64(policy.params)
    target_params = float64(policy.extras.target)
    targets = []
    for i in range(N):
        judged = net(target_params, rows.next_obs[i])
        chosen = net(params, rows.next_obs[i]) if double else judged
        targets.append(rows.reward[i] + rows.discount[i] * judged[np.argmax(chosen)])

    def errors(params):
        values = [net(params, rows.obs[i])[rows.action[i]] for i in range(N)]
        return np.array(values) - targets

    def loss(params):
        return np.mean(np.asarray(batch.weight, np.float64) * errors(params) ** 2 / 2)

    new = descended(loss, params, hyperparams)
    rate = hyperparams["target_rate"] * due
    moved = followed(target_params, new, rate)
    return new, moved, np.abs(errors(params)), {"value_loss": loss(params)}


def slow_rainbow(policy, batch, hyperparams, due):
    """Without noise, so of the mean parameters."""
    rows, params = seen(policy, batch), float64(policy.params.mean)
    target_params = float64(policy.extras.target.mean)
    low, high = hyperparams["value_min"], hyperparams["value_max"]
    atoms = np.array([low + (high - low) * k / (ATOMS - 1) for k in range(ATOMS)])
    targets = np.zeros((N, ATOMS))

    def logits(params, obs):
        return net(params, obs).reshape(ACTIONS, ATOMS)

    for i in range(N):
        means = special.softmax(logits(params, rows.next_obs[i]), -1) @ atoms
        judged = special.softmax(logits(target_params, rows.next_obs[i]), -1)
        for k in range(ATOMS):
            moved = np.clip(rows.reward[i] + rows.discount[i] * atoms[k], low, high)
            place = (moved - low) / (high - low) * (ATOMS - 1)
            floor = min(int(place), ATOMS - 2)
            mass = judged[np.argmax(means), k]
            targets[i, floor] += mass * (floor + 1 - place)
            targets[i, floor + 1] += mass * (place - floor)

    def divergences(params):
        out = [logits(params, rows.obs[i])[rows.action[i]] for i in range(N)]
        return -np.sum(targets * special.log_softmax(out, -1), -1)

    def loss(params):
        return np.mean(np.asarray(batch.weight, np.float64) * divergences(params))

    new = descended(loss, params, hyperparams)
    moved = followed(target_params, new, hyperparams["target_rate"] * due)
    return new, moved, divergences(params), {"value_loss": loss(params)}


def smaller(critics, obs, action):
    return min(net(c, np.concatenate([obs, action]))[0] for c in critics)


def critics_step(critics, rows, batch, targets, hyperparams):
    """Return new critics and the mean error of both."""

    def errors(critics):
        inputs = [np.concatenate([rows.obs[i], rows.action[i]]) for i in range(N)]
        values = [[net(c, x)[0] for x in inputs] for c in critics]
        return np.array(values) - targets

    def loss(critics):
        weight = np.asarray(batch.weight, np.float64)
        return np.mean(weight * errors(critics) ** 2 / 2, -1).sum()

    new = descended(loss, critics, hyperparams)
    return new, np.abs(errors(critics)).mean(0), loss(critics)


def slow_sac(policy, batch, hyperparams, noise):
    """`noise` [2, N, SIZE]: of the next actions and of those of the actor's loss."""
    rows, params = seen(policy, batch), float64(policy.params)
    target_critics = float64(policy.extras.target)
    temperature = np.exp(params["log_temperature"])

    def propose(actor, obs, noise):
        mean, log_scale = np.split(net(actor, obs), 2)
        scale = np.exp(np.clip(log_scale, -20, 2))
        before = mean + scale * noise
        density = stats.norm.logpdf(before, mean, scale)
        slope = 2 * (np.log(2) - np.logaddexp(before, -before))  # log(1 - tanh^2)
        return np.tanh(before), np.sum(density - slope)

    targets = []
    for i in range(N):
        action, log_prob = propose(params["actor"], rows.next_obs[i], noise[0, i])
        value = smaller(target_critics, rows.next_obs[i], action)
        value -= temperature * log_prob
        targets.append(rows.reward[i] + rows.discount[i] * value)
    critics, error, value_loss = critics_step(
        params["critics"], rows, batch, targets, hyperparams
    )

    def actor_loss(actor):
        total = 0.0
        for i in range(N):
            action, log_prob = propose(actor, rows.obs[i], noise[1, i])
            total += temperature * log_prob - smaller(critics, rows.obs[i], action)
        return total / N

    entropy = -np.mean(
        [propose(params["actor"], rows.obs[i], noise[1, i])[1] for i in range(N)]
    )
    wanted = -SIZE * hyperparams["entropy_scale"]
    new = {
        "actor": descended(actor_loss, params["actor"], hyperparams),
        "critics": critics,
        "log_temperature": descended(
            lambda x: x * (entropy - wanted), params["log_temperature"], hyperparams
        ),
    }
    moved = followed(target_critics, critics, hyperparams["target_rate"])
    info = {
        "value_loss": value_loss,
        "policy_loss": actor_loss(params["actor"]),
        "entropy": entropy,
        "temperature": temperature,
    }
    return new, moved, error, info


def slow_td3(policy, batch, hyperparams, noise, due):
    """`noise` [N, SIZE], standard normal, of the smoothed target actions."""
    rows, params = seen(policy, batch), float64(policy.params)
    target = float64(policy.extras.target)
    limit = hyperparams["target_noise_limit"]
    targets = []
    for i in range(N):
        smoothing = np.clip(hyperparams["target_noise"] * noise[i], -limit, limit)
        action = np.tanh(net(target["actor"], rows.next_obs[i])) + smoothing
        value = smaller(target["critics"], rows.next_obs[i], np.clip(action, -1, 1))
        targets.append(rows.reward[i] + rows.discount[i] * value)
    critics, error, value_loss = critics_step(
        params["critics"], rows, batch, targets, hyperparams
    )

    def actor_loss(actor):
        actions = [np.tanh(net(actor, rows.obs[i])) for i in range(N)]
        first = critics[0]
        return -np.mean(
            [net(first, np.concatenate([rows.obs[i], actions[i]]))[0] for i in range(N)]
        )

    new = {"actor": params["actor"], "critics": critics}
    moved = target
    if due:
        new["actor"] = descended(actor_loss, params["actor"], hyperparams)
        moved = followed(target, new, hyperparams["target_rate"])
    return new, moved, error, {"value_loss": value_loss}
