"""Deep Q-learning (https://arxiv.org/abs/1312.5602), double
(https://arxiv.org/abs/1509.06461).

The value of every action is learned from replayed transitions. Acting is greedy but for
a share epsilon of random actions, which falls linearly over the environment steps.
Returns of several steps and prioritised replay are the learner's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.fit import check_discrete, check_outputs, feed_forward
from optix.agents.masking import masked_values
from optix.agents.updates import apply_update, checked_optimizer, update_rule
from optix.agents.view import replay_view
from optix.math.masks import mask_of, random_action
from optix.trees import mean_devices
from optix.types import Agent, Discrete, Learned, Network, Policy
from optix.xla.threefry import unrolled

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (5e-4, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "epsilon_start": (1.0, 0.0, 1.0),
    "epsilon_end": (0.05, 0.0, 1.0),
    "epsilon_steps": (25_000.0, 1.0, 1e9),  # environment steps from start to end
    "target_rate": (1.0, 0.0, 1.0),  # 1 copies, less follows softly
    "max_grad_norm": (10.0, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "epsilon_end": (0.01, 0.2),
}


def dqn(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete,
    *,
    double: bool = True,
    target_period: int = 50,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a DQN agent.

    Args:
      network: feed-forward; `apply` gives the values of the actions [..., n].
      observation_shape: of one observation.
      action_space: `Discrete`.
      double: the online network chooses the action that the target network values.
      target_period: updates between two moves of the target by `target_rate`.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam. It is given `version=structure`.
      axis_name: devices whose batches form one.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: actions that are not discrete, sizes below one, floats out of range,
        unknown names, a network with a carry or of other inputs or outputs.

    >>> from optix.networks.values import action_values
    >>> agent = dqn(action_values((4,), Discrete(2)), (4,), Discrete(2), discount=0.98)
    >>> agent.hyperparams["discount"], agent.hyperparams["epsilon_start"]
    (0.98, 1.0)
    """
    check_discrete("dqn", action_space)
    checks.boolean("double", double)
    checks.positive_int("target_period", target_period)
    feed_forward("dqn", network)
    network = masked_values(network)
    optimizer = checked_optimizer(optimizer, network.optimizer)
    floats = checks.floats("hyperparameter of dqn", hyperparams, HYPERPARAMS)
    view = replay_view(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    check_outputs(
        "network of dqn",
        network,
        (checks.shape("observation_shape", observation_shape),),
        lambda shape: shape == (action_space.n,),
        f"a value of each of {action_space.n} actions, as action_values(...) does",
    )

    def values(params, structure, obs):
        return network.apply(params, structure, (), obs)[1]

    def init(key):
        params, structure = network.init(key)
        opt_state = update_rule(optimizer, floats).init(params)
        return Policy(params, structure, opt_state, view.init(params))

    def outputs(policy, carry, obs):
        """The values of all actions."""
        obs = view.normalize(policy.extras, obs)
        return carry, values(policy.params, policy.structure, obs)

    def act(policy, carry, obs, hyperparams, key, explore):
        carry, values = outputs(policy, carry, obs)
        if not explore:
            return carry, jnp.argmax(values, -1), {}
        steps = policy.extras.env_steps
        mask = mask_of(obs)
        return carry, epsilon_greedy(values, steps, hyperparams, key, mask), {}

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Sample` of `Transition`."""
        del key
        params, structure, _, extras = policy
        rows = view.rows(extras, batch)
        next_target = values(extras.target, structure, rows.next_obs)
        chooser = values(params, structure, rows.next_obs) if double else next_target
        next_value = value_of(next_target, jnp.argmax(chooser, -1))
        target = rows.reward + rows.discount * next_value

        def loss(params):
            value = value_of(values(params, structure, rows.obs), rows.action)
            error = value - target
            return jnp.mean(batch.weight * 0.5 * jnp.square(error)), (value, error)

        (value_loss, (value, error)), grads = jax.value_and_grad(loss, has_aux=True)(
            params
        )
        info = {"value_loss": value_loss, "value": value.mean()}
        grads, info = mean_devices((grads, info), axis_name)
        rule = update_rule(optimizer, hyperparams)
        rate = hyperparams["target_rate"]
        policy = apply_update(policy, grads, rule, rate, target_period)
        return Learned(policy, info, priority=jnp.abs(error))

    return Agent(
        init,
        lambda batch: (),
        act,
        learn,
        floats,
        view.observe,
        outputs,
        axis_name,
        output_names=("q_values",),
        metrics=("value", "value_loss"),
    )


def exploration_rate(env_steps: jax.Array, hyperparams) -> jax.Array:
    """Return epsilon [], linear in the environment steps and then constant."""
    share = jnp.clip(env_steps / hyperparams["epsilon_steps"], 0.0, 1.0)
    start, end = hyperparams["epsilon_start"], hyperparams["epsilon_end"]
    return start + share * (end - start)


def epsilon_greedy(
    values: jax.Array, env_steps: jax.Array, hyperparams, key, mask=None
):
    """Return the best action of [B, n] values, [B], or with chance epsilon any allowed."""
    greedy = jnp.argmax(values, -1)
    epsilon = exploration_rate(env_steps, hyperparams)
    coin_key, action_key = jax.random.split(unrolled(key))
    coin = jax.random.uniform(coin_key, greedy.shape)
    if mask is None:
        anything = jax.random.randint(action_key, greedy.shape, 0, values.shape[-1])
    else:
        anything = random_action(action_key, mask)
    return jnp.where(coin < epsilon, anything, greedy)


def value_of(values: jax.Array, action: jax.Array) -> jax.Array:
    """Return the value of each row's action, [...] of [..., n]."""
    return jnp.sum(values * jax.nn.one_hot(action, values.shape[-1]), -1)
