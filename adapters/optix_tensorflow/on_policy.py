"""Learning from a window as PPO does, whatever the distribution of the actions is.

The mathematics is that of `optix.agents.ppo`; observations are normalised by the moments
that acting had.
"""

# TensorFlow is optional, also where types are checked
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import tensorflow as tf

from optix import checks
from optix.host.network_agent import Hyperparams
from optix.host.normalizers import RewardNormalizer
from optix.host.observing import ObservationView
from optix.host.proximal import INFO, WindowLearner
from optix.host.window import EpisodeData
from optix.math.masks import observed
from optix_tensorflow.actions import masked
from optix_tensorflow.agent import KerasAgent, one_value
from optix_tensorflow.given import built, input_shape


class Samples(NamedTuple):
    """`N` steps to learn from."""

    obs: Any  # [N, ...] as the network gets them
    action: Any  # [N, ...]
    log_prob: Any  # [N] of the behaviour
    advantage: Any  # [N]
    value: Any  # [N] before the update
    mask: Any = None  # [N, n] bool of actions that are allowed


def proximal_loss(
    log_prob: Any,
    entropy: Any,
    value: Any,
    batch: Samples,
    hyperparams: Mapping[str, Any],
    clip_values: bool,
) -> tuple[Any, list[Any]]:
    """Clipped surrogate, value error and entropy bonus of a minibatch.

    Args:
      log_prob: [N] of the actions now.
      entropy: [N].
      value: [N].
      batch: [N] samples; advantages are standardised here.
      hyperparams: clip_ratio, value_coefficient, entropy_coefficient.
      clip_values: keep the value within clip_ratio of its old one.

    Returns:
      [] loss, and the first five numbers of `INFO`.
    """
    clip = hyperparams["clip_ratio"]
    mean, variance = tf.nn.moments(batch.advantage, 0)
    advantage = (batch.advantage - mean) * tf.math.rsqrt(variance + 1e-8)
    log_ratio = log_prob - batch.log_prob
    ratio = tf.exp(log_ratio)
    near = tf.clip_by_value(ratio, 1 - clip, 1 + clip)
    policy_loss = -tf.reduce_mean(tf.minimum(ratio * advantage, near * advantage))

    target = batch.advantage + batch.value
    error = tf.square(value - target)
    if clip_values:
        near = batch.value + tf.clip_by_value(value - batch.value, -clip, clip)
        error = tf.maximum(error, tf.square(near - target))
    value_loss = 0.5 * tf.reduce_mean(error)

    entropy = tf.reduce_mean(entropy)
    total = policy_loss + hyperparams["value_coefficient"] * value_loss
    total = total - hyperparams["entropy_coefficient"] * entropy
    # the low-variance estimator of http://joschu.net/blog/kl-approx.html
    kl = tf.reduce_mean(ratio - 1 - log_ratio)
    clipped = tf.reduce_mean(tf.cast(tf.abs(ratio - 1) > clip, tf.float32))
    return total, [policy_loss, value_loss, entropy, kl, clipped]


