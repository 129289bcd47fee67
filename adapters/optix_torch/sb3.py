"""A Stable-Baselines3 model in optix's loop: the loop steps, the model's `train` learns.

The model's own `learn` is never called, so its environments, callbacks and progress bar
are not used. A window goes into its rollout buffer, or into its replay.
"""

# Stable-Baselines3 is optional, also where types are checked
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import jax
import numpy as np
import torch

from optix.envs.kinds import is_a
from optix.host.agent import HyperparamSet
from optix.host.window import EpisodeData
from optix_torch import state as tensors
from optix_torch.agent import ModuleAgent
from optix_torch.sb3_export import model_inputs, model_outputs
from optix_torch.sb3_model import (
    FLOATS,
    SIZES,
    check_schedules,
    constant,
    decoded,
    is_on_policy,
    transposed,
)
from optix_torch.sb3_parts import (
    ModelCounters,
    ModelMoments,
    ModelReplay,
    action_noise,
)


class SB3Agent(ModuleAgent):
    """A model of Stable-Baselines3: PPO, A2C, DQN, SAC, TD3 or DDPG, new or loaded.

    Its settings are the model's own, `policy_kwargs` and a VecNormalize around its
    environments included; `agent.model` is the model, to be saved as ever. What is a
    constant in it becomes a hyperparameter, under its own name. All seeds of a run begin
    with the model's weights. SB3 draws from NumPy's and Torch's global generators: `seed`
    seeds those.

    Args:
      model: the object, not the path of one: its files hold pickles.
      total_timesteps: over which the model's schedules run. It is needed where there are
        any: a learning rate or clip range that is a function, DQN's exploration.

    Raises:
      ImportError: Stable-Baselines3 is not installed.
      ValueError: something else than such a model, a replay that needs an environment, a
        schedule without `total_timesteps`.

    Example: `SB3Agent(PPO("MlpPolicy", "CartPole-v1"))`.
    """

    def __init__(self, model: Any, *, total_timesteps: int | None = None):
        """See the class."""
        self.model = model
        self.on_policy = is_on_policy(model)
        if is_a(model.action_space, "Discrete"):
            self.number_of_actions = int(model.action_space.n)
        self._total = total_timesteps
        check_schedules(model, total_timesteps)
        self.FLOATS = {
            name: (value, *FLOATS[name])
            for name in FLOATS
            if (value := constant(getattr(model, name, None))) is not None
        }
        self.SIZES = {
            name: (value, 1)
            for name in SIZES
            if isinstance(value := getattr(model, name, None), int)
        }
        super().__init__({"policy": model.policy}, None, model.device)
        parts, variables = model._get_torch_save_params()
        for path in (*parts, *variables):
            name, part = path.replace(".", "_"), attrgetter(path)(model)
            self.parts[name] = part
            if isinstance(part, torch.optim.Optimizer):
                self.optimizers[name] = part
        for optimizer in self.optimizers.values():
            tensors.make_moments(optimizer)
        self._counters = ModelCounters(model)
        self.records["counters"] = self._counters
        around = model.get_vec_normalize_env()
        self._moments = None if around is None else ModelMoments(around)
        if self._moments is not None:
            self.records["normalize"] = self._moments
        self._rollouts: dict[tuple[int, int], Any] = {}  # {(T, B): buffer}
        self._acted = 0  # steps of the window under way
        if not getattr(model, "_custom_logger", False):
            from stable_baselines3.common.logger import Logger

            model._logger = Logger(None, [])

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put them into the model; those that are not named stay as they are."""
        super().set_hyperparams(hyperparams)
        from stable_baselines3.common.utils import FloatSchedule

        for name in hyperparams.params:
            value = self.hyperparams[name]
            if name == "learning_rate":
                self.model.lr_schedule = FloatSchedule(value)
            scheduled = callable(getattr(self.model, name))
            setattr(self.model, name, FloatSchedule(value) if scheduled else value)
            if name == "ent_coef" and hasattr(self.model, "ent_coef_tensor"):
                self.model.ent_coef_tensor.fill_(value)

    def seed(self, seed: int) -> None:
        """Seed the global generators that the model draws from."""
        super().seed(seed)
        torch.manual_seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
        self.model.action_space.seed(seed & 0x7FFFFFFF)
        self._acted = 0

    def make_memory(self) -> ModelReplay | None:
        """Return a replay for one run, of a model that has one."""
        return None if self.on_policy else ModelReplay(self.model)

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], and while exploring what `learn` needs of them."""
        seen = self._seen(observations)
        self.model.policy.set_training_mode(False)
        if not explore:
            return self.model.policy.predict(seen, deterministic=True)[0], {}
        count = len(jax.tree.leaves(observations)[0])
        began = self.take_began(count)
        self._count_act(count)
        if not self.on_policy:
            return self._explored(seen, count), {"began": began}
        policy = self.model.policy
        with torch.no_grad():
            drawn, value, log_prob = policy(policy.obs_to_tensor(seen)[0])
        drawn = drawn.cpu().numpy()
        extras = {
            "value": value.flatten().cpu().numpy(),
            "log_prob": log_prob.cpu().numpy(),
            "drawn": drawn,
            "began": began,
        }
        return decoded(self.model, drawn), extras

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Let the model train on a window; return the numbers that it logged."""
        window = episode_data.batched()
        logger = self.model.logger
        logger.name_to_value.clear()
        self._acted = 0
        (self._learn_window if self.on_policy else self._learn_replay)(window)
        if self._moments is not None:
            self._moments.observe(window.observations)
        numbers = {
            name.split("/")[-1]: float(value)
            for name, value in logger.name_to_value.items()
            if np.ndim(value) == 0 and not isinstance(value, str)
        }
        logger.name_to_value.clear()
        # of a window with equal returns it is NaN, and nothing is wrong
        if not math.isfinite(numbers.get("explained_variance", 0.0)):
            del numbers["explained_variance"]
        return numbers

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return the probabilities of discrete actions, [B, n]; one for DQN's best.

        Raises:
          NotImplementedError: actions are not discrete.
        """
        space = self.model.action_space
        if not hasattr(space, "n") or np.ndim(space.n):
            raise self._missing("action_probs")
        if not self.on_policy:
            actions, _ = self.act_batch(observations, explore=False)
            return np.eye(int(space.n), dtype=np.float32)[actions]
        policy = self.model.policy
        with torch.no_grad():
            seen = policy.obs_to_tensor(self._seen(observations))[0]
            actions = policy.get_distribution(seen).distribution
        return actions.probs.cpu().numpy()

    def policy_inputs(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one observation as the model has it, channels first."""
        return model_inputs(self.model)

    def policy_outputs(
        self, observation: torch.Tensor, *carry: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what the model's actions are chosen from, and its "action"."""
        return model_outputs(self.model, observation)

    def _explored(self, seen: Any, num_envs: int) -> np.ndarray:
        """Return actions of a model with a replay, as if each step had been counted."""
        model = self.model
        counted = model.num_timesteps
        model.num_timesteps += (self._acted - 1) * num_envs
        if self._total is not None and hasattr(model, "exploration_schedule"):
            left = max(1.0 - model.num_timesteps / self._total, 0.0)
            model.exploration_rate = model.exploration_schedule(left)
        model._last_obs = seen
        noise = action_noise(model, num_envs)
        try:
            return model._sample_action(model.learning_starts, noise, num_envs)[0]
        finally:
            model.num_timesteps = counted

    def _learn_window(self, window: EpisodeData) -> None:
        model, (steps, num_envs) = self.model, window.rewards.shape
        rewards = window.rewards
        if self._moments is not None:
            rewards = self._moments.rewards(rewards, window.dones, self.began(window))
        rewards = np.array(rewards)
        # SB3's way of bootstrapping at a time limit
        cut = np.nonzero(window.truncated & ~window.terminated)
        if len(cut[0]):
            rewards[cut] += model.gamma * self._values(window.next_observations, cut)
        last = (np.full(num_envs, steps - 1), np.arange(num_envs))
        following = self._values(window.next_observations, last)
        buffer = self._rollout(steps, num_envs)
        extras = window.extras
        drawn = extras["drawn"]
        if not drawn.shape[2:]:
            drawn = drawn[..., None]
        started = self.began(window).astype(np.float32)
        for t in range(steps):
            obs = self._seen(jax.tree.map(lambda x, t=t: x[t], window.observations))
            value, log_prob = (
                torch.from_numpy(extras[name][t]) for name in ("value", "log_prob")
            )
            buffer.add(obs, drawn[t], rewards[t], started, value, log_prob)
            started = window.dones[t].astype(np.float32)
        buffer.compute_returns_and_advantage(
            torch.from_numpy(following), window.dones[-1]
        )
        model.rollout_buffer = buffer
        self._count(window.length)
        model.train()

    def _learn_replay(self, window: EpisodeData) -> None:
        model, (steps, num_envs) = self.model, window.rewards.shape
        if self.memory is None:
            self.memory = self.make_memory()
        buffer = self.memory.of(num_envs)
        model.replay_buffer, model.n_envs = buffer, num_envs
        if hasattr(buffer, "gamma"):
            buffer.gamma = model.gamma
        began = self.began(window)
        if len(self.memory) and began.any():
            # what is stored before these steps does not lead to them
            buffer.timeouts[
                buffer.pos - 1, began & (buffer.dones[buffer.pos - 1] == 0)
            ] = 1
        actions = window.actions
        if hasattr(model.action_space, "low"):
            actions = model.policy.scale_action(actions)
        cut = window.truncated & ~window.terminated
        for t in range(steps):
            obs, after = (
                self._transposed(jax.tree.map(lambda x, t=t: x[t], part))
                for part in (window.observations, window.next_observations)
            )
            infos = [{"TimeLimit.truncated": bool(flag)} for flag in cut[t]]
            done = window.dones[t]
            buffer.add(obs, after, actions[t], window.rewards[t], done, infos)
            self._count(num_envs)
            model._on_step()
            self._counters.since += (1, int(done.sum()))
            self._train_if_due(num_envs)

    def _train_if_due(self, num_envs: int) -> None:
        """Train as often as the model's `train_freq` and `gradient_steps` say."""
        model = self.model
        steps, episodes = self._counters.since
        by_episode = model.train_freq.unit.value == "episode"
        if (episodes if by_episode else steps) < model.train_freq.frequency:
            return
        self._counters.since = np.zeros(2, np.int64)
        if model.num_timesteps > model.learning_starts:
            updates = model.gradient_steps
            updates = int(steps) * num_envs if updates < 0 else updates
            if updates:
                model.train(gradient_steps=updates, batch_size=model.batch_size)

    def _count(self, steps: int) -> None:
        model = self.model
        model.num_timesteps += steps
        if self._total is not None:
            left = max(1.0 - model.num_timesteps / self._total, 0.0)
            model._current_progress_remaining = left

    def _rollout(self, steps: int, num_envs: int) -> Any:
        """Return an empty rollout buffer of the model's class."""
        model, key = self.model, (steps, num_envs)
        if key not in self._rollouts:
            self._rollouts = {
                key: model.rollout_buffer_class(
                    steps,
                    model.observation_space,
                    model.action_space,
                    device=model.device,
                    n_envs=num_envs,
                    **model.rollout_buffer_kwargs,
                )
            }
        buffer = self._rollouts[key]
        buffer.gamma, buffer.gae_lambda = model.gamma, model.gae_lambda
        buffer.reset()
        return buffer

    def _values(self, observations: Any, where: tuple) -> np.ndarray:
        """Return the values [K] of observations [T, B, ...] at some places."""
        seen = self._seen(jax.tree.map(lambda x: x[where], observations))
        policy = self.model.policy
        with torch.no_grad():
            values = policy.predict_values(policy.obs_to_tensor(seen)[0])
        return values.flatten().cpu().numpy()

    def _seen(self, observations: Any) -> Any:
        """Return observations [N, ...] as the policy gets them."""
        observations = self._transposed(observations)
        if self._moments is None:
            return observations
        return self._moments.observations(observations)

    def _transposed(self, observations: Any) -> Any:
        """Return images channels first, as SB3 keeps them."""
        return transposed(self.model.observation_space, observations)

    def _count_act(self, num_envs: int) -> None:
        """Count a step; with state-dependent exploration draw its noise when due."""
        model, every = self.model, self.model.sde_sample_freq
        due = self._acted == 0 or (every > 0 and self._acted % every == 0)
        self._acted += 1
        if model.use_sde and due:
            (model.policy if self.on_policy else model.actor).reset_noise(num_envs)
