"""What the agents that learn from a replay share: normalisers, counters, update rules."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix.agents.shared import check_batch, normalizers
from optix.math.running import Moments, zero_moments
from optix.trees import count_devices, select
from optix.types import Policy, PyTree, Sample, Trajectory, Transition


class Extras(NamedTuple):
    """What a policy that learns from a replay carries besides parameters."""

    target: PyTree  # parameters that follow slowly
    observations: Moments  # [*observation_shape]
    returns: Moments  # [] of the discounted return
    env_steps: jax.Array  # [] int32 acted by this policy
    updates: jax.Array  # [] int32 learned from a batch


class Experience(NamedTuple):
    """How an agent sees observations and rewards, and counts its steps.

    init: `(target) -> Extras`.
    view: `(extras, obs [..., *observation_shape]) -> obs`, normalised where asked for.
    rows: `(extras, Sample) -> Transition` as the agent sees it.
    observe: `(policy, trajectory [B]) -> policy`, see `Agent.observe`.
    """

    init: Callable[[PyTree], Extras]
    view: Callable[[Extras, PyTree], PyTree]
    rows: Callable[[Extras, Sample], Transition]
    observe: Callable[[Policy, Trajectory], Policy]


def experience(
    observation_shape: tuple[int, ...],
    normalize_observations: bool,
    normalize_rewards: bool,
    axis_name: str | None,
) -> Experience:
    """Return the `Experience` of an agent; rewards are scaled, never shifted."""
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )

    def init(target):
        moments = zero_moments(tuple(observation_shape)), zero_moments()
        return Extras(target, *moments, jnp.int32(0), jnp.int32(0))

    def rows(extras, batch):
        check_batch(batch, Sample, "off_policy")
        items = batch.items
        return items._replace(
            obs=normal.view(extras, items.obs),
            next_obs=normal.view(extras, items.next_obs),
            reward=normal.scale(extras, items.reward),
        )

    def observe(policy, trajectory):
        steps = trajectory.reward.size * count_devices(axis_name)
        extras = normal.observe(policy.extras, trajectory)
        extras = extras._replace(env_steps=extras.env_steps + steps)
        return policy._replace(extras=extras)

    return Experience(init, normal.view, rows, observe)


def descend(
    rule: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    opt_state: PyTree,
    params: PyTree,
    version: PyTree,
) -> tuple[PyTree, PyTree]:
    """Return (params, opt_state) after one step of the rule."""
    # flattened gradients that fuse into the backward pass make it several times slower
    grads = jax.lax.optimization_barrier(grads)
    updates, opt_state = rule.update(grads, opt_state, params, version=version)
    return optax.apply_updates(params, updates), opt_state


def follow(target: PyTree, params: PyTree, rate: jax.Array, due: Any = True) -> PyTree:
    """Move the target by a share `rate` towards the parameters, where an update is due."""
    return select(due, optax.incremental_update(params, target, rate), target)


def improved(
    policy: Policy,
    grads: PyTree,
    rule: optax.GradientTransformationExtraArgs,
    target_rate: jax.Array,
    target_period: int,
) -> Policy:
    """Return the policy after one update of all its parameters.

    The target moves by `target_rate` at every `target_period`-th update.
    """
    params, opt_state = descend(
        rule, grads, policy.opt_state, policy.params, policy.structure
    )
    extras = policy.extras
    updates = extras.updates + 1
    target = follow(extras.target, params, target_rate, updates % target_period == 0)
    extras = extras._replace(target=target, updates=updates)
    return Policy(params, policy.structure, opt_state, extras)
