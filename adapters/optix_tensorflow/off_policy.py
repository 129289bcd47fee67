"""Learning from a replay, as DQN, SAC and TD3 do; see `optix.host.replaying`.

The rows of all updates of a window are drawn at once and learned from in one call. A
prioritised replay is drawn from anew for each update: it depends on the last one's errors.
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from optix.host.network_agent import Hyperparams
from optix.host.observing import ObservationView
from optix.host.replaying import ReplayLearner
from optix.math.masks import mask_of, observed
from optix_tensorflow.agent import KerasAgent

MOST_BYTES = 2**26  # of the observations that are drawn at once


class Batch(NamedTuple):
    """`N` rows to learn from."""

    obs: Any  # [N, ...] as the network gets them
    action: Any  # [N, ...]
    reward: Any  # [N] scaled
    discount: Any  # [N] of the value that follows, 0 after a termination
    next_obs: Any  # [N, ...]
    weight: Any  # [N]
    next_mask: Any = None  # [N, n] bool of actions that are allowed next


class ReplayAgent(ReplayLearner, KerasAgent):
    """What agents with a replay share; a subclass says how a batch is learned from.

    size: entries of an action, () for a number.
    """

    action_dtype: ClassVar[Any] = tf.float32
    size: tuple[int, ...] = ()

    def __init__(
        self,
        models: Mapping[str, Any],
        hyperparams: Hyperparams,
        *,
        prioritised: bool = False,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """Take the models and what is the same for all."""
        self.with_priorities(prioritised)
        super().__init__(models, hyperparams, observation_shape)
        view = ObservationView(self.shape, normalize_observations, self.takes_masks)
        self.with_replay(view, normalize_rewards)

    def _seen(self, observations: Any) -> list[tuple[Any, Any, Any]]:
        return self.shown(observations)

    def _chosen(self, obs: list[tuple[Any, Any, Any]], explore: bool) -> np.ndarray:
        if not explore:
            return self.call("play", self._play, *obs).numpy()
        return self._explored(*obs) if self.warm else self._anything(*obs)

    def _improve(self, updates: int) -> list[float]:
        self.learned_from["windows"] += 1
        a_batch = 8 * self.hyperparams["batch_size"] * int(np.prod(self.shape or (1,)))
        most = 1 if self.prioritised else max(1, MOST_BYTES // a_batch)
        total, left = np.zeros(len(self.NAMES)), updates
        while left:
            count = min(left, most)
            total += self._learn_from(count)
            left -= count
        return (total / updates).tolist()

    def _learn_from(self, count: int) -> np.ndarray:
        """Make updates; return the sums of the numbers of `NAMES`."""
        rows, reward = self.drawn(count)
        first = int(self.numbers["updates"])
        self.numbers["updates"] += count

        def stacked(x):
            return x.reshape(count, -1, *x.shape[1:])

        following = self.view(rows.next_obs)
        fields = [
            (self.view(rows.obs), self.shape, tf.float32),
            (rows.action, self.size, self.action_dtype),
            (reward, (), tf.float32),
            (rows.discount, (), tf.float32),
            (observed(following), self.shape, tf.float32),
            (rows.weight, (), tf.float32),
        ]
        if (mask := mask_of(following)) is not None:
            fields.append((mask, mask.shape[1:], tf.bool))
        fields = [
            (stacked(x), [None, None, *(shape or ())], dtype)
            for x, shape, dtype in fields
        ]
        sums, errors = self.call(
            "updates",
            self._updates,
            *fields[:6],
            (first, [], tf.int64),
            *self.settings(),
            *fields[6:],
        )
        if self.prioritised:
            self.learned_of(rows, errors.numpy().reshape(-1))
        return sums.numpy().astype(np.float64)

    def _updates(
        self,
        obs,
        action,
        reward,
        discount,
        next_obs,
        weight,
        first,
        floats,
        sizes,
        next_mask=None,
    ):
        """Learn from [K, N] rows; return sums of numbers, and errors [K, N]."""
        h = self.unpacked(floats, sizes)
        rows = Batch(obs, action, reward, discount, next_obs, weight, next_mask)
        updates = tf.shape(reward)[0]

        def going(k, total, errors):
            return k < updates

        def update(k, total, errors):
            batch = Batch(*[x if x is None else x[k] for x in rows])
            made = first + tf.cast(k, tf.int64) + 1
            numbers, error = self._update(batch, h, made)
            return k + 1, total + tf.stack(numbers), errors.write(k, error)

        errors = tf.TensorArray(tf.float32, updates, element_shape=[None])
        nothing = tf.constant(0), tf.zeros(len(self.NAMES)), errors
        _, total, errors = tf.while_loop(going, update, nothing)
        return total, errors.stack()

    @abc.abstractmethod
    def _anything(self, *obs: tuple[Any, Any, Any]) -> np.ndarray:
        """Return random actions of the agent's, [B, ...], of those that are allowed."""

    @abc.abstractmethod
    def _explored(self, *obs: tuple[Any, Any, Any]) -> np.ndarray:
        """Return the agent's actions [B, ...] for observations as `call` takes them."""

    @abc.abstractmethod
    def _play(self, obs: Any, mask: Any = None) -> Any:
        """Return the agent's actions [B, ...] without exploring, in TensorFlow."""

    @abc.abstractmethod
    def _update(
        self, batch: Batch, h: Mapping[str, Any], made: Any
    ) -> tuple[list[Any], Any]:
        """Learn from a batch; return the numbers of `NAMES`, and errors [N].

        Args:
          batch: [N] rows.
          h: the hyperparameters, tensors [].
          made: how many updates were made with this one, [].
        """


def follow(targets: Sequence[Any], sources: Sequence[Any], rate: Any) -> None:
    """Move variables by a share `rate` towards what they follow; a rate of 1 copies."""
    for target, source in zip(targets, sources, strict=True):
        share = tf.cast(rate, target.dtype)
        target.assign(share * source.value + (1 - share) * target.value)
