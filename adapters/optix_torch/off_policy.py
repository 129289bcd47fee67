"""Learning from a replay, as DQN, Rainbow, SAC and TD3 do.

The replay is the agent's `memory`, one for each run. A window is stored; then as many
updates are made as its steps ask for. Rows are seen with the moments of now.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from optix import checks
from optix.host.advantages import ReturnScale
from optix.host.replay import Replay
from optix.host.window import EpisodeData
from optix.learners.memory import PRIORITY
from optix_torch.agent import Floats, ModuleAgent, Sizes
from optix_torch.given import Hyperparams
from optix_torch.state import Numbers
from optix_torch.view import ObservationView


class Batch(NamedTuple):
    """`N` rows to learn from, on the device."""

    obs: torch.Tensor  # [N, ...] as the network gets them
    action: torch.Tensor  # [N, ...]
    reward: torch.Tensor  # [N] scaled
    discount: torch.Tensor  # [N] of the value that follows, 0 after a termination
    next_obs: torch.Tensor  # [N, ...]
    weight: torch.Tensor  # [N]


class ReplayAgent(ModuleAgent):
    """What agents with a replay share; a subclass says how a batch is learned from."""

    OPTIONAL: ClassVar = PRIORITY
    NAMES: ClassVar[tuple[str, ...]]  # of what `_update` returns

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
        self.prioritised = checks.boolean("prioritised", prioritised)
        if self.prioritised:
            self.FLOATS = {**self.FLOATS, **self.OPTIONAL}
        super().__init__(modules, hyperparams, device)
        self.numbers = Numbers(env_steps=0, updates=0, due=0.0)
        self.view = ObservationView(
            observation_shape, normalize_observations, self.device
        )
        self.records |= {"numbers": self.numbers, "observations": self.view}
        if checks.boolean("normalize_rewards", normalize_rewards):
            self.records["returns"] = ReturnScale()
        self._acted = 0  # steps of the window under way

    def make_memory(self) -> Replay:
        """Return an empty replay for one run."""
        return Replay(self.hyperparams["capacity"], prioritised=self.prioritised)

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw; a window begins."""
        super().seed(seed)
        self._acted = 0

    @property
    def env_steps(self) -> int:
        """Steps that this policy has explored, those of the window under way too."""
        return int(self.numbers["env_steps"]) + self._acted

    @property
    def warm(self) -> bool:
        """Whether there is enough to learn from, so that acting need not be random."""
        stored = 0 if self.memory is None else len(self.memory)
        return stored >= self.hyperparams["learning_starts"]

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], random until there is enough to learn from."""
        with torch.inference_mode():
            action = self._choose(self.view(observations), explore).cpu().numpy()
        if not explore:
            return self._decoded(action), {}
        self._acted += len(action)
        return self._decoded(action), {"began": self.take_began(len(action))}

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Store a window and learn; return the means over the updates."""
        window = episode_data.batched()
        if self.memory is None:
            self.memory = self.make_memory()
        self._store(window)
        if not self.warm:
            return {}
        ratio = self.hyperparams["updates_per_step"]
        due = float(self.numbers["due"]) + ratio * window.length
        self.numbers["due"] = due - int(due)
        if int(due) < 1:
            return {}
        self.begin_learning()
        try:
            rows = [self._learn_once() for _ in range(int(due))]
        finally:
            self.end_learning()
        means = torch.stack(rows).mean(0).tolist()
        return dict(zip(self.NAMES, means, strict=True))

    def _store(self, window: EpisodeData) -> None:
        self.memory.add(
            window.observations,
            self._encoded(window.actions),
            window.rewards,
            window.terminated,
            window.truncated,
            window.next_observations,
        )
        self.view.observe(window.observations, 2)
        scale = self.records.get("returns")
        if scale is not None:
            discount = self.hyperparams["discount"]
            scale.observe(window.rewards, window.dones, self.began(window), discount)
        self._scale = None if scale is None else scale.inverse()
        self.numbers["env_steps"] += window.length
        self._acted = 0

    def _learn_once(self) -> torch.Tensor:
        h = self.hyperparams
        rows = self.memory.sample(
            self.rng,
            h["batch_size"],
            discount=h["discount"],
            n_step=h["n_step"],
            importance_exponent=self._importance() if self.prioritised else 0.0,
        )
        reward = rows.reward if self._scale is None else rows.reward * self._scale
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
        if self.prioritised:
            error = priority.cpu().numpy().astype(np.float64)
            self.memory.prioritise(rows.index, error ** h["priority_exponent"])
        return torch.stack(numbers)

    def _importance(self) -> float:
        """The exponent rises to one, as the mean of what is learned must be right then."""
        h = self.hyperparams
        share = min(self.env_steps / h["importance_steps"], 1.0)
        return h["importance_exponent"] + share * (1.0 - h["importance_exponent"])

    def _encoded(self, actions: np.ndarray) -> np.ndarray:
        """Return the agent's actions [T, B, ...] of the environment's."""
        return actions

    def _decoded(self, action: np.ndarray) -> np.ndarray:
        """Return the environment's actions [B, ...] of the agent's."""
        return action

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one observation."""
        return {"observation": self.view.shape(next(iter(self.modules.values())))}

    @abc.abstractmethod
    def _choose(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        """Return the agent's actions [B, ...] for observations as networks get them."""

    @abc.abstractmethod
    def _update(self, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Learn from a batch; return the numbers of `NAMES`, and errors [N]."""


def replay_floats(floats: Floats, updates_per_step: float) -> Floats:
    """Return hyperparameters with those of every agent that has a replay."""
    return {**floats, "updates_per_step": (updates_per_step, 0.0, 1e3)}


def replay_sizes(batch_size: int, n_step: int = 1) -> Sizes:
    """Return the whole hyperparameters of every agent that has a replay."""
    return {
        "batch_size": (batch_size, 1),
        "capacity": (100_000, 1),
        "learning_starts": (1_000, 1),
        "n_step": (n_step, 1),
    }


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
