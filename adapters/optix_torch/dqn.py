"""Deep Q-learning in Torch (https://arxiv.org/abs/1312.5602), double
(https://arxiv.org/abs/1509.06461).
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.agents.dqn import HYPERPARAMS
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.replaying import epsilon, replay_floats, replay_sizes
from optix.math.masks import mask_of, observed
from optix.types import Discrete, PyTree
from optix_torch.actions import masked
from optix_torch.given import check_network, tried
from optix_torch.networks import Dense, Duel, dense_layers, network
from optix_torch.off_policy import ReplayAgent, follow


class TargetAgent(ReplayAgent):
    """An agent whose one network is followed by a target, of discrete actions."""

    NAMES = ("value_loss", "value", "grad_norm")
    takes_masks = True

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        optimizer: Optimizer | None,
        hyperparams: Hyperparams,
        device: str | torch.device,
        **options: Any,
    ):
        """Copy the network."""
        self.n_actions = checks.positive_int("n_actions", n_actions)
        self.number_of_actions = self.n_actions
        check_network("q_network", q_network)
        target = copy.deepcopy(q_network).requires_grad_(False)
        modules = {"q_network": q_network, "target": target}
        super().__init__(modules, hyperparams, device, **options)
        self.q_network, self.target = self.modules["q_network"], self.modules["target"]
        self.add_optimizer("optimizer", optimizer, [self.q_network])
        self._parameters = self.parameters_of("optimizer")

    def try_networks(self, seen: torch.Tensor) -> None:
        """Raise ValueError where the network gives no values of the actions."""
        tried("q_network", self.q_network, seen)
        with torch.inference_mode():
            self._values(self.q_network, seen)

    @abc.abstractmethod
    def _values(self, network: nn.Module, obs: PyTree) -> torch.Tensor:
        """Return the values of the actions [N, n], under their mask."""

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return one for the actions that it plays without exploring, [B, n]."""
        actions, _ = self.act_batch(observations, explore=False)
        return np.eye(self.n_actions, dtype=np.float32)[actions]

    def _step(self, loss: torch.Tensor) -> torch.Tensor:
        """Go down the loss, and let the target follow at every target_period-th update."""
        norm = self.descend("optimizer", loss, self._parameters)
        if int(self.numbers["updates"]) % self.hyperparams["target_period"] == 0:
            self._follow(self.hyperparams["target_rate"])
        return norm

    def _follow(self, rate: float) -> None:
        for target, source in (
            (self.target.parameters(), self.q_network.parameters()),
            (self.target.buffers(), self.q_network.buffers()),
        ):
            targets, sources = list(target), list(source)
            floats = [x.is_floating_point() for x in targets]
            for kind, share in ((True, rate), (False, 1.0)):
                pairs = [i for i, is_float in enumerate(floats) if is_float is kind]
                if pairs:
                    follow(
                        [targets[i] for i in pairs], [sources[i] for i in pairs], share
                    )

    def _after_reset(self) -> None:
        self.target.load_state_dict(self.q_network.state_dict())

    def _encoded(self, actions: np.ndarray) -> np.ndarray:
        return np.asarray(actions, np.int64)

    def _anything(self, obs: PyTree) -> torch.Tensor:
        """Return random actions [B], of those that are allowed."""
        of = {"generator": self.generator, "device": self.device}
        if (mask := mask_of(obs)) is None:
            return torch.randint(self.n_actions, (len(obs),), **of)
        draws = torch.rand(mask.shape, **of)
        return torch.where(mask, draws, -1.0).argmax(-1)


