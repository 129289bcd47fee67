"""Soft actor-critic in Torch (https://arxiv.org/abs/1812.05905).

A tanh-squashed Gaussian actor learns to maximise the smaller of two critics plus its own
entropy, whose temperature is tuned to a target entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.agents.sac import HYPERPARAMS, LOG_SCALE
from optix.host.network_agent import Hyperparams
from optix.host.replaying import replay_floats, replay_sizes
from optix_torch.actions import decoded, squashed
from optix_torch.critics import TwinCriticAgent
from optix_torch.networks import Dense
from optix_torch.off_policy import follow


class TorchSACAgent(TwinCriticAgent):
    """SAC of continuous actions.

    Args:
      actor: observations [N, ...] -> means before tanh, and log scales beside them
        [N, 2 action_dim].
      critic1: rows of observation and action [N, *] -> values [N, 1] or [N].
      critic2: another one.
      action_dim: entries of an action.
      actor_optimizer: of the actor's parameters; None is Adam.
      critic_optimizer: of both critics' parameters; None is Adam.
      alpha_optimizer: its kind and rate are taken for the temperature, whatever it was
        made of; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        target_rate, entropy_scale (minus the target entropy, per action), max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts and n_step. Without a learning_rate it is the actor's
        optimizer's; the others keep their ratio to it.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      bounds: (low, high) of the environment's actions, numbers or arrays.
      tune_temperature: towards the target entropy; else the initial one is kept.
      initial_temperature: the weight of the entropy at first.
      prioritised: replay by temporal-difference error; then priority_exponent,
        importance_exponent and importance_steps are hyperparameters too.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes that of the first one seen.

    Raises:
      ValueError: one critic twice, an unknown hyperparameter or one out of its range, an
        optimizer of other parameters, bounds that are none, a device that is not there.

    >>> import numpy as np
    >>> critics = nn.Linear(4, 1), nn.Linear(4, 1)
    >>> agent = TorchSACAgent(nn.Linear(3, 2), *critics, 1, bounds=(-2.0, 2.0))
    >>> agent.act(np.zeros(3)).shape
    (1,)
    """

    FLOATS = replay_floats(HYPERPARAMS, 1.0)
    SIZES = replay_sizes(256)
    NAMES = ("value_loss", "policy_loss", "entropy", "temperature", "grad_norm")

    def __init__(
        self,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        action_dim: int,
        actor_optimizer: Optimizer | None = None,
        critic_optimizer: Optimizer | None = None,
        alpha_optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        *,
        bounds: tuple[Any, Any] = (-1.0, 1.0),
        tune_temperature: bool = True,
        initial_temperature: float = 1.0,
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.tune_temperature = checks.boolean("tune_temperature", tune_temperature)
        first = checks.within(
            "initial_temperature", initial_temperature, 0.0, 1e9, open_ends=True
        )
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
        self._initial = math.log(first)
        self.log_temperature = nn.Parameter(torch.tensor(self._initial).to(self.device))
        self.parts["log_temperature"] = self.log_temperature
        holder = nn.ParameterList([self.log_temperature])
        alpha_optimizer = _moved(alpha_optimizer, self.log_temperature)
        self.add_optimizer("alpha_optimizer", alpha_optimizer, [holder])
        self._alpha = self.parameters_of("alpha_optimizer")

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        **options: Any,
    ) -> TorchSACAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of each network.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TorchSACAgent.for_env(gymnasium.make("Pendulum-v1"), hidden=(32,))
        >>> agent.bounds.unit.tolist()
        [2.0]
        """

        def head(width, size):
            return Dense(width, 2 * size)

        return cls._fitting(env, head, hidden, activation, options)

    def policy_outputs(
        self, observation: torch.Tensor, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return "mean" and "log_scale" before tanh, and the "action" of the mean."""
        mean, log_scale = self._gaussian(self.view.exported(observation))
        action = decoded(self.bounds, mean.tanh())
        return {"mean": mean, "log_scale": log_scale, "action": action}

    def _choose(self, obs, explore):
        if not explore:
            return self._gaussian(obs)[0].tanh()
        if not self.warm:
            return self.anything(len(obs))
        return self._propose(obs)[0]

    def _update(self, batch):
        h = self.hyperparams
        temperature = self.log_temperature.detach().exp()
        with torch.no_grad():
            following, log_prob = self._propose(batch.next_obs)
            value = torch.min(*self.values(batch.next_obs, following, "target_"))
            value = value - temperature * log_prob
            target = batch.reward + batch.discount * value
        value_loss, error = self.critic_loss(batch, target)
        norm = self.descend("critic_optimizer", value_loss, self._critics)

        action, log_prob = self._propose(batch.obs)
        value = torch.min(*self.values(batch.obs, action))
        policy_loss = (temperature * log_prob - value).mean()
        self.descend("actor_optimizer", policy_loss, self._actor)
        entropy = -log_prob.detach().mean()
        if self.tune_temperature:
            surplus = entropy + len(self.bounds.unit) * h["entropy_scale"]
            self.descend("alpha_optimizer", self.log_temperature * surplus, self._alpha)
        follow(self._targets, self._sources, h["target_rate"])
        losses = [value_loss.detach(), policy_loss.detach()]
        return [*losses, entropy, temperature, norm], error

    def _gaussian(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.checked(self.modules["actor"](obs), 2, "a mean and a log scale")
        mean, log_scale = out.chunk(2, -1)
        return mean, log_scale.clamp(*LOG_SCALE)

    def _propose(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_scale = self._gaussian(obs)
        noise = torch.empty_like(mean).normal_(generator=self.generator)
        return squashed(mean, log_scale, noise)

    def _after_reset(self) -> None:
        super()._after_reset()
        with torch.no_grad():
            self.log_temperature.fill_(self._initial)


def _moved(optimizer: Optimizer | None, parameter: nn.Parameter) -> Optimizer | None:
    """Return an optimizer with its own settings, but of this parameter."""
    if optimizer is None:
        return None
    checks.record("alpha_optimizer", optimizer, Optimizer, "make one by torch.optim")
    (group, *_) = optimizer.param_groups
    settings = {name: value for name, value in group.items() if name != "params"}
    optimizer.state.clear()
    optimizer.param_groups.clear()
    optimizer.add_param_group({**settings, "params": [parameter]})
    return optimizer
