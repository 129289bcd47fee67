"""Proximal policy optimisation of continuous actions, in Torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix.host.bounds import BoxActions, action_bounds
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.host.window import EpisodeData
from optix.types import Box
from optix_torch.actions import Gaussian, decoded
from optix_torch.networks import Dense, GaussianHead, network
from optix_torch.on_policy import FeedForwardAgent


class TorchGaussianPPOAgent(BoxActions, FeedForwardAgent):
    """PPO (https://arxiv.org/abs/1707.06347) of continuous actions.

    Actions are drawn from a Gaussian; -1 and 1 are the bounds of the environment's, and
    what is beyond them is clipped on its way there. Learned is from what was drawn.

    Args:
      actor: observations [N, ...] -> means, and log scales beside them [N, 2 action_dim].
      critic: observations [N, ...] -> values [N, 1] or [N].
      optimizer: of the parameters of both; None is Adam with epsilon 1e-5.
      action_dim: entries of an action.
      hyperparams: as of `TorchPPOAgent`.
      device: as of `TorchPPOAgent`.
      reward_normalizer: as of `TorchPPOAgent`.
      bounds: (low, high) of the environment's actions, numbers or arrays.
      **options: normalize_observations, normalize_rewards, clip_values, target_kl and
        observation_shape, as of `TorchPPOAgent`.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, an optimizer of other
        parameters, bounds that are none, a device that is not there.

    >>> actor, critic = nn.Linear(3, 2), nn.Linear(3, 1)
    >>> agent = TorchGaussianPPOAgent(actor, critic, None, 1, bounds=(-2.0, 2.0))
    >>> agent.act(np.zeros(3)).shape
    (1,)
    """

    distribution = Gaussian
    drawn = "drawn"

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: Optimizer | None = None,
        action_dim: int = 1,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        *,
        bounds: tuple[Any, Any] = (-1.0, 1.0),
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.bounds = action_bounds(action_dim, bounds)
        super().__init__(
            {"actor": actor, "critic": critic},
            optimizer,
            hyperparams,
            device,
            reward_normalizer,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            clip_values=clip_values,
            target_kl=target_kl,
            observation_shape=observation_shape,
        )

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        **options: Any,
    ) -> TorchGaussianPPOAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of actor and critic.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TorchGaussianPPOAgent.for_env(gymnasium.make("Pendulum-v1"))
        >>> agent.bounds.unit.tolist()
        [2.0]
        """

        def networks(observed, size):
            def actor(width):
                return GaussianHead(width, size)

            def critic(width):
                return Dense(width, 1)

            return {
                "actor": network(observed, hidden, actor, activation),
                "critic": network(observed, hidden, critic, activation),
                "action_dim": size,
            }

        return fitted(cls, env, Box, networks, options)

    def _bounded(self, action: torch.Tensor) -> torch.Tensor:
        return decoded(self.bounds, action)

    def _check_actor(self, out: torch.Tensor) -> None:
        self.checked(out, 2, "a mean and a log scale")

    def _drawn(self, window: EpisodeData) -> np.ndarray:
        drawn = window.extras.get("drawn")
        return self.bounds.encode(window.actions) if drawn is None else drawn