class TorchDQNAgent(TargetAgent):
    """DQN of discrete actions.

    Acting is greedy but for a share epsilon of random actions, which falls linearly over
    the environment steps.

    Args:
      q_network: observations [N, ...] -> values of the actions [N, n_actions].
      n_actions: number of actions.
      optimizer: of its parameters; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        epsilon_start, epsilon_end, epsilon_steps, target_rate, max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts, n_step and target_period (updates). Without a
        learning_rate it is the optimizer's.
      device: "auto" (CUDA where there is one), "cpu", "cuda".
      double: the online network chooses the action that the target network values.
      prioritised: replay by temporal-difference error; then priority_exponent,
        importance_exponent and importance_steps are hyperparameters too.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes that of the first one seen.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, an optimizer of other
        parameters, a device that is not there.

    >>> agent = TorchDQNAgent(nn.Linear(4, 2), 2, hyperparams={"n_step": 3})
    >>> agent.act(np.zeros(4)) in (0, 1), agent.hyperparams["epsilon_start"]
    (True, 1.0)
    """

    FLOATS = replay_floats(HYPERPARAMS, 0.25)
    SIZES = {**replay_sizes(128), "target_period": (50, 1)}

    def __init__(
        self,
        q_network: nn.Module,
        n_actions: int,
        optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        *,
        double: bool = True,
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.double = checks.boolean("double", double)
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

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        dueling: bool = False,
        **options: Any,
    ) -> TorchDQNAgent:
        """Return an agent with a network that fits a Gymnasium environment.

        Args:
          env: with discrete actions; single or vectorised.
          hidden: widths of the hidden layers; the last one is each stream's own if
            dueling.
          activation: one of tanh, relu, silu, gelu, elu.
          dueling: a state's value and each action's advantage, in streams of their own.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> TorchDQNAgent.for_env(env, hidden=(32,), dueling=True).n_actions
        2
        """

        def networks(observed, n):
            def head(width):
                if not checks.boolean("dueling", dueling):
                    return Dense(width, n)
                value, advantage = (
                    nn.Sequential(
                        *dense_layers(width, [width], activation=activation),
                        Dense(width, outputs),
                    )
                    for outputs in (1, n)
                )
                return Duel(value, advantage, n, None)

            q_network = network(observed, hidden, head, activation)
            return {"q_network": q_network, "n_actions": n}

        return fitted(cls, env, Discrete, networks, options)

    def policy_outputs(
        self, observation: PyTree, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return "q_values" [B, n] and the best "action"."""
        values = self._values(self.q_network, self.view.exported(observation))
        return {"q_values": values, "action": values.argmax(-1)}

    def _choose(self, obs, explore):
        greedy = self._values(self.q_network, obs).argmax(-1)
        if not explore:
            return greedy
        coin = torch.rand(len(greedy), generator=self.generator, device=self.device)
        anything = self._anything(obs)
        return torch.where(coin < self.epsilon, anything, greedy)

    @property
    def epsilon(self) -> float:
        """The share of random actions now: all, until there is enough to learn from."""
        return epsilon(self.hyperparams, self.env_steps) if self.warm else 1.0

    def _update(self, batch):
        with torch.no_grad():
            target_values = chooser = self._values(self.target, batch.next_obs)
            if self.double:
                chooser = self._values(self.q_network, batch.next_obs)
            best = chooser.argmax(-1, keepdim=True)
            following = target_values.gather(-1, best)[:, 0]
            target = batch.reward + batch.discount * following
        values = self._values(self.q_network, batch.obs)
        value = values.gather(-1, batch.action[:, None])[:, 0]
        error = value - target
        loss = (batch.weight * 0.5 * error.square()).mean()
        norm = self._step(loss)
        error = error.detach()
        return [loss.detach(), value.detach().mean(), norm], error.abs()

    def _values(self, network: nn.Module, obs: PyTree) -> torch.Tensor:
        seen = observed(obs)
        out = network(seen)
        if out.shape != (seen.shape[0], self.n_actions):
            raise checks.OptionError(
                f"q_network must give values of n_actions={self.n_actions} actions, "
                f"[N, {self.n_actions}], got the shape {list(out.shape)}"
            )
        return masked(out, obs, "values")
