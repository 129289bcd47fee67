"""Proximal policy optimisation (https://arxiv.org/abs/1707.06347).

A window of experience is learned from in several epochs of minibatches. Advantages are
generalised (GAE); an episode cut by its time limit is bootstrapped from the observation
at which it was cut. Observations are normalised by running moments, rewards by the
standard deviation of the discounted return; both live in `Policy.extras`.
"""

from collections.abc import Callable

import jax
import optax

from optix.agents.proximal import (
    HYPERPARAMS,
    TUNED,
    Batch,
    Extras,
    Reading,
    categorical,
    gaussian,
    loss,
    proximal,
)
from optix.agents.shared import feed_forward
from optix.types import Agent, Box, Discrete, Network

__all__ = [
    "HYPERPARAMS",
    "TUNED",
    "Batch",
    "Extras",
    "categorical",
    "gaussian",
    "loss",
    "ppo",
]


def ppo(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete | Box,
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
    **hyperparams: float,
) -> Agent:
    """Return a PPO agent.

    Args:
      network: feed-forward; `apply` gives (distribution parameters, value).
      observation_shape: of one observation.
      action_space: what the environment takes.
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
        `categorical` or `gaussian` by the action space.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam with epsilon 1e-5. It is given `version=structure`.
      axis_name: devices whose samples form one batch.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names, a network with a
        carry.

    >>> from optix.networks.mlp import actor_critic
    >>> agent = ppo(actor_critic((4,), Discrete(2)), (4,), Discrete(2), discount=0.98)
    >>> agent.hyperparams["discount"], agent.hyperparams["clip_ratio"]
    (0.98, 0.2)
    """
    feed_forward("ppo", network)

    def values(params, structure, obs, trajectory):
        del trajectory
        return network.apply(params, structure, (), obs)[1][1]

    def rows(batch, trajectory):
        del trajectory
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def outputs(params, structure, part):
        return network.apply(params, structure, (), part.obs)[1], part

    return proximal(
        "ppo",
        Reading("samples of a window (num_steps * num_envs)", values, rows, outputs),
        network,
        observation_shape,
        action_space,
        hyperparams,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        normalize_observations=normalize_observations,
        normalize_rewards=normalize_rewards,
        clip_values=clip_values,
        target_kl=target_kl,
        decay_over=decay_over,
        distribution=distribution,
        optimizer=optimizer,
        axis_name=axis_name,
    )
