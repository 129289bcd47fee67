"""Soft actor-critic (https://arxiv.org/abs/1812.05905).

A tanh-squashed Gaussian actor learns to maximise the smaller of two critics plus its own
entropy, whose temperature is tuned to a target entropy. Actions are in [-1, 1]; the
environment scales them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.twin_critics import part_optimizer, twin_critics, updater
from optix.agents.updates import update_rule, update_target
from optix.agents.view import replay_view
from optix.networks.continuous import ActorAndCritic, action_size
from optix.trees import mean_devices, next_turn
from optix.types import Agent, Box, Learned, Policy
from optix.xla.kept import normal
from optix.xla.threefry import unrolled

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (1e-3, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "target_rate": (0.005, 0.0, 1.0),
    "entropy_scale": (1.0, -1e3, 1e3),  # target entropy is minus this, per action
    "max_grad_norm": (10.0, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "target_rate": (1e-3, 0.05),
    "entropy_scale": (0.25, 2.0),
}
LOG_SCALE = (-20.0, 2.0)  # of the Gaussian before squashing


def squashed_gaussian(
    mean: jax.Array, log_scale: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return an action in (-1, 1) [..., size] and its log density [...].

    Args:
      mean: of the Gaussian before tanh, [..., size].
      log_scale: of the same, [..., size].
      noise: standard normal, [..., size].
    """
    before = mean + jnp.exp(log_scale) * noise
    log_normal = -0.5 * jnp.square(noise) - log_scale - 0.5 * jnp.log(2 * jnp.pi)
    # log(1 - tanh(x)**2) without cancellation
    log_slope = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
    return jnp.tanh(before), (log_normal - log_slope).sum(-1)


def sac(
    networks: ActorAndCritic,
    observation_shape: tuple[int, ...],
    action_space: Box,
    *,
    tune_temperature: bool = True,
    initial_temperature: float = 1.0,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a SAC agent.

    Args:
      networks: feed-forward actor and critic; the critic is made twice.
      observation_shape: of one observation.
      action_space: a one-dimensional `Box`; actions are in [-1, 1].
      tune_temperature: towards a target entropy of `-entropy_scale` per action; else
        the initial temperature is kept.
      initial_temperature: the weight of the entropy at first.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam. It is given `version=structure`.
      axis_name: devices whose batches form one.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: actions that are not a Box, floats out of range, unknown names, a
        network with a carry.

    >>> from optix.networks.continuous import actor_and_critic
    >>> agent = sac(actor_and_critic((3,), Box((1,))), (3,), Box((1,)), discount=0.98)
    >>> agent.hyperparams["discount"], agent.hyperparams["target_rate"]
    (0.98, 0.005)
    """
    checks.boolean("tune_temperature", tune_temperature)
    initial_temperature = checks.within(
        "initial_temperature", initial_temperature, 0.0, 1e9, open_ends=True
    )
    size = action_size(action_space)
    floats = checks.floats("hyperparameter of sac", hyperparams, HYPERPARAMS)
    view = replay_view(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    optimizer = part_optimizer("sac", networks, optimizer)
    twins = twin_critics("sac", networks, observation_shape, size, stochastic=True)

    def init(key):
        params, structure = twins.init(key)
        params["log_temperature"] = jnp.log(jnp.float32(initial_temperature))
        rule = update_rule(optimizer, floats)
        opt_state = {part: rule.init(params[part]) for part in params}
        return Policy(params, structure, opt_state, view.init(params["critics"]))

    def gaussian(params, structure, obs):
        """The mean and log scale of the actions before they are squashed."""
        _, (mean, log_scale) = networks.actor.apply(params, structure["actor"], (), obs)
        return mean, jnp.clip(log_scale, *LOG_SCALE)

    def propose(params, structure, obs, noise):
        return squashed_gaussian(*gaussian(params, structure, obs), noise)

    def outputs(policy, carry, obs):
        """The Gaussian whose samples tanh makes actions, (mean, log scale)."""
        obs = view.normalize(policy.extras, obs)
        return carry, gaussian(policy.params["actor"], policy.structure, obs)

    def act(policy, carry, obs, hyperparams, key, explore):
        del hyperparams
        obs = view.normalize(policy.extras, obs)
        shape = (*obs.shape[: obs.ndim - len(observation_shape)], size)
        noise = jax.random.normal(unrolled(key), shape) if explore else jnp.zeros(shape)
        action, _ = propose(policy.params["actor"], policy.structure, obs, noise)
        return carry, action, {}

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Sample` of `Transition`."""
        params, structure, opt_state, extras = policy
        rows = view.rows(extras, batch)
        noise = normal(key, (2, rows.reward.shape[0], size))
        temperature = jnp.exp(params["log_temperature"])

        next_action, next_log_prob = propose(
            params["actor"], structure, rows.next_obs, noise[0]
        )
        next_value = jnp.minimum(
            *twins.values(extras.target, structure, rows.next_obs, next_action)
        )
        next_value = next_value - temperature * next_log_prob
        target = rows.reward + rows.discount * next_value

        def actor_loss(actor_params, critics):
            action, log_prob = propose(actor_params, structure, rows.obs, noise[1])
            value = jnp.minimum(*twins.values(critics, structure, rows.obs, action))
            return jnp.mean(temperature * log_prob - value), -log_prob.mean()

        update = updater(policy, update_rule(optimizer, hyperparams))

        (value_loss, td_error), grads = jax.value_and_grad(twins.loss, has_aux=True)(
            params["critics"], structure, rows, batch.weight, target
        )
        value_loss, grads = mean_devices((value_loss, grads), axis_name)
        critics, critics_state = update("critics", grads)
        (policy_loss, entropy), grads = jax.value_and_grad(actor_loss, has_aux=True)(
            params["actor"], critics
        )
        policy_loss, entropy, grads = mean_devices(
            (policy_loss, entropy, grads), axis_name
        )
        actor, actor_state = update("actor", grads)
        log_temperature = params["log_temperature"]
        temperature_state = opt_state["log_temperature"]
        if tune_temperature:
            # the gradient of log_temperature * (entropy - target entropy)
            grads = entropy + size * hyperparams["entropy_scale"]
            log_temperature, temperature_state = update("log_temperature", grads)

        target_params = update_target(
            extras.target, critics, hyperparams["target_rate"]
        )
        info = {
            "value_loss": value_loss,
            "policy_loss": policy_loss,
            "entropy": entropy,
            "temperature": temperature,
        }
        policy = Policy(
            {
                "actor": actor,
                "critics": critics,
                "log_temperature": log_temperature,
            },
            structure,
            {
                "actor": actor_state,
                "critics": critics_state,
                "log_temperature": temperature_state,
            },
            extras._replace(target=target_params, updates=next_turn(extras.updates)),
        )
        return Learned(policy, info, priority=td_error)

    return Agent(
        init,
        lambda batch: (),
        act,
        learn,
        floats,
        view.observe,
        outputs,
        axis_name,
        output_names=("mean", "log_scale"),
        metrics=("entropy", "policy_loss", "temperature", "value_loss"),
    )
