"""What the proximal agents share: the clipped loss, normalisers, epochs of minibatches.

The agents differ in how a network is run over a window and in what the rows of a
minibatch are: single steps, or sequences. A `Reading` says so.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.shared import check_batch, normalizers, update_rule
from optix.math.permutation import random_permutation
from optix.math.returns import generalized_advantages
from optix.math.running import Moments, pool, zero_moments
from optix.trees import all_finite, mean_devices, select
from optix.types import (
    Agent,
    Box,
    Discrete,
    Hyperparams,
    Network,
    Policy,
    PyTree,
    Trajectory,
)

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (5e-4, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "gae_lambda": (0.95, 0.0, 1.0),
    "clip_ratio": (0.2, 0.0, 10.0),
    "entropy_coefficient": (0.01, 0.0, 100.0),
    "value_coefficient": (0.5, 0.0, 100.0),
    "max_grad_norm": (0.5, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "clip_ratio": (0.05, 0.5),
    "entropy_coefficient": (1e-4, 0.1),
}


class Extras(NamedTuple):
    """What a PPO policy carries besides parameters."""

    observations: Moments  # [*observation_shape]
    returns: Moments  # [] of the discounted return
    updates: jax.Array  # [] int32 windows learned from


class Batch(NamedTuple):
    """What a minibatch holds; `N` samples."""

    obs: jax.Array  # [N, ...] float32, normalised
    action: jax.Array  # [N, ...]
    log_prob: jax.Array  # [N] float32 of the behaviour
    advantage: jax.Array  # [N] float32
    value: jax.Array  # [N] float32 before the update


def categorical(logits: jax.Array):
    """Return the distribution of discrete actions."""
    import distrax  # it imports tensorflow_probability

    return distrax.Categorical(logits=logits)


def gaussian(parameters: tuple[jax.Array, jax.Array]):
    """Return the distribution of continuous actions from (mean, log scale)."""
    import distrax

    mean, log_scale = parameters
    return distrax.MultivariateNormalDiag(mean, jnp.exp(log_scale))


def loss(
    outputs: tuple[PyTree, jax.Array],
    batch: Batch,
    hyperparams: Hyperparams,
    distribution: Callable,
    clip_values: bool = True,
    axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Clipped surrogate, value error and entropy bonus of a minibatch.

    What is beyond its bound is told by a condition: the gradient of `minimum` of two
    numbers that are equal, as they are within the bounds, hangs on how they are rounded.

    Args:
      outputs: the network's (distribution parameters, value) on `batch.obs`.
      batch: [N] samples.
      hyperparams: clip_ratio, value_coefficient, entropy_coefficient.
      distribution: distribution parameters -> distribution.
      clip_values: keep the value within clip_ratio of its old one.
      axis_name: devices over which advantages are standardised together.

    Returns:
      [] loss, and {name: []} what a person may want to know.
    """
    parameters, value = outputs
    actions = distribution(parameters)
    clip = hyperparams["clip_ratio"]

    mean = batch.advantage.mean()
    variance = jnp.square(batch.advantage - mean).mean()
    _, mean, variance = pool(Moments(jnp.float32(1), mean, variance), axis_name)
    advantage = (batch.advantage - mean) * jax.lax.rsqrt(variance + 1e-8)
    log_ratio = actions.log_prob(batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    bound = jnp.where(advantage > 0, 1 + clip, 1 - clip)
    beyond = (ratio - bound) * advantage > 0
    policy_loss = -(jnp.where(beyond, bound, ratio) * advantage).mean()

    target = batch.advantage + batch.value
    if clip_values:
        bound = batch.value + jnp.where(value > batch.value, clip, -clip)
        beyond = jnp.abs(value - batch.value) > clip
        beyond &= jnp.abs(bound - target) > jnp.abs(value - target)
        value = jnp.where(beyond, bound, value)
    value_loss = 0.5 * jnp.square(value - target).mean()

    entropy = actions.entropy().mean()
    total = (
        policy_loss
        + hyperparams["value_coefficient"] * value_loss
        - hyperparams["entropy_coefficient"] * entropy
    )
    info = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        # the low-variance estimator of http://joschu.net/blog/kl-approx.html
        "kl": jnp.mean(ratio - 1 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1) > clip),
    }
    return total, info


class Reading(NamedTuple):
    """How an agent runs its network over a window and learns from parts of it.

    unit: what the rows are, for messages.
    values: `(params, structure, obs [2, T, B, ...], trajectory) -> a pair of [T, B]`, of
        the observations acted on and of those that followed.
    rows: `(batch [T, B, ...], trajectory) -> rows [N, ...]`, what a minibatch takes whole.
    outputs: `(params, structure, rows [M, ...]) -> (outputs, batch)` of a minibatch.
    """

    unit: str
    values: Callable[..., PyTree]
    rows: Callable[[Batch, Trajectory], PyTree]
    outputs: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Batch]]


