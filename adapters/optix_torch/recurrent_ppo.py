"""Proximal policy optimisation of networks that remember, in Torch.

Gradients flow back through a stretch of a window, from the carry that acting had at its
first step. No stretch goes beyond an episode's end: there acting begins with a carry of
zeros, and so does the next stretch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from optix import checks
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.math.masks import observed
from optix.types import Discrete, PyTree
from optix_torch.actions import Categorical, count_of, masked
from optix_torch.given import tried
from optix_torch.memory_cell import Cell
from optix_torch.networks import Dense, dense_layers, encoder
from optix_torch.on_policy import ProximalAgent, Samples, flat_rows, one_value
from optix_torch.segments import Segments, segments


class Stretches(NamedTuple):
    """What minibatches are taken of."""

    samples: Samples  # [N, ...] of the window, flat
    carry: torch.Tensor  # [K, size] at the first step of each stretch
    row: torch.Tensor  # [K, S] of the samples
    there: torch.Tensor  # [K, S] bool


class TorchRecurrentPPOAgent(ProximalAgent):
    """PPO of discrete actions with a memory.

    Args:
      rnn: nn.GRU, nn.LSTM or nn.RNN on observations (or on what `torso` makes of them).
      actor_head: features [N, hidden] -> logits [N, n_actions].
      critic_head: features [N, hidden] -> values [N, 1] or [N].
      n_actions: number of actions.
      optimizer: of the parameters of all; None is Adam with epsilon 1e-5.
      hyperparams: as of `TorchPPOAgent`, and sequence_length: steps that gradients flow
        back through. Minibatches hold whole stretches of at most so many steps.
      device: as of `TorchPPOAgent`.
      reward_normalizer: as of `TorchPPOAgent`.
      torso: observations [N, ...] -> what goes into the rnn [N, inputs]; None leaves
        them as they are.
      **options: as of `TorchPPOAgent`.

    Raises:
      ValueError: an rnn that looks ahead, an unknown hyperparameter or one out of its
        range, an optimizer of other parameters, a device that is not there.

    >>> rnn = nn.LSTM(4, 16, batch_first=True)
    >>> agent = TorchRecurrentPPOAgent(rnn, nn.Linear(16, 2), nn.Linear(16, 1), 2)
    >>> agent.act(np.zeros(4)) in (0, 1)
    True
    """

    SIZES = {**ProximalAgent.SIZES, "sequence_length": (16, 1)}
    unit: ClassVar = (1, "stretch")
    takes_masks = True

    def __init__(
        self,
        rnn: nn.RNNBase,
        actor_head: nn.Module,
        critic_head: nn.Module,
        n_actions: int,
        optimizer: Optimizer | None = None,
        hyperparams: Hyperparams = None,
        device: str | torch.device = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        *,
        torso: nn.Module | None = None,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.cell = Cell(rnn)
        self.n_actions = checks.positive_int("n_actions", n_actions)
        self.number_of_actions = self.n_actions
        modules = {"rnn": rnn, "actor_head": actor_head, "critic_head": critic_head}
        if torso is not None:
            modules = {"torso": torso, **modules}
        super().__init__(
            modules,
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
        hidden: Sequence[int] = (64,),
        activation: str = "tanh",
        cell: str = "gru",
        cell_size: int = 128,
        **options: Any,
    ) -> TorchRecurrentPPOAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with discrete actions; single or vectorised.
          hidden: widths of the layers before the cell.
          activation: one of tanh, relu, silu, gelu, elu.
          cell: gru or lstm.
          cell_size: width of the cell.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> TorchRecurrentPPOAgent.for_env(env, cell="lstm", cell_size=32).cell.size
        64
        """
        cells: Mapping[str, type[nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}
        checks.known_names("cell", [cell], cells)
        width = checks.positive_int("cell_size", cell_size)

        def networks(observed, n):
            encode, inputs, _ = encoder(observed)
            layers = dense_layers(inputs, hidden, activation=activation)
            return {
                "rnn": cells[cell](hidden[-1], width, batch_first=True),
                "actor_head": Dense(width, n),
                "critic_head": Dense(width, 1),
                "n_actions": n,
                "torso": nn.Sequential(*([] if encode is None else [encode]), *layers),
            }

        return fitted(cls, env, Discrete, networks, options)

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B], and while exploring what `learn` needs of them."""
        seen = self.view(observations)
        began = self.take_began(len(observed(seen)))
        held = (self.carry or {}).get("memory")
        if held is None or len(held) != len(began):
            held = np.zeros((len(began), self.cell.size), np.float32)
        elif began.any():
            held = np.where(began[:, None], np.float32(0), held)
        with torch.inference_mode():
            after, features = self.cell.step(self.to_tensor(held), self._inputs(seen))
            actions = self._actions(features, seen)
            action = actions.sample(self.generator) if explore else actions.mode()
            log_prob = actions.log_prob(action).cpu().numpy() if explore else None
        self.carry = {**(self.carry or {}), "memory": after.cpu().numpy()}
        action = action.cpu().numpy()
        if not explore:
            return action, {}
        return action, {"log_prob": log_prob, "began": began, "memory": held}

    def try_networks(self, seen: torch.Tensor) -> None:
        """Raise ValueError where a network does not take what it is given."""
        rnn, torso, what = self.cell.rnn, self.modules.get("torso"), "observations"
        if torso is not None:
            seen, what = tried("torso", torso, seen), "what torso gives"
        memory = torch.zeros(len(seen), self.cell.size, device=self.device)
        if seen.shape != (len(seen), rnn.input_size):
            sizes = "".join(f", {n}" for n in seen.shape[1:])
            raise checks.OptionError(
                f"rnn must take {what} [N{sizes}], got input_size={rnn.input_size}"
            )
        with torch.inference_mode():
            _, features = self.cell.step(memory, seen)
        heads = {
            name: tried(name, self.modules[name], features, "features of the rnn")
            for name in ("actor_head", "critic_head")
        }
        one_value("critic_head", heads["critic_head"])
        if count_of("actor_head", heads["actor_head"]) != self.n_actions:
            raise checks.OptionError(
                f"actor_head must give logits of n_actions={self.n_actions} actions, "
                f"[N, {self.n_actions}], got the shape "
                f"{list(heads['actor_head'].shape)}"
            )

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one observation and of one row of the carry."""
        first = self.modules.get("torso", self.modules["rnn"])
        return {"observation": self.view.shape(first), "carry": (self.cell.size,)}

    def policy_outputs(
        self, observation: PyTree, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the logits, the likeliest "action", and "next_carry"."""
        seen = self.view.exported(observation)
        after, features = self.cell.step(carry[0], self._inputs(seen))
        actions = self._actions(features, seen)
        return {**actions.parameters(), "action": actions.mode(), "next_carry": after}

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return the probabilities of the actions, [B, n], with the memory of episodes.

        It is what the last `act` left; the step that this asks about is not remembered.
        """
        seen = self.view(observations)
        held, count = (self.carry or {}).get("memory"), len(observed(seen))
        if held is None or len(held) != count:
            held = np.zeros((count, self.cell.size), np.float32)
        else:
            held = np.where(self.carry["began"][:, None], np.float32(0), held)
        with torch.inference_mode():
            _, features = self.cell.step(self.to_tensor(held), self._inputs(seen))
            return self._actions(features, seen).log_probs.exp().cpu().numpy()

    def _prepare(self, window, reward):
        if "memory" not in window.extras:
            raise checks.OptionError(
                "extras of the window must hold 'memory', the carry before each step, "
                f"got {sorted(window.extras)}; collect with act_batch, as pipelines do"
            )
        memory = np.asarray(window.extras["memory"], np.float32)
        cut = segments(window.dones, self.hyperparams["sequence_length"])
        num_envs = window.num_envs
        row = self.to_tensor(cut.step * num_envs + cut.env[:, None])
        carry = self.to_tensor(memory[cut.step[:, 0], cut.env])
        there = self.to_tensor(cut.there)
        with torch.no_grad():
            obs = self.view(flat_rows(window.observations))
            logits, values = self._run(carry, observed(obs)[row])
            where = self._places(cut)
            logits, values = logits[where], values[where]  # [T * B, ...]

            def value_after(steps, envs):
                seen, after = (
                    self._inputs(self.view(observed(x)[steps, envs]))
                    for x in (window.observations, window.next_observations)
                )
                held, _ = self.cell.step(self.to_tensor(memory[steps, envs]), seen)
                return self._value(self.cell.step(held, after)[1]).cpu().numpy()

            gains = self.advantages(
                window,
                reward,
                values.cpu().numpy().reshape(window.rewards.shape),
                value_after,
            )
            action = self.to_tensor(window.actions.reshape(-1))
            log_prob = Categorical(masked(logits, obs)).log_prob(action)
            if "log_prob" in window.extras:
                log_prob = self.to_tensor(window.extras["log_prob"].reshape(-1))
        gains = self.to_tensor(gains.reshape(-1))
        samples = Samples(obs, action, log_prob, gains, values)
        return Stretches(samples, carry, row, there), len(carry)

    def _evaluate(self, samples, index):
        row, there = samples.row[index], samples.there[index]
        obs = observed(samples.samples.obs)[row]
        logits, value = self._run(samples.carry[index], obs)
        batch = samples.samples.take(row[there])
        actions = Categorical(masked(logits[there], batch.obs))
        return actions.log_prob(batch.action), actions.entropy(), value[there], batch

    def _places(self, cut: Segments) -> tuple[torch.Tensor, torch.Tensor]:
        """Where in stretches [K, S] the steps of the window [T * B] are."""
        stretch, place = cut.row.reshape(-1, 2).T
        return self.to_tensor(stretch), self.to_tensor(place)

    def _actions(self, features: torch.Tensor, obs: PyTree) -> Categorical:
        """Return the distribution of what the cell gives [N, ...] at observations."""
        return Categorical(masked(self.modules["actor_head"](features), obs))

    def _inputs(self, obs: PyTree) -> torch.Tensor:
        torso, seen = self.modules.get("torso"), observed(obs)
        return seen if torso is None else torso(seen)

    def _run(self, carry, obs):
        """Return logits [K, S, n] and values [K, S] of observations [K, S, ...]."""
        lead = obs.shape[:2]
        inputs = self._inputs(obs.flatten(0, 1)).unflatten(0, lead)
        features = self.cell.sequence(carry, inputs)
        value = self._value(features.flatten(0, 1)).unflatten(0, lead)
        return self.modules["actor_head"](features), value

    def _value(self, features: torch.Tensor) -> torch.Tensor:
        return one_value("critic_head", self.modules["critic_head"](features))
