"""An actor and two critics with targets, of continuous actions: what SAC and TD3 share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix.host.bounds import BoxActions, action_bounds
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams, check_two
from optix.types import Box
from optix_torch.given import check_network, tried
from optix_torch.networks import (
    Concatenated,
    Dense,
    dense_layers,
    encoder,
    network,
)
from optix_torch.off_policy import Batch, ReplayAgent
from optix_torch.on_policy import one_value


class TwinCriticAgent(BoxActions, ReplayAgent):
    """What the two agents share. Critics get observation and action as one row [N, *]."""

    FOLLOWED: ClassVar[tuple[str, ...]] = ("critic1", "critic2")

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        action_dim: int,
        hyperparams: Hyperparams,
        device: str | torch.device,
        bounds: tuple[Any, Any],
        actor_optimizer: Optimizer | None,
        critic_optimizer: Optimizer | None,
        **options: Any,
    ):
        """Copy what the targets follow."""
        self.bounds = action_bounds(action_dim, bounds)
        for name, module in modules.items():
            check_network(name, module)
        check_two(modules.values())
        targets = {
            f"target_{name}": copy.deepcopy(modules[name]).requires_grad_(False)
            for name in self.FOLLOWED
        }
        super().__init__({**modules, **targets}, hyperparams, device, **options)
        self._targets, self._sources = (
            [
                parameter
                for name in self.FOLLOWED
                for parameter in self.modules[before + name].parameters()
            ]
            for before in ("target_", "")
        )
        actor, *critics = modules.values()
        self.add_optimizer("actor_optimizer", actor_optimizer, [actor])
        self.add_optimizer("critic_optimizer", critic_optimizer, critics)
        self._actor = self.parameters_of("actor_optimizer")
        self._critics = self.parameters_of("critic_optimizer")

    @classmethod
    def _fitting(
        cls,
        env: Any,
        head: Callable[[int, int], nn.Module],
        hidden: Sequence[int],
        activation: str,
        options: Mapping[str, Any],
    ) -> Any:
        """Return an agent for an environment, as `for_env` says.

        `head` is `(width, number of actions) -> the actor's last layers`.
        """

        def networks(observed, size):
            def last(width):
                return head(width, size)

            one, two = (critic(observed, size, hidden, activation) for _ in range(2))
            return {
                "actor": network(observed, hidden, last, activation),
                "critic1": one,
                "critic2": two,
                "action_dim": size,
            }

        return fitted(cls, env, Box, networks, options)

    def try_networks(self, seen: torch.Tensor) -> None:
        """Raise ValueError where a network does not take observations, or gives less."""
        tried("actor", self.modules["actor"], seen)
        with torch.inference_mode():
            action = self._choose(seen, explore=False)
            row = torch.cat([seen.reshape(len(seen), -1), action], -1)
        for name in ("critic1", "critic2"):
            what = "rows of observation and action"
            one_value(name, tried(name, self.modules[name], row, what))

    def values(self, obs: torch.Tensor, action: torch.Tensor, before: str = "") -> Any:
        """Return the values [N] of both critics, or of their targets."""
        row = torch.cat([obs.reshape(len(obs), -1), action], -1)
        return [
            one_value(name, self.modules[f"{before}{name}"](row))
            for name in ("critic1", "critic2")
        ]

    def critic_loss(
        self, batch: Batch, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the squared errors of both critics [], and their mean size [N]."""
        one, two = (value - target for value in self.values(batch.obs, batch.action))
        loss = (batch.weight * (one.square() + two.square())).mean() * 0.5
        return loss, (one.detach().abs() + two.detach().abs()) / 2

    def anything(self, count: int) -> torch.Tensor:
        """Return random actions, [count, size] in [-1, 1]."""
        size = count, len(self.bounds.unit)
        return torch.rand(size, generator=self.generator, device=self.device) * 2 - 1

    def _after_reset(self) -> None:
        for name in self.FOLLOWED:
            source = self.modules[name].state_dict()
            self.modules[f"target_{name}"].load_state_dict(source)


def critic(
    space: Any, size: int, hidden: Sequence[int], activation: str
) -> nn.Sequential:
    """Return a critic of rows of observation and action [N, *] to values [N, 1].

    Args:
      space: of the observations, of Gymnasium.
      size: number of actions.
      hidden: widths.
      activation: one of tanh, relu, silu, gelu, elu.
    """
    encode, features, shape = encoder(space)
    layers = dense_layers(features + size, hidden, activation=activation)
    if encode is not None:
        entries = int(np.prod(shape)) if shape else 1
        layers.insert(0, Concatenated(encode, entries, shape))
    return nn.Sequential(*layers, Dense(list(hidden)[-1], 1))
