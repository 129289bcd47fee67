"""One update of PPO in NumPy, sample by sample, and a linear agent to compare."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special, stats

from optix.agents.ppo import ppo
from optix.types import Discrete, Network


def linear(inputs, actions, gaussian=False):
    """A user's own network: a plain function of a dict, no module."""

    def init(key):
        del key
        params = {
            "kernel": jnp.zeros((inputs, actions + 1)),
            "bias": jnp.zeros(actions + 1),
        }
        if gaussian:
            params["log_scale"] = jnp.full(actions, -0.5)
        return params, jnp.float32(1)

    def apply(params, structure, carry, obs):
        del structure
        out = obs @ params["kernel"] + params["bias"]
        head, value = out[..., :-1], out[..., -1]
        if gaussian:
            head = head, jnp.broadcast_to(params["log_scale"], head.shape)
        return carry, (head, value)

    return Network(init, lambda batch: (), apply)


T, B, INPUTS, ACTIONS = 12, 4, 3, 4
EPSILON = 1e-8
FLOATS = {
    "learning_rate": 0.1,
    "discount": 0.9,
    "gae_lambda": 0.8,
    "clip_ratio": 0.2,
    "entropy_coefficient": 0.03,
    "value_coefficient": 0.7,
    "max_grad_norm": 0.4,
}


def versioned_sgd():
    """Plain gradients times the network's structure, so that both can be seen."""

    def update(updates, state, params=None, *, version):
        del params
        return jax.tree.map(lambda x: version * x, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def build(**options):
    """A linear agent of plain gradients, one epoch and one minibatch."""
    settings = {"num_epochs": 1, "num_minibatches": 1, "optimizer": versioned_sgd}
    network = linear(INPUTS, ACTIONS)
    space = Discrete(ACTIONS)
    return ppo(network, (INPUTS,), space, **{**settings, **options})


def floats(**changed):
    return {name: jnp.float32(x) for name, x in {**FLOATS, **changed}.items()}


def slow_loss(logits, value, action, log_prob, advantage, old_value, hyperparams):
    """The loss of a minibatch in float64, sample by sample."""
    clip = hyperparams["clip_ratio"]
    standardized = (advantage - advantage.mean()) / np.sqrt(advantage.var() + EPSILON)
    parts = {"policy_loss": [], "value_loss": [], "entropy": [], "kl": []}
    clipped = 0
    for i in range(len(action)):
        log_probs = special.log_softmax(logits[i])
        ratio = np.exp(log_probs[action[i]] - log_prob[i])
        gain = ratio * standardized[i]
        if standardized[i] > 0:
            gain = min(gain, (1 + clip) * standardized[i])
        else:
            gain = min(gain, (1 - clip) * standardized[i])
        parts["policy_loss"].append(-gain)
        target = advantage[i] + old_value[i]
        near = min(max(value[i], old_value[i] - clip), old_value[i] + clip)
        error = max((value[i] - target) ** 2, (near - target) ** 2)
        parts["value_loss"].append(error / 2)
        parts["entropy"].append(stats.entropy(np.exp(log_probs)))
        parts["kl"].append(ratio - 1 - np.log(ratio))
        clipped += abs(ratio - 1) > clip
    info = {name: np.mean(values) for name, values in parts.items()}
    info["clip_fraction"] = clipped / len(action)
    total = (
        info["policy_loss"]
        + hyperparams["value_coefficient"] * info["value_loss"]
        - hyperparams["entropy_coefficient"] * info["entropy"]
    )
    return total, info


def deviation_with(returns, batch):
    """The deviation of all discounted returns, those of the window included."""
    new = np.asarray(batch.extras["discounted_return"], np.float64).ravel()
    n, mean = float(returns.count), float(returns.mean)
    second = n * (float(returns.variance) + mean**2) + np.square(new).sum()
    total = n + new.size
    return np.sqrt(second / total - ((n * mean + new.sum()) / total) ** 2)


def slow_update(policy, batch, hyperparams):
    """The parameters after one step of plain gradient descent, by differences."""
    obs, next_obs, reward, terminated, truncated = (
        np.asarray(x, np.float64 if x.dtype == jnp.float32 else bool)
        for x in (
            batch.obs,
            batch.next_obs,
            batch.reward,
            batch.terminated,
            batch.truncated,
        )
    )
    seen = policy.extras.observations
    mean, deviation = np.asarray(seen.mean), np.sqrt(np.asarray(seen.variance))
    obs, next_obs = (np.clip((x - mean) / deviation, -10, 10) for x in (obs, next_obs))
    reward = reward / deviation_with(policy.extras.returns, batch)
    shapes = [(INPUTS, ACTIONS + 1), (ACTIONS + 1,)]
    names = ["kernel", "bias"]
    flat = np.concatenate(
        [np.asarray(policy.params[n], np.float64).ravel() for n in names]
    )

    def outputs(flat, obs):
        kernel, bias = np.split(flat, [INPUTS * (ACTIONS + 1)])
        out = obs @ kernel.reshape(shapes[0]) + bias
        return out[..., :-1], out[..., -1]

    value, next_value = outputs(flat, obs)[1], outputs(flat, next_obs)[1]
    discount, decay = hyperparams["discount"], hyperparams["gae_lambda"]
    advantage = np.zeros((T, B))
    following = np.zeros(B)
    for t in reversed(range(T)):
        following *= ~(terminated[t] | truncated[t])
        future = np.where(terminated[t], 0, discount * next_value[t])
        delta = reward[t] + future - value[t]
        following = advantage[t] = delta + discount * decay * following

    def objective(flat):
        logits, new_value = outputs(flat, obs.reshape(-1, INPUTS))
        return slow_loss(
            logits,
            new_value,
            np.asarray(batch.action).ravel(),
            np.asarray(batch.extras["log_prob"], np.float64).ravel(),
            advantage.ravel(),
            value.ravel(),
            hyperparams,
        )

    gradient = np.array(
        [
            (objective(flat + h)[0] - objective(flat - h)[0]) / 2e-5
            for h in 1e-5 * np.eye(len(flat))
        ]
    )
    norm = np.linalg.norm(gradient)
    gradient *= min(1, hyperparams["max_grad_norm"] / norm)
    new = np.split(flat - hyperparams["learning_rate"] * gradient, [flat.size - 5])
    return dict(zip(names, (x.reshape(s) for x, s in zip(new, shapes))))  # noqa: B905


def assert_trees(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)
