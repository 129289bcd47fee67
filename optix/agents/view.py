"""How agents see observations and rewards, and what they count of their experience."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.agents.fit import check_batch
from optix.math.masks import observed, on_observed
from optix.math.running import (
    Moments,
    initial_moments,
    inverse_deviation,
    merge,
    pool,
    standardize,
    update_moments,
)
from optix.trees import count_devices, saturating_add
from optix.types import Policy, PyTree, Sample, Trajectory, Transition


class Normalizers(NamedTuple):
    """How an agent sees observations and rewards.

    They work on any `extras` with Moments called `observations` and `returns`.

    normalize: `(extras, obs [..., *observation_shape]) -> obs`, where asked for; a mask
        stays what it is.
    scale: `(extras, reward) -> reward`, scaled, never shifted.
    observe: `(extras, trajectory) -> extras` with the moments of what was collected.
    """

    normalize: Callable[[Any, PyTree], PyTree]
    scale: Callable[[Any, jax.Array], jax.Array]
    observe: Callable[[Any, Trajectory], Any]


def normalizers(
    observation_shape: tuple[int, ...],
    normalize_observations: bool,
    normalize_rewards: bool,
    axis_name: str | None,
) -> Normalizers:
    """Return the `Normalizers` of an agent; what is not asked for changes nothing."""
    shape = checks.shape("observation_shape", observation_shape)
    checks.boolean("normalize_observations", normalize_observations)
    checks.boolean("normalize_rewards", normalize_rewards)
    checks.axis_name(axis_name)

    def normalize(extras, obs):
        return on_observed(lambda x: seen(extras, x), obs)

    def seen(extras, obs):
        # moments of another shape would broadcast
        chex.assert_tree_shape_suffix(obs, shape)
        obs = as_floats(obs)
        return standardize(extras.observations, obs) if normalize_observations else obs

    def scale(extras, reward):
        if not normalize_rewards:
            return reward
        return reward * inverse_deviation(extras.returns)

    def counted(moments, obs):
        """Add observations [B, ...] or [T, B, ...] to the moments."""
        if obs.dtype != jnp.uint8 or obs.ndim < len(shape) + 2:
            rows = as_floats(obs).reshape(-1, *shape)
            return update_moments(moments, rows, axis_name)
        # step by step, for as floats a window of images is four times as large
        own, _ = jax.lax.scan(
            lambda own, rows: (update_moments(own, as_floats(rows)), None),
            initial_moments(shape),
            obs,
        )
        return merge(moments, pool(own, axis_name))

    def observe(extras, trajectory):
        if normalize_observations:
            observations = counted(extras.observations, observed(trajectory.obs))
            extras = extras._replace(observations=observations)
        if normalize_rewards:
            discounted = trajectory.extras["discounted_return"].reshape(-1)
            returns = update_moments(extras.returns, discounted, axis_name)
            extras = extras._replace(returns=returns)
        return extras

    return Normalizers(normalize, scale, observe)


def as_floats(obs: jax.Array) -> jax.Array:
    """Return observations as networks see them: bytes are shares of the largest."""
    return obs / jnp.float32(255) if obs.dtype == jnp.uint8 else obs


class ReplayExtras(NamedTuple):
    """What a policy that learns from a replay carries besides parameters."""

    target: PyTree  # parameters that follow slowly
    observations: Moments  # [*observation_shape]
    returns: Moments  # [] of the discounted return
    env_steps: jax.Array  # [] int32 acted by this policy
    updates: jax.Array  # [] int32 learned from a batch


class ReplayView(NamedTuple):
    """How an agent sees observations and rewards, and counts its steps.

    init: `(target) -> ReplayExtras`.
    normalize: `(extras, obs [..., *observation_shape]) -> obs`, where asked for.
    rows: `(extras, Sample) -> Transition` as the agent sees it.
    observe: `(policy, trajectory [B]) -> policy`, see `Agent.observe`.
    """

    init: Callable[[PyTree], ReplayExtras]
    normalize: Callable[[ReplayExtras, PyTree], PyTree]
    rows: Callable[[ReplayExtras, Sample], Transition]
    observe: Callable[[Policy, Trajectory], Policy]


def replay_view(
    observation_shape: tuple[int, ...],
    normalize_observations: bool,
    normalize_rewards: bool,
    axis_name: str | None,
) -> ReplayView:
    """Return the `ReplayView` of an agent; rewards are scaled, never shifted."""
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )

    def init(target):
        moments = initial_moments(tuple(observation_shape)), initial_moments()
        return ReplayExtras(target, *moments, jnp.int32(0), jnp.int32(0))

    def rows(extras, batch):
        check_batch(batch, Sample, "off_policy")
        items = batch.items
        return items._replace(
            obs=normal.normalize(extras, items.obs),
            next_obs=normal.normalize(extras, items.next_obs),
            reward=normal.scale(extras, items.reward),
        )

    def observe(policy, trajectory):
        steps = trajectory.reward.size * count_devices(axis_name)
        extras = normal.observe(policy.extras, trajectory)
        extras = extras._replace(env_steps=saturating_add(extras.env_steps, steps))
        return policy._replace(extras=extras)

    return ReplayView(init, normal.normalize, rows, observe)
