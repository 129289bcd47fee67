"""Twin delayed deep deterministic policy gradient in Torch.

https://arxiv.org/abs/1802.09477. A deterministic actor follows the first of two critics;
their targets take the smaller value of a smoothed target action. Actor and targets move
only at every `policy_delay`-th update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from optix.agents.td3 import HYPERPARAMS
from optix.host.network_agent import Hyperparams
from optix.host.replaying import replay_floats, replay_sizes
from optix_torch.actions import decoded
from optix_torch.critics import TwinCriticAgent
from optix_torch.networks import Dense
from optix_torch.off_policy import follow


class TorchTD3Agent(TwinCriticAgent):
    """TD3 of continuous actions.

    Args:
      actor: observations [N, ...] -> actions in [-1, 1], [N, action_dim]: it ends in tanh.
      critic1: rows of observation and action [N, *] -> values [N, 1] or [N].
      critic2: another one.
      action_dim: entries of an action.
      actor_optimizer: of the actor's parameters; None is Adam.
      critic_optimizer: of both critics' parameters; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        target_rate, exploration_noise, target_noise, target_noise_limit, max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts, n_step and policy_delay. Without a learning_rate it is
        the actor's optimizer's.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      bounds: (low, high) of the environment's actions, numbers or arrays.
      prioritised: as of `TorchSACAgent`.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes that of the first one seen.

    Raises:
      ValueError: one critic twice, an unknown hyperparameter or one out of its range, an
        optimizer of other parameters, bounds that are none, a device that is not there.

    >>> import numpy as np
    >>> actor = nn.Sequential(nn.Linear(3, 1), nn.Tanh())
    >>> agent = TorchTD3Agent(actor, nn.Linear(4, 1), nn.Linear(4, 1), 1)
    >>> agent.hyperparams["policy_delay"], agent.act(np.zeros(3)).shape
    (2, (1,))
    """

    FLOATS = replay_floats(HYPERPARAMS, 1.0)
    SIZES = {**replay_sizes(256), "policy_delay": (2, 1)}
    FOLLOWED: ClassVar = ("actor", "critic1", "critic2")
    NAMES = ("value_loss", "policy_loss", "grad_norm")

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        action_dim: int,
        actor_optimizer: Optimizer | None = None,
        critic_optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        *,
        bounds: tuple[Any, Any] = (-1.0, 1.0),
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        super().__init__(
            {"actor": actor, "critic1": critic1, "critic2": critic2},
            action_dim,
            hyperparams,
            device,
            bounds,
            actor_optimizer,
            critic_optimizer,
            prioritised=prioritised,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            observation_shape=observation_shape,
        )

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        **options: Any,
    ) -> TorchTD3Agent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of each network.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TorchTD3Agent.for_env(gymnasium.make("Pendulum-v1"), hidden=(32,))
        >>> agent.hyperparams["exploration_noise"]
        0.1
        """

        def head(width, size):
            return nn.Sequential(Dense(width, size), nn.Tanh())

        return cls._fitting(env, head, hidden, activation, options)

    def policy_outputs(
        self, observation: torch.Tensor, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the "unit_action" in [-1, 1] and the environment's "action"."""
        action = self._propose("actor", self.view.exported(observation))
        return {"unit_action": action, "action": decoded(self.bounds, action)}

    def _choose(self, obs, explore):
        if explore and not self.warm:
            return self.anything(len(obs))
        action = self._propose("actor", obs)
        if not explore:
            return action
        noise = torch.empty_like(action).normal_(generator=self.generator)
        noise *= self.hyperparams["exploration_noise"]
        return (action + noise).clamp_(-1.0, 1.0)

    def _update(self, batch):
        h = self.hyperparams
        with torch.no_grad():
            noise = torch.empty_like(batch.action).normal_(generator=self.generator)
            limit = h["target_noise_limit"]
            noise = (noise * h["target_noise"]).clamp_(-limit, limit)
            following = self._propose("target_actor", batch.next_obs) + noise
            following = following.clamp_(-1.0, 1.0)
            value = torch.min(*self.values(batch.next_obs, following, "target_"))
            target = batch.reward + batch.discount * value
        value_loss, error = self.critic_loss(batch, target)
        norm = self.descend("critic_optimizer", value_loss, self._critics)
        # of the updates that have one: the others count as the last of them
        if int(self.numbers["updates"]) % h["policy_delay"] == 0:
            action = self._propose("actor", batch.obs)
            policy_loss = -self.values(batch.obs, action)[0].mean()
            self.descend("actor_optimizer", policy_loss, self._actor)
            follow(self._targets, self._sources, h["target_rate"])
            policy_loss = policy_loss.detach() * h["policy_delay"]
        else:
            policy_loss = torch.zeros((), device=self.device)
        return [value_loss.detach(), policy_loss, norm], error

    def _propose(self, name: str, obs: torch.Tensor) -> torch.Tensor:
        return self.checked(self.modules[name](obs), 1, "an action")
