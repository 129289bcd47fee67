"""Twin delayed deep deterministic policy gradient in TensorFlow.

https://arxiv.org/abs/1802.09477. A deterministic actor follows the first of two critics;
their targets take the smaller value of a smoothed target action. Actor and targets move
only at every `policy_delay`-th update.
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from optix.agents.td3 import HYPERPARAMS
from optix.host.network_agent import Hyperparams
from optix.host.replaying import replay_floats, replay_sizes
from optix_tensorflow.critics import TwinCriticAgent
from optix_tensorflow.networks import dense


class TFTDDAgent(TwinCriticAgent):
    """TD3 of continuous actions.

    Args:
      actor: a Keras model of observations [N, ...] to actions in [-1, 1],
        [N, action_dim]: it ends in tanh.
      critic1: one of rows of observation and action [N, *] to values [N, 1] or [N].
      critic2: another one.
      action_dim: entries of an action.
      actor_optimizer: of keras.optimizers, for the actor; None is Adam.
      critic_optimizer: for both critics; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        target_rate, exploration_noise, target_noise, target_noise_limit, max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts, n_step and policy_delay. Without a learning_rate it is
        the actor's optimizer's.
      bounds: (low, high) of the environment's actions, numbers or arrays.
      prioritised: as of `TFSACAgent`.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes what the actor says.

    Raises:
      ValueError: one critic twice, an unknown hyperparameter or one out of its range, a
        model that is not built or can not be copied, an optimizer of other variables or
        with a schedule, bounds that are none.

    >>> import keras
    >>> actor, *critics = (
    ...     keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1, "tanh")])
    ...     for inputs in (3, 4, 4)
    ... )
    >>> agent = TFTDDAgent(actor, *critics, 1)
    >>> agent.hyperparams["policy_delay"], agent.act(np.zeros(3)).shape
    (2, (1,))
    """

    FLOATS = replay_floats(HYPERPARAMS, 1.0)
    SIZES = {**replay_sizes(256), "policy_delay": (2, 1)}
    FOLLOWED: ClassVar = ("actor", "critic1", "critic2")
    NAMES = ("value_loss", "policy_loss", "grad_norm")
    HEAD = "unit_action"

    def __init__(
        self,
        actor: Any,
        critic1: Any,
        critic2: Any,
        action_dim: int,
        actor_optimizer: Any = None,
        critic_optimizer: Any = None,
        hyperparams: Hyperparams = None,
        *,
        bounds: tuple[Any, Any] = (-1.0, 1.0),
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
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

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        **options: Any,
    ) -> TFTDDAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of each network.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TFTDDAgent.for_env(gymnasium.make("Pendulum-v1"), hidden=(32,))
        >>> agent.hyperparams["exploration_noise"]
        0.1
        """

        def head(size):
            return dense(size, "tanh")

        return cls._fitting(env, head, hidden, activation, options)

    def _explored(self, obs):
        action = self.call("play", self._play, obs).numpy()
        noise = self.rng.standard_normal(action.shape, np.float32)
        return np.clip(action + self.hyperparams["exploration_noise"] * noise, -1, 1)

    def _play(self, obs):
        return self._propose("actor", obs)

    def _update(self, batch, h, made):
        limit = h["target_noise_limit"]
        noise = h["target_noise"] * self.generator.normal(tf.shape(batch.action))
        following = self._propose("target_actor", batch.next_obs)
        following = following + tf.clip_by_value(noise, -limit, limit)
        following = tf.clip_by_value(following, -1.0, 1.0)
        value = tf.minimum(*self.values(batch.next_obs, following, "target_"))
        target = batch.reward + batch.discount * value
        value_loss, error, norm = self.fit_critics(batch, target, h["max_grad_norm"])

        def improve():
            with tf.GradientTape() as tape:
                action = self._propose("actor", batch.obs, training=True)
                loss = -tf.reduce_mean(self.values(batch.obs, action)[0])
            self.descend("actor_optimizer", tape, loss, h["max_grad_norm"])
            self.follow(h["target_rate"])
            return loss * tf.cast(h["policy_delay"], tf.float32)

        # of the updates that have one: the others count as the last of them
        delay = tf.cast(h["policy_delay"], tf.int64)
        policy_loss = tf.cond(made % delay == 0, improve, lambda: 0.0)
        return [value_loss, policy_loss, norm], error

    def _propose(self, name, obs, training=False):
        return self.checked(self.modules[name](obs, training=training), 1, "an action")


TFTD3Agent = TFTDDAgent
