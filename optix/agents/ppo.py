"""Proximal policy optimisation (https://arxiv.org/abs/1707.06347).

A window of experience is learned from in several epochs of minibatches. Advantages are
generalised (GAE); an episode cut by its time limit is bootstrapped from the observation
at which it was cut. Observations are normalised by running moments, rewards by the
standard deviation of the discounted return; both live in `Policy.extras`. How a network
is run over a window, and what the rows of a minibatch are, a `Reading` of
`optix.agents.reading` says: single samples here, sequences in
`optix.agents.recurrent_ppo`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.distributions import usual
from optix.agents.fit import (
    check_batch,
    check_heads,
    check_minibatches,
    feed_forward,
)
from optix.agents.masking import masked_policy
from optix.agents.reading import Batch, Reading, single_samples
from optix.agents.updates import checked_optimizer, update_rule
from optix.agents.view import normalizers
from optix.agents.window import advantages, learn_in_epochs
from optix.math.running import Moments, initial_moments, pool
from optix.networks.mlp import check_actions
from optix.trees import all_finite, next_turn, select
from optix.types import (
    ActionSpace,
    Agent,
    Hyperparams,
    Learned,
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


# of the loss of every minibatch, their means
_TOLD = ("clip_fraction", "entropy", "kl", "policy_loss", "value_loss")


class ProximalExtras(NamedTuple):
    """What a PPO policy carries besides parameters."""

    observations: Moments  # [*observation_shape]
    returns: Moments  # [] of the discounted return
    updates: jax.Array  # [] int32 windows learned from


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


def ppo(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: ActionSpace,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    normalize_observations: bool = True,
    normalize_rewards: bool = True,
    clip_values: bool = True,
    target_kl: float | None = None,
    decay_over: int | None = None,
    distribution: Callable | None = None,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    reading: Reading | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a PPO agent.

    Args:
      network: feed-forward; `apply` gives (distribution parameters, value).
      observation_shape: of one observation.
      action_space: what the environment takes: one number, several or a box.
      num_epochs: passes over a window.
      num_minibatches: parts of a pass; they must divide a window's samples.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      clip_values: clip the value loss as the policy loss.
      target_kl: end a window's updates when the divergence from the behaviour passes
        this; it then is a hyperparameter. None never does.
      decay_over: windows over which the learning rate falls linearly to zero. None
        keeps it, which a run that does not know its own length wants.
      distribution: distribution parameters -> distrax-like distribution; None takes
        the `usual` one of the action space, see `optix.agents.distributions`.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam with epsilon 1e-5. It is given `version=structure`.
      axis_name: devices whose samples form one batch.
      reading: how the network is run over a window; None runs it on single samples, and
        then it must have no carry.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names, a network with a
        carry.

    >>> from optix.networks.mlp import actor_critic
    >>> from optix.types import Discrete
    >>> agent = ppo(actor_critic((4,), Discrete(2)), (4,), Discrete(2), discount=0.98)
    >>> agent.hyperparams["discount"], agent.hyperparams["clip_ratio"]
    (0.98, 0.2)
    """
    own, network = network, masked_policy(network, action_space)
    if reading is None:
        feed_forward("ppo", own)
        # parts that divide the samples wherever the minibatches do
        checks.positive_int("num_minibatches", num_minibatches)
        reading = single_samples("ppo", network, math.gcd(num_minibatches, 4))
    check_actions(action_space)
    checks.positive_int("num_epochs", num_epochs)
    checks.positive_int("num_minibatches", num_minibatches)
    checks.boolean("clip_values", clip_values)
    defaults = checks.floats(
        f"hyperparameter of {reading.agent}", hyperparams, HYPERPARAMS
    )
    if target_kl is not None:
        defaults["target_kl"] = checks.within("target_kl", target_kl, 0.0, 1e9)
    if decay_over is not None:
        checks.positive_int("decay_over", decay_over)
    optimizer = checked_optimizer(optimizer, network.optimizer)
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    if distribution is not None:
        checks.function("distribution", distribution, "it makes one of parameters")
    name = f"network of {reading.agent}"
    check_heads(name, network, observation_shape, action_space, distribution)
    output_names = ()  # a distribution of the user's own has parameters of its own
    if distribution is None:
        distribution, output_names = usual(action_space)

    def check_window(num_steps, num_envs):
        """Return the rows of a window, or raise ValueError."""
        count = reading.count(num_steps, num_envs)
        samples = num_steps * num_envs if axis_name is None else None
        return check_minibatches(reading.unit, count, num_minibatches, samples)

    def rule_at(hyperparams, updates):
        rate = hyperparams["learning_rate"]
        if decay_over is not None:
            rate = rate * jnp.maximum(1 - updates / decay_over, 0.0)
        return update_rule(optimizer, {**hyperparams, "learning_rate": rate}, 1e-5)

    def init(key):
        params, structure = network.init(key)
        opt_state = rule_at(defaults, 0).init(params)
        extras = ProximalExtras(
            initial_moments(observation_shape), initial_moments(), jnp.int32(0)
        )
        return Policy(params, structure, opt_state, extras)

    def read(policy, carry, obs):
        obs = normal.normalize(policy.extras, obs)
        return network.apply(policy.params, policy.structure, carry, obs)

    def outputs(policy, carry, obs):
        """The parameters of the actions' distribution."""
        after, (parameters, _) = read(policy, carry, obs)
        return after, parameters

    def act(policy, carry, obs, hyperparams, key, explore):
        del hyperparams
        after, (parameters, value) = read(policy, carry, obs)
        actions = distribution(parameters)
        if not explore:
            return after, actions.mode(), {}
        action, log_prob = actions.sample_and_log_prob(seed=key)
        # who remembers has the value at hand; others find all of a window's sooner
        before = {"carry": carry, "value": value} if jax.tree.leaves(carry) else {}
        return after, action, {"log_prob": log_prob, **before}

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Trajectory` [T, B]."""
        check_batch(batch, Trajectory, "on_policy")
        count = check_window(*batch.reward.shape)
        # rewards by the scale of this window too, for one that only the last ones had
        # would throw the first large rewards away, and their scale with them
        extras = normal.observe(policy.extras, batch)
        rows, see = advantages(
            normal,
            reading,
            policy,
            batch,
            extras,
            hyperparams["discount"],
            hyperparams["gae_lambda"],
        )

        def objective(params, rows):
            outputs, part = reading.outputs(params, policy.structure, rows, see)
            return loss(
                outputs, part, hyperparams, distribution, clip_values, axis_name
            )

        def goes_on(info):
            return info["kl"] <= hyperparams["target_kl"]

        params, opt_state, info = learn_in_epochs(
            objective,
            rule_at(hyperparams, policy.extras.updates),
            policy,
            rows,
            key,
            count=count,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            axis_name=axis_name,
            goes_on=None if target_kl is None else goes_on,
        )
        extras = extras._replace(updates=next_turn(extras.updates))
        new = Policy(params, policy.structure, opt_state, extras)
        # of a divergence of NaN, which passes no limit, only the information tells
        finite = all_finite((new, info))
        return Learned(select(finite, new, policy), info, finite)

    return Agent(
        init,
        network.initial_carry,
        act,
        learn,
        defaults,
        outputs=outputs,
        axis_name=axis_name,
        check_window=check_window,
        output_names=output_names,
        metrics=_TOLD,
    )
