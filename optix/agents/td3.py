"""Twin delayed deep deterministic policy gradient (https://arxiv.org/abs/1802.09477).

A deterministic actor follows the first of two critics; their targets take the smaller
value of a smoothed target action. Actor and targets move only at every `policy_delay`-th
update. Actions are in [-1, 1]; the environment scales them.
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
from optix.xla.threefry import unrolled

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (1e-3, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "target_rate": (0.005, 0.0, 1.0),
    "exploration_noise": (0.1, 0.0, 10.0),
    "target_noise": (0.2, 0.0, 10.0),
    "target_noise_limit": (0.5, 0.0, 10.0),
    "max_grad_norm": (10.0, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "target_rate": (1e-3, 0.05),
    "exploration_noise": (0.02, 0.5),
}


def td3(
    networks: ActorAndCritic,
    observation_shape: tuple[int, ...],
    action_space: Box,
    *,
    policy_delay: int = 2,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a TD3 agent.

    Args:
      networks: feed-forward actor, whose output is squashed by tanh, and critic, which
        is made twice.
      observation_shape: of one observation.
      action_space: a one-dimensional `Box`; actions are in [-1, 1].
      policy_delay: updates of the critics for each of the actor and of the targets.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam. It is given `version=structure`.
      axis_name: devices whose batches form one.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: actions that are not a Box, sizes below one, floats out of range,
        unknown names, a network with a carry.

    >>> from optix.networks.continuous import actor_and_critic
    >>> networks = actor_and_critic((3,), Box((1,)), stochastic=False)
    >>> td3(networks, (3,), Box((1,))).hyperparams["target_noise"]
    0.2
    """
    checks.positive_int("policy_delay", policy_delay)
    size = action_size(action_space)
    floats = checks.floats("hyperparameter of td3", hyperparams, HYPERPARAMS)
    view = replay_view(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    optimizer = part_optimizer("td3", networks, optimizer)
    twins = twin_critics("td3", networks, observation_shape, size, stochastic=False)

    def init(key):
        params, structure = twins.init(key)
        rule = update_rule(optimizer, floats)
        opt_state = {part: rule.init(params[part]) for part in params}
        return Policy(params, structure, opt_state, view.init(params))

    def propose(params, structure, obs):
        return jnp.tanh(networks.actor.apply(params, structure["actor"], (), obs)[1])

    def outputs(policy, carry, obs):
        """The action itself."""
        obs = view.normalize(policy.extras, obs)
        return carry, propose(policy.params["actor"], policy.structure, obs)

    def act(policy, carry, obs, hyperparams, key, explore):
        _, action = outputs(policy, carry, obs)
        if explore:
            noise = jax.random.normal(unrolled(key), action.shape)
            action = action + hyperparams["exploration_noise"] * noise
            action = jnp.clip(action, -1.0, 1.0)
        return carry, action, {}

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Sample` of `Transition`."""
        params, structure, opt_state, extras = policy
        rows = view.rows(extras, batch)
        noise = hyperparams["target_noise"] * jax.random.normal(
            unrolled(key), rows.action.shape
        )
        limit = hyperparams["target_noise_limit"]
        next_action = propose(extras.target["actor"], structure, rows.next_obs)
        next_action = jnp.clip(next_action + jnp.clip(noise, -limit, limit), -1.0, 1.0)
        next_value = jnp.minimum(
            *twins.values(
                extras.target["critics"], structure, rows.next_obs, next_action
            )
        )
        target = rows.reward + rows.discount * next_value

        def actor_loss(actor_params, critics):
            action = propose(actor_params, structure, rows.obs)
            return -twins.values(critics, structure, rows.obs, action)[0].mean()

        update = updater(policy, update_rule(optimizer, hyperparams))

        (value_loss, td_error), grads = jax.value_and_grad(twins.loss, has_aux=True)(
            params["critics"], structure, rows, batch.weight, target
        )
        value_loss, grads = mean_devices((value_loss, grads), axis_name)
        critics, critics_state = update("critics", grads)

        def move_actor():
            policy_loss, grads = jax.value_and_grad(actor_loss)(
                params["actor"], critics
            )
            policy_loss, grads = mean_devices((policy_loss, grads), axis_name)
            new, actor_state = update("actor", grads)
            moved = {"actor": new, "critics": critics}
            target = update_target(extras.target, moved, hyperparams["target_rate"])
            return new, actor_state, target, jnp.float32(policy_loss)

        def wait():
            return params["actor"], opt_state["actor"], extras.target, jnp.float32(0)

        updates = next_turn(extras.updates, policy_delay)
        due = updates % policy_delay == 0
        new, actor_state, target_params, policy_loss = jax.lax.cond(
            due, move_actor, wait
        )
        info = {
            "value_loss": value_loss,
            "policy_loss": policy_loss * policy_delay,  # of the updates that have one
        }
        policy = Policy(
            {"actor": new, "critics": critics},
            structure,
            {"actor": actor_state, "critics": critics_state},
            extras._replace(target=target_params, updates=updates),
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
        output_names=("unit_action",),
        metrics=("policy_loss", "value_loss"),
    )
