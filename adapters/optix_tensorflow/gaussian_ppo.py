"""Proximal policy optimisation of continuous actions, in TensorFlow."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optix.host.bounds import BoxActions, action_bounds
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.host.window import EpisodeData
from optix.types import Box
from optix_tensorflow.actions import Gaussian
from optix_tensorflow.networks import LogScale, dense, network
from optix_tensorflow.on_policy import ProximalAgent


class TFGaussianPPOAgent(BoxActions, ProximalAgent):
    """PPO (https://arxiv.org/abs/1707.06347) of continuous actions.

    Actions are drawn from a Gaussian; -1 and 1 are the bounds of the environment's, and
    what is beyond them is clipped on its way there. Learned is from what was drawn.

    Args:
      actor: a Keras model of observations [N, ...] to means, and log scales beside them
        [N, 2 action_dim].
      critic: one of observations [N, ...] to values [N, 1] or [N].
      optimizer: of keras.optimizers, for both; None is Adam with epsilon 1e-5.
      action_dim: entries of an action.
      hyperparams: as of `TFPPOAgent`.
      reward_normalizer: as of `TFPPOAgent`.
      bounds: (low, high) of the environment's actions, numbers or arrays.
      **options: normalize_observations, normalize_rewards, clip_values, target_kl and
        observation_shape, as of `TFPPOAgent`.

    Raises:
      ValueError: an unknown hyperparameter or one out of its range, a model that is not
        built, an optimizer of other variables or with a schedule, bounds that are none.

    >>> import keras
    >>> actor, critic = (
    ...     keras.Sequential([keras.Input((3,)), keras.layers.Dense(n)]) for n in (2, 1)
    ... )
    >>> agent = TFGaussianPPOAgent(actor, critic, None, 1, bounds=(-2.0, 2.0))
    >>> agent.act(np.zeros(3)).shape
    (1,)
    """

    distribution = Gaussian
    HEAD = "gaussian"
    drawn = "drawn"

    def __init__(
        self,
        actor: Any,
        critic: Any,
        optimizer: Any = None,
        action_dim: int = 1,
        hyperparams: Hyperparams = None,
        reward_normalizer: RewardNormalizer | None = None,
        *,
        bounds: tuple[Any, Any] = (-1.0, 1.0),
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See the class."""
        self.bounds = action_bounds(action_dim, bounds)
        self.size = self.bounds.unit.shape
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
    ) -> TFGaussianPPOAgent:
        """Return an agent with networks that fit a Gymnasium environment.

        Args:
          env: with a box of actions; single or vectorised.
          hidden: widths of the hidden layers of actor and critic.
          activation: one of tanh, relu, silu, gelu, elu.
          **options: hyperparameters, and keywords of the class.

        Raises:
          ValueError: other actions, spaces no agent can use, an unknown option.

        >>> import gymnasium
        >>> agent = TFGaussianPPOAgent.for_env(gymnasium.make("Pendulum-v1"))
        >>> agent.bounds.unit.tolist()
        [2.0]
        """

        def networks(observed, size):
            def head(x):
                return LogScale()(dense(size, scale=0.01)(x))

            return {
                "actor": network(observed, hidden, head, activation),
                "critic": network(observed, hidden, dense(1), activation),
                "action_dim": size,
            }

        return fitted(cls, env, Box, networks, options)

    def _actions(self, obs, mask=None, training=False):
        out = self.modules["actor"](obs, training=training)
        return self.distribution(self.checked(out, 2, "a mean and a log scale"))

    def _drawn(self, window: EpisodeData) -> np.ndarray:
        drawn = window.extras.get("drawn")
        return self.bounds.encode(window.actions) if drawn is None else drawn
