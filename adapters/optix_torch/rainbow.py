"""Rainbow in Torch (https://arxiv.org/abs/1710.02298): DQN with distributions of returns.

Every action has a categorical distribution over returns (C51,
https://arxiv.org/abs/1707.06887), learned with double Q-learning, returns of several
steps and prioritised replay. Exploration is by noise in the weights, drawn afresh at
every step, for every environment, and absent when a policy is evaluated.

The default support takes scaled returns of any environment, and so has few atoms for
those of one. Where their ends are known, value_min and value_max at these and
normalize_rewards=False learn in far fewer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.agents.rainbow import HYPERPARAMS
from optix.host.agent import HyperparamSet
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.replaying import replay_floats, replay_sizes
from optix.math.masks import observed
from optix.types import Discrete, PyTree
from optix_torch.actions import masked
from optix_torch.dqn import TargetAgent
from optix_torch.networks import encoder
from optix_torch.noisy import RainbowQNetwork, noise, noisy_layers


def project(
    moved: torch.Tensor, probabilities: torch.Tensor, atoms: torch.Tensor
) -> torch.Tensor:
    """Move distributions to the support (C51): each atom's mass to the two nearest.

    Args:
      moved: [N, atoms] the values of the probabilities.
      probabilities: [N, atoms].
      atoms: [atoms] evenly spaced, rising.

    Returns:
      [N, atoms] probabilities with the same sums, of the same means but at the ends.

    >>> atoms = torch.tensor([0.0, 1.0, 2.0])
    >>> moved = torch.tensor([[0.25, 1.0, 5.0]])
    >>> project(moved, torch.tensor([[0.4, 0.0, 0.6]]), atoms).tolist()
    [[0.30000001192092896, 0.10000000149011612, 0.6000000238418579]]
    """
    low, high, count = atoms[0], atoms[-1], len(atoms)
    spacing = (high - low) / (count - 1)
    place = (moved.clamp(low, high) - low) / spacing
    below = place.floor().clamp_(0, count - 2)
    above = (place - below).clamp_(0, 1)
    below = below.long()
    out = torch.zeros_like(probabilities)
    out.scatter_add_(1, below, probabilities * (1 - above))
    return out.scatter_add_(1, below + 1, probabilities * above)


class TorchRainbowDQNAgent(TargetAgent):
    """Rainbow of discrete actions.

    Args:
      q_network: observations [N, ...] -> logits [N, n_actions, atoms], with `NoisyLinear`
        layers, as `RainbowQNetwork.build` makes it.
      n_actions: number of actions.
      obs_dim: entries of an observation, if it is a vector; None takes what comes.
      optimizer: of its parameters; None is Adam.
      hyperparams: as of `TorchDQNAgent`, without those of epsilon, and with value_min and
        value_max, the ends of the support, in scaled rewards.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      prioritised: as of `TorchDQNAgent`.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return; without it
        the support must fit the environment's own returns.
      observation_shape: of one observation; None takes `obs_dim`.

    Raises:
      ValueError: a network without noisy layers, a support whose ends are reversed, an
        unknown hyperparameter or one out of its range, an optimizer of other parameters.

    >>> network = RainbowQNetwork.build(4, 2, hidden_size=16)
    >>> agent = TorchRainbowDQNAgent(network, 2, 4)
    >>> agent.hyperparams["n_step"], agent.prioritised
    (3, True)
    """

    FLOATS = replay_floats(HYPERPARAMS, 0.25)
    SIZES = {**replay_sizes(128, n_step=3), "target_period": (50, 1)}

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        obs_dim: int | None = None,
        optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        *,
        prioritised: bool = True,
        normalize_observations: bool = False,
        normalize_rewards: bool = True,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        if obs_dim is not None:
            size = checks.positive_int("obs_dim", obs_dim)
            observation_shape = observation_shape or (size,)
        super().__init__(
            q_network,
            n_actions,
            optimizer,
            hyperparams,
            device,
            prioritised=prioritised,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            observation_shape=observation_shape,
        )
        if not noisy_layers(q_network):
            raise checks.OptionError(
                "q_network must hold NoisyLinear layers, by which it explores, got "
                f"{type(q_network).__name__} without any; use RainbowQNetwork.build(...)"
            )

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        num_atoms: int = 51,
        noise_scale: float = 0.5,
        **options: Any,
    ) -> TorchRainbowDQNAgent:
        """Return an agent with a network that fits a Gymnasium environment.

        Args:
          env: with discrete actions; single or vectorised.
          hidden: widths of the hidden layers; the last one is each stream's own.
          activation: one of tanh, relu, silu, gelu, elu.
          num_atoms: of the distributions over returns.
          noise_scale: initial deviation of the weights, times the root of a layer's
            inputs.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> TorchRainbowDQNAgent.for_env(env, hidden=(32,)).n_actions
        2
        """

        def networks(observed, n):
            encode, inputs, _ = encoder(observed)
            q_network = RainbowQNetwork.build(
                inputs,
                n,
                hidden,
                num_atoms,
                activation=activation,
                noise_scale=noise_scale,
                encoder=encode,
            )
            return {"q_network": q_network, "n_actions": n}

        return fitted(cls, env, Discrete, networks, options)

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Use these from now on; those that are not named stay as they are."""
        before = self.hyperparams
        self.hyperparams = dict(before)
        super().set_hyperparams(hyperparams)
        low, high = (self.hyperparams[name] for name in ("value_min", "value_max"))
        if low >= high:
            self.hyperparams = before
            raise checks.OptionError(
                f"value_min must be below value_max={high}, got {low}"
            )

    def policy_outputs(
        self, observation: PyTree, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return "q_values" [B, n], means of the distributions, and the best "action"."""
        values = self._values(self.q_network, self.view.exported(observation))
        return {"q_values": values, "action": values.argmax(-1)}

    def _choose(self, obs, explore):
        if not explore:
            return self._best(obs)
        if not self.warm:
            return self._anything(obs)
        with noise(self.q_network, self.generator, len(observed(obs))):
            return self._best(obs)

    def _update(self, batch):
        with torch.no_grad():
            with noise(self.target, self.generator):
                following = self._logits(self.target, batch.next_obs)
            with noise(self.q_network, self.generator):
                best = self._best(batch.next_obs)
            atoms = self._atoms(following.shape[-1])
            moved = batch.reward[:, None] + batch.discount[:, None] * atoms
            target = project(moved, _of(following, best).softmax(-1), atoms)
        with noise(self.q_network, self.generator):
            logits = self._logits(self.q_network, batch.obs)
            log_probs = _of(logits, batch.action).log_softmax(-1)
        divergence = -(target * log_probs).sum(-1)
        loss = (batch.weight * divergence).mean()
        norm = self._step(loss)
        with torch.no_grad():
            value = (log_probs.exp() @ atoms).mean()
        return [loss.detach(), value, norm], divergence.detach()

    def _best(self, obs: PyTree) -> torch.Tensor:
        """The actions of the greatest mean return, of those that are allowed, [N]."""
        return self._values(self.q_network, obs).argmax(-1)

    def _values(self, network: nn.Module, obs: PyTree) -> torch.Tensor:
        """The mean returns of the actions, [N, n], under their mask."""
        logits = self._logits(network, obs)
        means = logits.softmax(-1) @ self._atoms(logits.shape[-1])
        return masked(means, obs, "values")

    def _atoms(self, count: int) -> torch.Tensor:
        h = self.hyperparams
        return torch.linspace(h["value_min"], h["value_max"], count, device=self.device)

    def _logits(self, network: nn.Module, obs: PyTree) -> torch.Tensor:
        out = network(observed(obs))
        if out.ndim != 3 or out.shape[1] != self.n_actions or out.shape[2] < 2:
            raise checks.OptionError(
                f"q_network must give logits [N, {self.n_actions}, atoms] over two or "
                f"more atoms of each action, got the shape {list(out.shape)}"
            )
        return out


def _of(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """The logits of each row's action, [N, atoms]."""
    return logits[torch.arange(len(action), device=action.device), action]
