"""Parallelised Q-learning, without a replay and without a target network
(https://arxiv.org/abs/2407.04811).

The values of the actions are regressed on the lambda returns of fresh windows, in epochs
of minibatches. Layer normalisation keeps that stable, so the network has it
(`action_values(..., layer_norm=True)`), and many environments stand in for a replay.
Acting is greedy but for a share epsilon of random actions, which falls linearly over the
environment steps. An episode cut by its time limit is bootstrapped from the observation
at which it was cut.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.dqn import epsilon_greedy, value_of
from optix.agents.fit import (
    check_batch,
    check_discrete,
    check_minibatches,
    check_outputs,
    feed_forward,
)
from optix.agents.masking import masked_values
from optix.agents.reading import Reading, single_samples
from optix.agents.updates import checked_optimizer, update_rule
from optix.agents.view import normalizers
from optix.agents.window import advantages, learn_in_epochs
from optix.math.masks import mask_of
from optix.math.running import Moments, initial_moments
from optix.trees import all_finite, count_devices, saturating_add, select
from optix.types import Agent, Discrete, Learned, Network, Policy, Trajectory

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (5e-4, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "td_lambda": (0.65, 0.0, 1.0),
    "epsilon_start": (1.0, 0.0, 1.0),
    "epsilon_end": (0.05, 0.0, 1.0),
    "epsilon_steps": (100_000.0, 1.0, 1e9),  # environment steps from start to end
    "max_grad_norm": (10.0, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "epsilon_end": (0.01, 0.2),
}


class WindowExtras(NamedTuple):
    """What a PQN policy carries besides parameters."""

    observations: Moments  # [*observation_shape]
    returns: Moments  # [] of the discounted return
    env_steps: jax.Array  # [] int32 learned from


def pqn(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete,
    *,
    num_epochs: int = 4,
    num_minibatches: int = 16,
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    reading: Reading | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a PQN agent.

    Args:
      network: feed-forward; `apply` gives the values of the actions [..., n].
      observation_shape: of one observation.
      action_space: `Discrete`.
      num_epochs: passes over a window.
      num_minibatches: parts of a pass; they must divide a window's samples.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam. It is given `version=structure`.
      axis_name: devices whose samples form one batch.
      reading: how the network is run over a window, as `valued` makes it; None runs it on
        single samples, and then it must have no carry.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: actions that are not discrete, sizes below one, floats out of range,
        unknown names, a network with a carry or of other outputs.

    >>> from optix.networks.values import action_values
    >>> network = action_values((4,), Discrete(2), layer_norm=True)
    >>> agent = pqn(network, (4,), Discrete(2), discount=0.98)
    >>> agent.hyperparams["discount"], agent.hyperparams["td_lambda"]
    (0.98, 0.65)
    """
    own, network = network, masked_values(network)
    if reading is None:
        feed_forward("pqn", own, "recurrent_pqn")
        checks.positive_int("num_minibatches", num_minibatches)
        parts = math.gcd(num_minibatches, 4)
        reading = single_samples("pqn", valued(network), parts)
    check_discrete(reading.agent, action_space)
    checks.positive_int("num_epochs", num_epochs)
    checks.positive_int("num_minibatches", num_minibatches)
    optimizer = checked_optimizer(optimizer, network.optimizer)
    name = f"hyperparameter of {reading.agent}"
    defaults = checks.floats(name, hyperparams, HYPERPARAMS)
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    check_outputs(
        f"network of {reading.agent}",
        network,
        (checks.shape("observation_shape", observation_shape),),
        lambda shape: shape == (action_space.n,),
        f"a value of each of {action_space.n} actions, as action_values(...) does",
    )

    def check_window(num_steps, num_envs):
        """Return the rows of a window, or raise ValueError."""
        count = reading.count(num_steps, num_envs)
        return check_minibatches(reading.unit, count, num_minibatches, None)

    def init(key):
        params, structure = network.init(key)
        opt_state = update_rule(optimizer, defaults).init(params)
        moments = initial_moments(observation_shape), initial_moments()
        return Policy(
            params, structure, opt_state, WindowExtras(*moments, jnp.int32(0))
        )

    def outputs(policy, carry, obs):
        """The values of all actions."""
        obs = normal.normalize(policy.extras, obs)
        return network.apply(policy.params, policy.structure, carry, obs)

    def act(policy, carry, obs, hyperparams, key, explore):
        after, values = outputs(policy, carry, obs)
        if not explore:
            return after, jnp.argmax(values, -1), {}
        steps = policy.extras.env_steps
        action = epsilon_greedy(values, steps, hyperparams, key, mask_of(obs))
        remembers = bool(jax.tree.leaves(carry))
        before = {"carry": carry, "value": values.max(-1)} if remembers else {}
        return after, action, before

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Trajectory` [T, B]."""
        check_batch(batch, Trajectory, "on_policy")
        count = check_window(*batch.reward.shape)
        extras = normal.observe(policy.extras, batch)
        rows, see = advantages(
            normal,
            reading,
            policy,
            batch,
            extras,
            hyperparams["discount"],
            hyperparams["td_lambda"],
        )

        def objective(params, rows):
            (values, _), part = reading.outputs(params, policy.structure, rows, see)
            value = value_of(values, part.action)
            error = value - (part.value + part.advantage)
            loss = 0.5 * jnp.square(error).mean()
            return loss, {"value_loss": loss, "value": value.mean()}

        params, opt_state, info = learn_in_epochs(
            objective,
            update_rule(optimizer, hyperparams),
            policy,
            rows,
            key,
            count=count,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            axis_name=axis_name,
        )
        steps = batch.reward.size * count_devices(axis_name)
        env_steps = saturating_add(extras.env_steps, steps)
        extras = extras._replace(env_steps=env_steps)
        new = Policy(params, policy.structure, opt_state, extras)
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
        output_names=("q_values",),
        metrics=("value", "value_loss"),
    )


def valued(network: Network) -> Network:
    """Return the network that gives (values of the actions, the best of them)."""

    def with_best(result):
        carry, values = result
        return carry, (values, values.max(-1))

    def apply(*arguments):
        return with_best(network.apply(*arguments))

    whole = network.sequence

    def sequence(*arguments):
        return with_best(whole(*arguments)) if whole else None

    return network._replace(apply=apply, sequence=sequence if whole else None)