class ProximalAgent(WindowLearner, KerasAgent):
    """What the PPO agents share; a subclass says what actions are drawn from.

    size: entries of what the distribution gives, () for a number.
    """

    distribution: ClassVar[Callable[..., Any]]
    drawn: ClassVar[str | None] = None  # what of the extras was drawn, None: the action
    size: tuple[int, ...] = ()

    def __init__(
        self,
        actor: Any,
        critic: Any,
        optimizer: Any,
        hyperparams: Hyperparams,
        reward_normalizer: RewardNormalizer | None,
        *,
        normalize_observations: bool = True,
        normalize_rewards: bool = True,
        clip_values: bool = True,
        target_kl: float | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ):
        """See `TFPPOAgent`."""
        self.with_limit(target_kl)
        actor = built("actor", actor, observation_shape)
        critic = built("critic", critic, observation_shape or input_shape(actor))
        models = {"actor": actor, "critic": critic}
        super().__init__(models, hyperparams, observation_shape)
        self.clip_values = checks.boolean("clip_values", clip_values)
        self.add_optimizer("optimizer", optimizer, [actor, critic], 1e-5)
        self.view = ObservationView(
            self.shape, normalize_observations, self.takes_masks
        )
        self.records["observations"] = self.view
        self.with_rewards(reward_normalizer, normalize_rewards)

    def act_batch(self, observations: Any, explore: bool = True) -> tuple[Any, dict]:
        """Return actions [B, ...], and while exploring what `learn` needs of them."""
        seen = self.shown(observations)
        if not explore:
            return self._decoded(self.call("play", self._play, *seen).numpy()), {}
        action, log_prob = self.call("explore", self._explore, *seen)
        action = action.numpy()
        extras = {"log_prob": log_prob.numpy(), "began": self.take_began(len(action))}
        if self.drawn:
            extras[self.drawn] = action
        return self._decoded(action), extras

    def learn(self, episode_data: EpisodeData) -> dict[str, float]:
        """Learn from a window in several epochs; return the means over minibatches."""
        window = episode_data.batched()
        samples, mask = self._prepare(window, self.scaled(window))
        order, ends = self._plan(window.length)
        self.learned_from["windows"] += 1
        whole = tf.int32
        means = self.call(
            "window",
            self._window,
            *samples,
            (order, [None, None], whole),
            (ends, [None], whole),
            *self.settings(),
            *mask,
        )
        self.view.observe(window.observations, 2)
        return dict(zip(INFO, means.numpy().tolist(), strict=True))

    def _plan(self, units: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the order of the samples in each epoch [E, N], and where parts end."""
        size, longer = divmod(units, parts := self.minibatches(units))
        ends = np.cumsum([0, *[size + (part < longer) for part in range(parts)]])
        order = np.tile(np.arange(units), (self.hyperparams["num_epochs"], 1))
        return self.rng.permuted(order, axis=1), ends

    def _prepare(
        self, window: EpisodeData, reward: np.ndarray
    ) -> tuple[list[tuple[Any, Any, Any]], list[tuple[Any, Any, Any]]]:
        """Return the fields of `Samples` for `call`, and the mask if there is one."""
        lead, whole = window.rewards.shape, window.length
        flat = jax.tree.map(
            lambda x: x.reshape(whole, *x.shape[2:]), window.observations
        )
        obs, *mask = self.shown(flat)
        values = self.call("value", self._value, obs).numpy().reshape(lead)

        def value_after(steps, envs):
            after = self.obs(observed(window.next_observations)[steps, envs])
            return self.call("value", self._value, after).numpy()

        gains = self.advantages(window, reward, values, value_after)
        drawn = self._drawn(window).reshape(whole, *self.size)
        action = drawn, [None, *self.size], self.distribution.dtype
        log_prob = window.extras.get("log_prob")
        if log_prob is None:  # of a pipeline that keeps no extras: it is still that
            given = obs, action, *mask
            log_prob = self.call("log_prob", self._log_prob, *given).numpy()
        rows = (x.reshape(whole) for x in (log_prob, gains, values))
        return [obs, action, *[(row, [None], tf.float32) for row in rows]], mask

    def _window(
        self,
        obs,
        action,
        log_prob,
        advantage,
        value,
        order,
        ends,
        floats,
        sizes,
        mask=None,
    ):
        """Make all updates of a window; return the means of the numbers of `INFO`."""
        h = self.unpacked(floats, sizes)
        samples = Samples(obs, action, log_prob, advantage, value, mask)
        parts = tf.shape(ends)[0] - 1
        updates = parts * tf.shape(order)[0]

        def going(k, going_on, total, made):
            return (k < updates) & going_on

        def update(k, going_on, total, made):
            part = k % parts
            index = order[k // parts, ends[part] : ends[part + 1]]
            batch = Samples(*[x if x is None else tf.gather(x, index) for x in samples])
            with tf.GradientTape() as tape:
                loss, numbers = self._loss(batch, h)
            slopes, norm = self.slopes("optimizer", tape, loss, h["max_grad_norm"])
            row = tf.stack([*numbers, norm])
            apply = self.optimizers["optimizer"].apply
            if "target_kl" not in h:
                apply(slopes)
                return k + 1, going_on, total + row, made + 1.0
            going_on = (made == 0) | (numbers[3] <= h["target_kl"])
            tf.cond(going_on, lambda: [apply(slopes), 0][1], lambda: 0)
            share = tf.cast(going_on, tf.float32)
            row = tf.where(going_on, row, 0.0)  # what it was may be no number
            return k + 1, going_on, total + row, made + share

        first = tf.constant(0), tf.constant(True), tf.zeros(len(INFO)), tf.constant(0.0)
        _, _, total, made = tf.while_loop(going, update, first)
        return total / made

    def _loss(self, batch: Samples, h: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        actions = self._actions(batch.obs, batch.mask, training=True)
        value = one_value("critic", self.modules["critic"](batch.obs, training=True))
        return proximal_loss(
            actions.log_prob(batch.action),
            actions.entropy(),
            value,
            batch,
            h,
            self.clip_values,
        )

    def _actions(self, obs, mask=None, training=False):
        out = self.modules["actor"](obs, training=training)
        return self.distribution(masked(out, mask))

    def _play(self, obs, mask=None):
        return self._actions(obs, mask).mode()

    def _explore(self, obs, mask=None):
        actions = self._actions(obs, mask)
        action = actions.sample(self.generator)
        return action, actions.log_prob(action)

    def _log_prob(self, obs, action, mask=None):
        return self._actions(obs, mask).log_prob(action)

    def _value(self, obs):
        return one_value("critic", self.modules["critic"](obs, training=False))

    def _decoded(self, action: np.ndarray) -> np.ndarray:
        return action

    def _drawn(self, window: EpisodeData) -> np.ndarray:
        """Return what the distribution gave, [T, B, ...]."""
        return window.actions
