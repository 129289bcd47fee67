"""Soft actor-critic in TensorFlow (https://arxiv.org/abs/1812.05905).

A tanh-squashed Gaussian actor learns to maximise the smaller of two critics plus its own
entropy, whose temperature is tuned to a target entropy.
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from optix import checks
from optix.agents.sac import HYPERPARAMS, LOG_SCALE
from optix.host.network_agent import Hyperparams
from optix.host.replaying import replay_floats, replay_sizes
from optix_tensorflow.actions import squashed
from optix_tensorflow.critics import TwinCriticAgent
from optix_tensorflow.networks import dense


class TFSACAgent(TwinCriticAgent):
    """SAC of continuous actions.

    Args:
      actor: a Keras model of observations [N, ...] to means before tanh, and log scales
        beside them [N, 2 action_dim].
      critic1: one of rows of observation and action [N, *] to values [N, 1] or [N].
      critic2: another one.
      action_dim: entries of an action.
      actor_optimizer: of keras.optimizers, for the actor; None is Adam.
      critic_optimizer: for both critics; None is Adam.
      alpha_optimizer: another of its kind and settings is made for the temperature; None
        is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        target_rate, entropy_scale (minus the target entropy, per action), max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts and n_step. Without a learning_rate it is the actor's
        optimizer's; the others keep their ratio to it.
      bounds: (low, high) of the environment's actions, numbers or arrays.
      tune_temperature: towards the target entropy; else the initial one is kept.
      initial_temperature: the weight of the entropy at first.
      prioritised: replay by temporal-difference error; then priority_exponent,
        importance_exponent and importance_steps are hyperparameters too.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes what the actor says.

    Raises:
      ValueError: one critic twice, an unknown hyperparameter or one out of its range, a
        model that is not built or can not be copied, an optimizer of other variables or
        with a schedule, bounds that are none.

    >>> import numpy as np
    >>> actor, *critics = (
    ...     keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
    ...     for inputs, outputs in ((3, 2), (4, 1), (4, 1))
    ... )
    >>> agent = TFSACAgent(actor, *critics, 1, bounds=(-2.0, 2.0))
    >>> agent.act(np.zeros(3)).shape
    (1,)
    """

    FLOATS = replay_floats(HYPERPARAMS, 1.0)
    SIZES = replay_sizes(256)
    NAMES = ("value_loss", "policy_loss", "entropy", "temperature", "grad_norm")
    HEAD = "squashed_gaussian"
    LOG_SCALES = LOG_SCALE

    def __init__(
        self,
        actor: Any,
        critic1: Any,
        critic2: Any,
        action_dim: int,
        actor_optimizer: Any = None,
        critic_optimizer: Any = None,
        alpha_optimizer: Any = None,
        hyperparams: Hyperparams = None,
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
            bounds,
            actor_optimizer,
            critic_optimizer,
            prioritised=prioritised,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            observation_shape=observation_shape,
        )
        self._initial = math.log(first)
        self.log_temperature = keras.Variable(self._initial, name="log_temperature")
        self.parts["log_temperature"] = self.log_temperature
        if alpha_optimizer is not None:
            kind = keras.optimizers.Optimizer
            checks.record("alpha_optimizer", alpha_optimizer, kind, "make one by Keras")
            settings = alpha_optimizer.get_config()
            alpha_optimizer = type(alpha_optimizer).from_config(settings)
        self.add_optimizer("alpha_optimizer", alpha_optimizer, [self.log_temperature])

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        **options: Any,
    ) -> TFSACAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of each network.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TFSACAgent.for_env(gymnasium.make("Pendulum-v1"), hidden=(32,))
        >>> agent.bounds.unit.tolist()
        [2.0]
        """

        def head(size):
            return dense(2 * size)

        return cls._fitting(env, head, hidden, activation, options)

    def _explored(self, obs):
        return self.call("explore", self._explore, obs).numpy()

    def _explore(self, obs):
        return self._propose(obs)[0]

    def _play(self, obs):
        return tf.tanh(self._gaussian(obs)[0])

    def _update(self, batch, h, made):
        limit = h["max_grad_norm"]
        temperature = tf.exp(self.log_temperature.value)
        following, log_prob = self._propose(batch.next_obs)
        value = tf.minimum(*self.values(batch.next_obs, following, "target_"))
        value = value - temperature * log_prob
        target = batch.reward + batch.discount * value
        value_loss, error, norm = self.fit_critics(batch, target, limit)

        with tf.GradientTape() as tape:
            action, log_prob = self._propose(batch.obs, training=True)
            value = tf.minimum(*self.values(batch.obs, action))
            policy_loss = tf.reduce_mean(temperature * log_prob - value)
        self.descend("actor_optimizer", tape, policy_loss, limit)
        entropy = -tf.reduce_mean(log_prob)
        if self.tune_temperature:
            surplus = entropy + self.size[0] * h["entropy_scale"]
            with tf.GradientTape() as tape:
                loss = self.log_temperature.value * surplus
            self.descend("alpha_optimizer", tape, loss, limit)
        self.follow(h["target_rate"])
        return [value_loss, policy_loss, entropy, temperature, norm], error

    def _gaussian(self, obs, training=False):
        out = self.modules["actor"](obs, training=training)
        out = self.checked(out, 2, "a mean and a log scale")
        mean, log_scale = tf.split(out, 2, -1)
        return mean, tf.clip_by_value(log_scale, *LOG_SCALE)

    def _propose(self, obs, training=False):
        mean, log_scale = self._gaussian(obs, training)
        noise = self.generator.normal(tf.shape(mean))
        return squashed(mean, log_scale, noise)

    def _after_reset(self) -> None:
        super()._after_reset()
        self.log_temperature.assign(self._initial)
