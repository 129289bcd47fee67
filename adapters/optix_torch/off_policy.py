"""Learning from a replay, as DQN, Rainbow, SAC and TD3 do; see `optix.host.replaying`."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from optix.host.network_agent import Hyperparams
from optix.host.replaying import ReplayLearner
from optix.types import PyTree
from optix_torch.agent import ModuleAgent
from optix_torch.view import TensorView


class Batch(NamedTuple):
    """`N` rows to learn from, on the device."""

    obs: torch.Tensor  # [N, ...] as the network gets them
    action: torch.Tensor  # [N, ...]
    reward: torch.Tensor  # [N] scaled
    discount: torch.Tensor  # [N] of the value that follows, 0 after a termination
    next_obs: PyTree  # [N, ...], `Masked` if they are
    weight: torch.Tensor  # [N]


class ReplayAgent(ReplayLearner, ModuleAgent):
    """What agents with a replay share; a subclass says how a batch is learned from."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        hyperparams: Hyperparams,
        device: str | torch.device,
        *,
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """Take the modules and what is the same for all."""
        self.with_priorities(prioritised)
        super().__init__(modules, hyperparams, device)
        view = TensorView(
            observation_shape,
            normalize_observations,
            self.device,
            self.takes_masks,
            trial=self.try_networks,
        )
        self.with_replay(view, normalize_rewards)

    def _chosen(self, obs: PyTree, explore: bool) -> np.ndarray:
        with torch.inference_mode():
            return self._choose(obs, explore).cpu().numpy()

    def _improve(self, updates: int) -> list[float]:
        self.begin_learning()
        try:
            rows = [self._learn_once() for _ in range(updates)]
        finally:
            self.end_learning()
        return torch.stack(rows).mean(0).tolist()

    def _learn_once(self) -> torch.Tensor:
        rows, reward = self.drawn(1)
        batch = Batch(
            self.view(rows.obs),
            self.to_tensor(rows.action),
            self.to_tensor(reward),
            self.to_tensor(rows.discount),
            self.view(rows.next_obs),
            self.to_tensor(rows.weight),
        )
        self.numbers["updates"] += 1
        numbers, priority = self._update(batch)
        if self.prioritised:  # else the device need not be waited for
            self.learned_of(rows, priority.cpu().numpy())
        return torch.stack(numbers)

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one observation."""
        return {"observation": self.view.shape(next(iter(self.modules.values())))}

    @abc.abstractmethod
    def _choose(self, obs: PyTree, explore: bool) -> torch.Tensor:
        """Return the agent's actions [B, ...] for observations as networks get them."""

    @abc.abstractmethod
    def _update(self, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Learn from a batch; return the numbers of `NAMES`, and errors [N]."""


def follow(
    targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], rate: float
) -> None:
    """Move targets by a share `rate` towards what they follow; a rate of 1 copies."""
    into, out_of = list(targets), list(sources)
    with torch.no_grad():
        if rate == 1.0:
            torch._foreach_copy_(into, out_of)
        else:
            torch._foreach_lerp_(into, out_of, rate)
