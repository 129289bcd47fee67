"""Proximal policy optimisation of discrete actions, in TensorFlow."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.types import Discrete
from optix_tensorflow.actions import Categorical
from optix_tensorflow.networks import dense, network
from optix_tensorflow.on_policy import ProximalAgent


class TFPPOAgent(ProximalAgent):
    """PPO (https://arxiv.org/abs/1707.06347) of discrete actions.

    Args:
      actor: a Keras model of observations [N, ...] to logits [N, n].
      critic: one of observations [N, ...] to values [N, 1] or [N].
      optimizer: of keras.optimizers, for both; None is Adam with epsilon 1e-5.
      hyperparams: a `HyperparamSet` or {name: value}: learning_rate, discount,
        gae_lambda, clip_ratio, entropy_coefficient, value_coefficient, max_grad_norm,
        which the loop may tune, num_epochs and num_minibatches. Without a learning_rate
        it is the optimizer's.
      reward_normalizer: in place of the agent's own, with `num_envs` of the pipeline's.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      clip_values: clip the value loss as the policy loss.
      target_kl: end a window's updates when the divergence from the behaviour passes
        this; it then is a hyperparameter. None never does.
      observation_shape: of one observation; None takes what the actor says.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, a model that is not
        built, an optimizer of other variables or with a schedule.

    >>> import keras
    >>> actor, critic = (
    ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(n)]) for n in (2, 1)
    ... )
    >>> agent = TFPPOAgent(actor, critic, hyperparams={"discount": 0.98})
    >>> agent.act(np.zeros(4)) in (0, 1)
    True
    """

    distribution = Categorical
    takes_masks = True
    HEAD = "logits"

    def __init__(
        self,
        actor: Any,
        critic: Any,
        optimizer: Any = None,
        hyperparams: Hyperparams = None,
        reward_normalizer: RewardNormalizer | None = None,
        *,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        super().__init__(
            actor,
            critic,
            optimizer,
            hyperparams,
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
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        **options: Any,
    ) -> TFPPOAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with discrete actions; single or vectorised.
          hidden: widths of the hidden layers of actor and critic.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> agent = TFPPOAgent.for_env(env, hidden=(32,), clip_ratio=0.1)
        >>> agent.hyperparams["clip_ratio"], agent.action_probs(np.zeros(4)).shape
        (0.1, (2,))
        """

        def networks(observed, n):
            return {
                "actor": network(observed, hidden, dense(n), activation),
                "critic": network(observed, hidden, dense(1), activation),
            }

        return fitted(cls, env, Discrete, networks, options)

    def _actions(self, obs, mask=None, training=False):
        actions = super()._actions(obs, mask, training)
        self.number_of_actions = actions.log_probs.shape[-1]  # where it is traced
        return actions

    def action_probs_batch(self, observations: Any) -> np.ndarray:
        """Return the probabilities of the actions, [B, n]."""
        seen = self.shown(observations)
        return np.exp(self.call("log_probs", self._log_probs, *seen))

    def _log_probs(self, obs, mask=None):
        return self._actions(obs, mask).log_probs
