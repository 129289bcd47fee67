"""Proximal policy optimisation of discrete actions, in Torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.types import Discrete
from optix_torch.actions import Categorical, count_of
from optix_torch.networks import Dense, network
from optix_torch.on_policy import FeedForwardAgent


class TorchPPOAgent(FeedForwardAgent):
    """PPO (https://arxiv.org/abs/1707.06347) of discrete actions.

    Args:
      actor: observations [N, ...] -> logits [N, n].
      critic: observations [N, ...] -> values [N, 1] or [N].
      optimizer: of the parameters of both; None is Adam with epsilon 1e-5.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        gae_lambda, clip_ratio, entropy_coefficient, value_coefficient, max_grad_norm,
        which the loop may tune, num_epochs and num_minibatches. Without a learning_rate
        it is the optimizer's.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      reward_normalizer: in place of the agent's own, with `num_envs` of the pipeline's.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      clip_values: clip the value loss as the policy loss.
      target_kl: end a window's updates when the divergence from the behaviour passes
        this; it then is a hyperparameter. None never does.
      observation_shape: of one observation; None takes that of the first one seen.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, an optimizer of other
        parameters, a device that is not there.

    >>> actor, critic = nn.Linear(4, 2), nn.Linear(4, 1)
    >>> agent = TorchPPOAgent(actor, critic, hyperparams={"discount": 0.98})
    >>> agent.act(np.zeros(4)) in (0, 1)
    True
    """

    distribution = Categorical
    takes_masks = True

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        *,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
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
    ) -> TorchPPOAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with discrete actions; single or vectorised.
          hidden: widths of the hidden layers of actor and critic.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> agent = TorchPPOAgent.for_env(env, hidden=(32,), clip_ratio=0.1)
        >>> agent.hyperparams["clip_ratio"], agent.action_probs(np.zeros(4)).shape
        (0.1, (2,))
        """

        def networks(observed, n):
            def actor(width):
                return Dense(width, n)

            def critic(width):
                return Dense(width, 1)

            return {
                "actor": network(observed, hidden, actor, activation),
                "critic": network(observed, hidden, critic, activation),
            }

        return fitted(cls, env, Discrete, networks, options)

    def _check_actor(self, out: torch.Tensor) -> None:
        self.number_of_actions = count_of("actor", out)

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return the probabilities of the actions, [B, n]."""
        with torch.inference_mode():
            actions = self._actions(self.view(observations))
            return actions.log_probs.exp().cpu().numpy()