def proximal(
    name: str,
    reading: Reading,
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete | Box,
    hyperparams: dict[str, float],
    *,
    num_epochs: int,
    num_minibatches: int,
    normalize_observations: bool,
    normalize_rewards: bool,
    clip_values: bool,
    target_kl: float | None,
    decay_over: int | None,
    distribution: Callable | None,
    optimizer: Callable[[], optax.GradientTransformation] | None,
    axis_name: str | None,
) -> Agent:
    """Return the agent `name`, which learns from windows as `reading` says.

    The options are those of `optix.agents.ppo.ppo`.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names.
    """
    checks.positive_int("num_epochs", num_epochs)
    checks.positive_int("num_minibatches", num_minibatches)
    defaults = checks.floats(f"hyperparameter of {name}", hyperparams, HYPERPARAMS)
    if target_kl is not None:
        defaults["target_kl"] = checks.within("target_kl", target_kl, 0.0, 1e9)
    if decay_over is not None:
        checks.positive_int("decay_over", decay_over)
    optimizer = optimizer or network.optimizer
    discrete = isinstance(action_space, Discrete)
    distribution = distribution or (categorical if discrete else gaussian)
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )

    def rule_at(hyperparams, updates):
        rate = hyperparams["learning_rate"]
        if decay_over is not None:
            rate = rate * jnp.maximum(1 - updates / decay_over, 0.0)
        return update_rule(optimizer, {**hyperparams, "learning_rate": rate}, 1e-5)

    def init(key):
        params, structure = network.init(key)
        opt_state = rule_at(defaults, 0).init(params)
        extras = Extras(zero_moments(observation_shape), zero_moments(), jnp.int32(0))
        return Policy(params, structure, opt_state, extras)

    def act(policy, carry, obs, key, hyperparams, explore):
        del hyperparams
        obs = normal.view(policy.extras, obs)
        after, (parameters, value) = network.apply(
            policy.params, policy.structure, carry, obs
        )
        actions = distribution(parameters)
        if not explore:
            return after, actions.mode(), {}
        action, log_prob = actions.sample_and_log_prob(seed=key)
        # who remembers has the value at hand; others find all of a window's sooner
        before = {"carry": carry, "value": value} if jax.tree.leaves(carry) else {}
        return after, action, {"log_prob": log_prob, **before}

    def learn(policy, batch, key, hyperparams):
        """Learn from one `Trajectory` [T, B]."""
        check_batch(batch, Trajectory, "on_policy")
        samples = prepare(policy, batch, hyperparams)
        count = jax.tree.leaves(samples)[0].shape[0]
        if count % num_minibatches:
            raise ValueError(
                f"the {reading.unit} must be divisible by "
                f"num_minibatches={num_minibatches}, got {count}"
            )
        rule = rule_at(hyperparams, policy.extras.updates)

        def minibatch(carry, index):
            params, opt_state, running = carry
            rows = jax.tree.map(
                lambda x: x.at[index].get(mode="promise_in_bounds"), samples
            )

            def objective(params):
                outputs, part = reading.outputs(params, policy.structure, rows)
                return loss(
                    outputs, part, hyperparams, distribution, clip_values, axis_name
                )

            grads, info = jax.grad(objective, has_aux=True)(params)
            grads, info = mean_devices((grads, info), axis_name)
            updates, new_opt_state = rule.update(
                grads, opt_state, params, version=policy.structure
            )
            new = optax.apply_updates(params, updates), new_opt_state
            if target_kl is not None:
                running = running & (info["kl"] <= hyperparams["target_kl"])
                new = select(running, new, (params, opt_state))
            return (*new, running), info

        order = jax.lax.map(
            lambda k: random_permutation(k, count), jax.random.split(key, num_epochs)
        ).reshape(num_epochs * num_minibatches, count // num_minibatches)
        start = (policy.params, policy.opt_state, jnp.bool_(True))
        (params, opt_state, _), info = jax.lax.scan(minibatch, start, order)

        # afterwards: a window is learned from with the view that it was acted with
        extras = normal.observe(policy.extras, batch)
        extras = extras._replace(updates=extras.updates + 1)
        new = Policy(params, policy.structure, opt_state, extras)
        info = jax.tree.map(jnp.mean, info)
        # of a divergence of NaN, which passes no limit, only the information tells
        finite = all_finite((new, info))
        return select(finite, new, policy), {**info, "finite": finite}

    def prepare(policy, batch, hyperparams):
        """Advantages and values of a window, in the rows that minibatches take."""
        both = normal.view(policy.extras, jnp.stack([batch.obs, batch.next_obs]))
        values = reading.values(policy.params, policy.structure, both, batch)
        advantages = jax.vmap(
            generalized_advantages, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1
        )(
            normal.scale(policy.extras, batch.reward),
            values[0],
            values[1],
            batch.terminated,
            batch.truncated,
            hyperparams["discount"],
            hyperparams["gae_lambda"],
        )
        samples = Batch(
            both[0], batch.action, batch.extras["log_prob"], advantages, values[0]
        )
        return reading.rows(samples, batch)

    return Agent(init, network.initial_carry, act, learn, defaults)
