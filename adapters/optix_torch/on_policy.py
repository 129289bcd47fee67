"""Learning from a window as PPO does, whatever the distribution of the actions is.

The mathematics is that of `optix.agents.ppo`; observations are normalised by the moments
that acting had.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.host.proximal import INFO, WindowLearner
from optix.host.window import EpisodeData
from optix.math.masks import observed
from optix.types import PyTree
from optix_torch.actions import masked
from optix_torch.agent import ModuleAgent
from optix_torch.given import tried
from optix_torch.view import TensorView


class Samples(NamedTuple):
    """`N` steps to learn from, on the device."""

    obs: PyTree  # [N, ...] as the network gets them, `Masked` if they are
    action: torch.Tensor  # [N, ...]
    log_prob: torch.Tensor  # [N] of the behaviour
    advantage: torch.Tensor  # [N]
    value: torch.Tensor  # [N] before the update

    def take(self, index: torch.Tensor) -> Samples:
        """Return some of them."""
        return jax.tree.map(lambda x: x.index_select(0, index), self)


def proximal_loss(
    log_prob: torch.Tensor,
    entropy: torch.Tensor,
    value: torch.Tensor,
    batch: Samples,
    hyperparams: Mapping[str, Any],
    clip_values: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Clipped surrogate, value error and entropy bonus of a minibatch.

    Args:
      log_prob: [N] of the actions now.
      entropy: [N].
      value: [N].
      batch: [N] samples; advantages are standardised here.
      hyperparams: clip_ratio, value_coefficient, entropy_coefficient.
      clip_values: keep the value within clip_ratio of its old one.

    Returns:
      [] loss, and the first five numbers of `INFO`.
    """
    clip = hyperparams["clip_ratio"]
    variance, mean = torch.var_mean(batch.advantage, correction=0)
    advantage = (batch.advantage - mean) * (variance + 1e-8).rsqrt()
    log_ratio = log_prob - batch.log_prob
    ratio = log_ratio.exp()
    surrogate = torch.min(
        ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    )
    policy_loss = -surrogate.mean()

    target = batch.advantage + batch.value
    error = (value - target).square()
    if clip_values:
        near = batch.value + (value - batch.value).clamp(-clip, clip)
        error = torch.max(error, (near - target).square())
    value_loss = 0.5 * error.mean()

    entropy = entropy.mean()
    total = policy_loss + hyperparams["value_coefficient"] * value_loss
    total = total - hyperparams["entropy_coefficient"] * entropy
    with torch.no_grad():
        # the low-variance estimator of http://joschu.net/blog/kl-approx.html
        kl = (ratio - 1 - log_ratio).mean()
        clipped = ((ratio - 1).abs() > clip).float().mean()
    info = [policy_loss.detach(), value_loss.detach(), entropy.detach(), kl, clipped]
    return total, info


