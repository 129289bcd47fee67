"""An actor and two critics, as SAC and TD3 have them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.fit import check_network, check_outputs, feed_forward
from optix.agents.updates import Optimizer, apply_gradients, checked_optimizer
from optix.networks.continuous import ActorAndCritic
from optix.trees import take
from optix.types import Policy, PyTree


class TwinCritics(NamedTuple):
    """Functions of parameters and structures {"actor": ..., "critics": (..., ...)}.

    init: `(key) -> (params, structure)`.
    values: `(critics, structure, obs, action) -> [value [N], value [N]]`.
    loss: `(critics, structure, rows, weight [N], target [N]) -> (loss [], error [N])`,
        the squared errors of both and the mean of their sizes.
    """

    init: Callable[[jax.Array], tuple[dict, dict]]
    values: Callable[..., list[jax.Array]]
    loss: Callable[..., tuple[jax.Array, jax.Array]]


def twin_critics(
    agent: str,
    networks: ActorAndCritic,
    observation_shape: tuple[int, ...],
    size: int,
    stochastic: bool,
) -> TwinCritics:
    """Return the `TwinCritics` of feed-forward networks; the critic is made twice.

    Args:
      agent: its name, for messages.
      networks: actor and critic.
      observation_shape: of one observation.
      size: number of actions.
      stochastic: the actor gives a mean and a log scale, else only a mean.

    Raises:
      ValueError: something else, or a network with a carry or of other inputs or outputs.
    """
    _check_networks(agent, networks)
    actor, critic = networks
    feed_forward(agent, actor)
    feed_forward(agent, critic)
    shape = checks.shape("observation_shape", observation_shape)
    check_outputs(
        f"actor of {agent}",
        actor,
        (shape,),
        lambda out: out == (((size,), (size,)) if stochastic else (size,)),
        f"{'(mean, log_scale)' if stochastic else 'a mean'} of {size} actions, as "
        f"actor_and_critic(..., stochastic={stochastic}) does",
    )
    check_outputs(
        f"critic of {agent}",
        critic,
        (shape, (size,)),
        lambda out: out == (),
        "one value",
    )

    def init(key):
        keys = jax.random.split(key, 3)
        actor_params, actor_structure = actor.init(keys[0])
        # compiled once for both
        stack = jax.lax.map(critic.init, keys[1:])
        # two of everything: on a CPU a pair runs faster than a stack of two
        critic_params, critic_structure = zip(
            take(stack, 0), take(stack, 1), strict=True
        )
        params = {"actor": actor_params, "critics": critic_params}
        return params, {"actor": actor_structure, "critics": critic_structure}

    def values(critics: PyTree, structure: PyTree, obs: PyTree, action: jax.Array):
        return [
            critic.apply(own, its_structure, (), (obs, action))[1]
            for own, its_structure in zip(critics, structure["critics"], strict=True)
        ]

    def loss(critics, structure, rows, weight, target):
        one, two = (
            value - target
            for value in values(critics, structure, rows.obs, rows.action)
        )
        total = jnp.mean(weight * 0.5 * jnp.square(one))
        total += jnp.mean(weight * 0.5 * jnp.square(two))
        return total, (jnp.abs(one) + jnp.abs(two)) / 2

    return TwinCritics(init, values, loss)


def part_optimizer(agent: str, networks: ActorAndCritic, given: Optimizer) -> Optimizer:
    """Return the optimizer of both parts: the one given, else what a network wants."""
    _check_networks(agent, networks)
    return checked_optimizer(given, *(part.optimizer for part in networks))


def _check_networks(agent, networks):
    checks.record(
        f"networks of {agent}", networks, ActorAndCritic, "use actor_and_critic"
    )
    for part in networks:
        check_network(part)


def updater(
    policy: Policy, rule: optax.GradientTransformationExtraArgs
) -> Callable[[str, PyTree], tuple[PyTree, PyTree]]:
    """Return `(part, grads) -> (params, opt_state)` of a part of the policy.

    Each part has its own optimizer state.
    """

    def update(part, grads):
        return apply_gradients(
            rule,
            grads,
            policy.opt_state[part],
            policy.params[part],
            policy.structure.get(part, ()),
        )

    return update
