"""Deep Q-learning in TensorFlow (https://arxiv.org/abs/1312.5602), double
(https://arxiv.org/abs/1509.06461).
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from optix import checks
from optix.agents.dqn import HYPERPARAMS
from optix.host.fitting import fitted
from optix.host.masked import random_action
from optix.host.network_agent import Hyperparams
from optix.host.replaying import epsilon, replay_floats, replay_sizes
from optix.types import Discrete
from optix_tensorflow.actions import masked
from optix_tensorflow.given import built, copied
from optix_tensorflow.networks import Duel, dense, hidden_layers, network
from optix_tensorflow.off_policy import ReplayAgent, follow


class TFDQNAgent(ReplayAgent):
    """DQN of discrete actions.

    Acting is greedy but for a share epsilon of random actions, which falls linearly over
    the environment steps.

    Args:
      q_network: a Keras model of observations [N, ...] to values of the actions
        [N, n_actions].
      n_actions: number of actions.
      optimizer: of keras.optimizers; None is Adam.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        epsilon_start, epsilon_end, epsilon_steps, target_rate, max_grad_norm,
        updates_per_step (of the environments), which the loop may tune; batch_size,
        capacity, learning_starts, n_step and target_period (updates). Without a
        learning_rate it is the optimizer's.
      double: the online network chooses the action that the target network values.
      prioritised: replay by temporal-difference error; then priority_exponent,
        importance_exponent and importance_steps are hyperparameters too.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      observation_shape: of one observation; None takes what the network says.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, a model that is not
        built or can not be copied, an optimizer of other variables or with a schedule.

    >>> import keras
    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> agent = TFDQNAgent(network, 2, hyperparams={"n_step": 3})
    >>> agent.act(np.zeros(4)) in (0, 1), agent.hyperparams["epsilon_start"]
    (True, 1.0)
    """

    FLOATS = replay_floats(HYPERPARAMS, 0.25)
    SIZES = {**replay_sizes(128), "target_period": (50, 1)}
    NAMES = ("value_loss", "value", "grad_norm")
    HEAD = "q_values"
    takes_masks = True
    action_dtype: ClassVar = tf.int64

    def __init__(
        self,
        q_network: Any,
        n_actions: int,
        optimizer: Any = None,
        hyperparams: Hyperparams = None,
        *,
        double: bool = True,
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.double = checks.boolean("double", double)
        self.n_actions = checks.positive_int("n_actions", n_actions)
        self.number_of_actions = self.n_actions
        q_network = built("q_network", q_network, observation_shape)
        target = copied("q_network", q_network, observation_shape)
        super().__init__(
            {"q_network": q_network, "target": target},
            hyperparams,
            prioritised=prioritised,
            normalize_observations=normalize_observations,
            normalize_rewards=normalize_rewards,
            observation_shape=observation_shape,
        )
        self.q_network, self.target = q_network, target
        self.add_optimizer("optimizer", optimizer, [q_network])

    @classmethod
    def for_env(
        cls,
        env: Any,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        dueling: bool = False,
        **options: Any,
    ) -> TFDQNAgent:
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
        >>> TFDQNAgent.for_env(env, hidden=(32,), dueling=True).n_actions
        2
        """

        def networks(observed, n):
            def head(x):
                if not checks.boolean("dueling", dueling):
                    return dense(n)(x)
                value, advantage = (
                    dense(outputs)(hidden_layers(x, [x.shape[-1]], activation))
                    for outputs in (1, n)
                )
                return Duel()(value, advantage)

            q_network = network(observed, hidden, head, activation)
            return {"q_network": q_network, "n_actions": n}

        return fitted(cls, env, Discrete, networks, options)

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return one for the actions that it plays without exploring, [B, n]."""
        actions, _ = self.act_batch(observations, explore=False)
        return np.eye(self.n_actions, dtype=np.float32)[actions]

    @property
    def epsilon(self) -> float:
        """The share of random actions now: all, until there is enough to learn from."""
        return epsilon(self.hyperparams, self.env_steps) if self.warm else 1.0

    def _anything(self, *obs):
        (seen, *_), *masks = obs
        if not masks:
            return self.rng.integers(0, self.n_actions, len(seen))
        return random_action(self.rng, masks[0][0])

    def _explored(self, *obs):
        greedy = self.call("play", self._play, *obs).numpy()
        coin = self.rng.random(len(greedy))
        return np.where(coin < self.epsilon, self._anything(*obs), greedy)

    def _play(self, obs, mask=None):
        return tf.argmax(self._values(self.q_network, obs, mask), -1)

    def _update(self, batch, h, made):
        following = batch.next_obs, batch.next_mask
        target_values = chooser = self._values(self.target, *following)
        if self.double:
            chooser = self._values(self.q_network, *following)
        best = tf.argmax(chooser, -1)
        following = tf.gather(target_values, best, axis=-1, batch_dims=1)
        target = batch.reward + batch.discount * following
        with tf.GradientTape() as tape:
            values = self._values(self.q_network, batch.obs, training=True)
            value = tf.gather(values, batch.action, axis=-1, batch_dims=1)
            error = value - target
            loss = tf.reduce_mean(batch.weight * 0.5 * tf.square(error))
        norm = self.descend("optimizer", tape, loss, h["max_grad_norm"])
        period = tf.cast(h["target_period"], tf.int64)

        def move():
            follow(self.target.weights, self.q_network.weights, h["target_rate"])
            return 0

        tf.cond(made % period == 0, move, lambda: 0)
        return [loss, tf.reduce_mean(value), norm], tf.abs(error)

    def _values(self, model, obs, mask=None, training=False):
        out = model(obs, training=training)
        if out.shape.rank != 2 or out.shape[1] != self.n_actions:
            raise checks.OptionError(
                f"q_network must give values of n_actions={self.n_actions} actions, "
                f"[N, {self.n_actions}], got the shape {list(out.shape)}"
            )
        return masked(out, mask, "values")

    def _after_reset(self) -> None:
        self.target.set_weights(self.q_network.get_weights())

    def _encoded(self, actions: np.ndarray) -> np.ndarray:
        return np.asarray(actions, np.int64)