class ProximalAgent(WindowLearner, ModuleAgent):
    """What the PPO agents share; a subclass says how networks run over a window."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: Optimizer | None,
        hyperparams: Hyperparams,
        device: str | torch.device,
        reward_normalizer: RewardNormalizer | None,
        *,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See `TorchPPOAgent`."""
        self.with_limit(target_kl)
        super().__init__(modules, hyperparams, device)
        self.clip_values = checks.boolean("clip_values", clip_values)
        self.add_optimizer("optimizer", optimizer, list(self.modules.values()), 1e-5)
        self._parameters = self.parameters_of("optimizer")
        self.view = TensorView(
            observation_shape,
            normalize_observations,
            self.device,
            self.takes_masks,
            trial=self.try_networks,
        )
        self.records["observations"] = self.view
        self.with_rewards(reward_normalizer, normalize_rewards)

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Learn from a window in several epochs; return the means over minibatches."""
        window = episode_data.batched()
        reward = self.scaled(window)
        samples, units = self._prepare(window, reward)
        self.begin_learning()
        try:
            info = self._improve(samples, units)
        finally:
            self.end_learning()
        self.view.observe(window.observations, 2)
        return info

    def _improve(self, samples: Samples, units: int) -> dict[str, float]:
        rows = []
        limit = self.hyperparams.get("target_kl")
        for index in self._minibatches(units):
            log_prob, entropy, value, batch = self._evaluate(samples, index)
            loss, numbers = proximal_loss(
                log_prob, entropy, value, batch, self.hyperparams, self.clip_values
            )
            if limit is not None and rows and float(numbers[3]) > limit:
                break
            norm = self.descend("optimizer", loss, self._parameters)
            rows.append(torch.stack([*numbers, norm]))
        means = torch.stack(rows).mean(0).tolist()
        return dict(zip(INFO, means, strict=True))

    def _minibatches(self, units: int) -> Iterator[torch.Tensor]:
        parts = self.minibatches(units)
        for _ in range(self.hyperparams["num_epochs"]):
            order = torch.randperm(units, generator=self.generator, device=self.device)
            yield from order.tensor_split(parts)

    @abc.abstractmethod
    def _prepare(self, window: EpisodeData, reward: np.ndarray) -> tuple[Any, int]:
        """Return what `_evaluate` takes minibatches of, and how many units it has."""

    @abc.abstractmethod
    def _evaluate(
        self, samples: Any, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Samples]:
        """Return (log_prob, entropy, value, samples), each [N], of some units."""


class FeedForwardAgent(ProximalAgent):
    """PPO of networks that remember nothing: every step is learned from by itself."""

    distribution: ClassVar[Callable[..., Any]]
    drawn: ClassVar[str | None] = None  # what of the extras was drawn, None: the action

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], and while exploring what `learn` needs of them."""
        with torch.inference_mode():
            actions = self._actions(self.view(observations))
            if not explore:
                return self._decoded(actions.mode().cpu().numpy()), {}
            action = actions.sample(self.generator)
            log_prob = actions.log_prob(action).cpu().numpy()
        action = action.cpu().numpy()
        extras = {"log_prob": log_prob, "began": self.take_began(len(action))}
        if self.drawn:
            extras[self.drawn] = action
        return self._decoded(action), extras

    def try_networks(self, seen: torch.Tensor) -> None:
        """Raise ValueError where a network does not take observations, or gives less."""
        self._check_actor(tried("actor", self.modules["actor"], seen))
        one_value("critic", tried("critic", self.modules["critic"], seen))

    @abc.abstractmethod
    def _check_actor(self, out: torch.Tensor) -> None:
        """Raise ValueError where these are no parameters of the distribution."""

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one observation."""
        return {"observation": self.view.shape(self.modules["actor"])}

    def policy_outputs(
        self, observation: PyTree, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the parameters of the distribution, and its mode as "action"."""
        actions = self._actions(self.view.exported(observation))
        return {**actions.parameters(), "action": self._bounded(actions.mode())}

    def _bounded(self, action: torch.Tensor) -> torch.Tensor:
        """Return the environment's action of the agent's."""
        return action

    def _decoded(self, action: np.ndarray) -> np.ndarray:
        return action

    def _drawn(self, window: EpisodeData) -> np.ndarray:
        """Return what the distribution gave, [T, B, ...]."""
        return window.actions

    def _prepare(self, window, reward):
        lead = window.rewards.shape
        flat = flat_rows(window.observations)
        with torch.no_grad():
            obs = self.view(flat)
            values = self._value(obs)

            def value_after(steps, envs):
                after = self.view(observed(window.next_observations)[steps, envs])
                return self._value(after).cpu().numpy()

            gains = self.advantages(
                window, reward, values.cpu().numpy().reshape(lead), value_after
            )
            drawn = self._drawn(window)
            action = self.to_tensor(drawn.reshape(-1, *drawn.shape[2:]))
            log_prob = window.extras.get("log_prob")
            if log_prob is None:  # of a pipeline that keeps no extras: it is still that
                log_prob = self._actions(obs).log_prob(action)
            else:
                log_prob = self.to_tensor(log_prob.reshape(-1))
        gains = self.to_tensor(gains.reshape(-1))
        return Samples(obs, action, log_prob, gains, values), len(gains)

    def _evaluate(self, samples, index):
        batch = samples.take(index)
        actions = self._actions(batch.obs)
        value = self._value(batch.obs)
        return actions.log_prob(batch.action), actions.entropy(), value, batch

    def _actions(self, obs: PyTree) -> Any:
        """Return the distribution at observations as the network gets them."""
        return self.distribution(masked(self.modules["actor"](observed(obs)), obs))

    def _value(self, obs: PyTree) -> torch.Tensor:
        return one_value("critic", self.modules["critic"](observed(obs)))


def flat_rows(tree: PyTree) -> PyTree:
    """Return [T, B, ...] as [T * B, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def one_value(name: str, out: torch.Tensor) -> torch.Tensor:
    """Return values [N] of a network's [N, 1] or [N], or raise ValueError."""
    if out.ndim == 2 and out.shape[1] == 1:
        return out[:, 0]
    if out.ndim != 1:
        raise checks.OptionError(
            f"{name} must give one value of each observation, [N, 1] or [N], got the "
            f"shape {list(out.shape)}"
        )
    return out
