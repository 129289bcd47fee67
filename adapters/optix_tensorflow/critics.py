"""An actor and two critics with targets, of continuous actions: what SAC and TD3 share."""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from optix.host.bounds import BoxActions, action_bounds
from optix.host.fitting import fitted
from optix.host.network_agent import Hyperparams, check_two
from optix.types import Box
from optix_tensorflow.agent import one_value
from optix_tensorflow.given import built, copied, input_shape
from optix_tensorflow.networks import critic, network
from optix_tensorflow.off_policy import Batch, ReplayAgent, follow


class TwinCriticAgent(BoxActions, ReplayAgent):
    """What the two agents share. Critics get observation and action as one row [N, *]."""

    FOLLOWED: ClassVar[tuple[str, ...]] = ("critic1", "critic2")

    def __init__(
        self,
        models: Mapping[str, Any],
        action_dim: int,
        hyperparams: Hyperparams,
        bounds: tuple[Any, Any],
        actor_optimizer: Any,
        critic_optimizer: Any,
        *,
        observation_shape: tuple[int, ...] | None = None,
        **options: Any,
    ):
        """Copy what the targets follow."""
        self.bounds = action_bounds(action_dim, bounds)
        self.size = self.bounds.unit.shape
        actor = built("actor", models["actor"], observation_shape)
        shape = observation_shape or input_shape(actor)
        row = None if shape is None else (int(np.prod(shape)) + action_dim,)
        shapes = {"actor": shape, "critic1": row, "critic2": row}
        models = {name: built(name, m, shapes[name]) for name, m in models.items()}
        check_two(models.values())
        targets = {
            f"target_{name}": copied(name, models[name], shapes[name])
            for name in self.FOLLOWED
        }
        super().__init__(
            {**models, **targets},
            hyperparams,
            observation_shape=observation_shape,
            **options,
        )
        actor, *critics = models.values()
        self.add_optimizer("actor_optimizer", actor_optimizer, [actor])
        self.add_optimizer("critic_optimizer", critic_optimizer, critics)

    @classmethod
    def _fitting(
        cls,
        env: Any,
        head: Callable[[int], Callable[[Any], Any]],
        hidden: Sequence[int],
        activation: str,
        options: Mapping[str, Any],
    ) -> Any:
        """Return an agent for an environment, as `for_env` says.

        `head` is `(number of actions) -> (features) -> what the actor gives`.
        """

        def networks(observed, size):
            one, two = (critic(observed, size, hidden, activation) for _ in range(2))
            return {
                "actor": network(observed, hidden, head(size), activation),
                "critic1": one,
                "critic2": two,
                "action_dim": size,
            }

        return fitted(cls, env, Box, networks, options)

    def values(self, obs: Any, action: Any, before: str = "", training=False) -> Any:
        """Return the values [N] of both critics, or of their targets."""
        row = tf.concat([tf.reshape(obs, [tf.shape(obs)[0], -1]), action], -1)
        row = tf.ensure_shape(row, [None, self._entries()])
        return [
            one_value(name, self.modules[f"{before}{name}"](row, training=training))
            for name in ("critic1", "critic2")
        ]

    def fit_critics(
        self, batch: Batch, target: Any, limit: Any
    ) -> tuple[Any, Any, Any]:
        """Take a step of both critics to targets [N]; return loss, errors [N] and norm."""
        with tf.GradientTape() as tape:
            values = self.values(batch.obs, batch.action, training=True)
            one, two = (value - target for value in values)
            square = tf.square(one) + tf.square(two)
            loss = 0.5 * tf.reduce_mean(batch.weight * square)
        norm = self.descend("critic_optimizer", tape, loss, limit)
        return loss, (tf.abs(one) + tf.abs(two)) / 2, norm

    def follow(self, rate: Any) -> None:
        """Let the targets move by a share towards what they follow."""
        for name in self.FOLLOWED:
            target, source = self.modules[f"target_{name}"], self.modules[name]
            follow(target.weights, source.weights, rate)

    def _entries(self) -> int:
        return int(np.prod(self.shape or (1,))) + self.size[0]

    def _anything(self, *obs: Any) -> np.ndarray:
        count = len(obs[0][0])
        return self.rng.uniform(-1, 1, (count, *self.size)).astype(np.float32)

    def _after_reset(self) -> None:
        for name in self.FOLLOWED:
            weights = self.modules[name].get_weights()
            self.modules[f"target_{name}"].set_weights(weights)
