"""What the agents that learn from a replay share: normalisers, counters, update rules."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.math.running import Moments, observe, standardize, zero_moments
from optix.trees import select
from optix.types import Hyperparams, Network, Policy, PyTree, Trajectory, Transition


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
    rows: `(extras, items) -> Transition` as the agent sees them.
    observe: `(policy, trajectory [B]) -> policy`, see `Agent.observe`.
    """

    init: Callable[[PyTree], Extras]
    view: Callable[[Extras, PyTree], PyTree]
    rows: Callable[[Extras, Transition], Transition]
    observe: Callable[[Policy, Trajectory], Policy]


def experience(
    observation_shape: tuple[int, ...],
    normalize_observations: bool,
    normalize_rewards: bool,
    axis_name: str | None,
) -> Experience:
    """Return the `Experience` of an agent; rewards are scaled, never shifted."""
    shape = tuple(observation_shape)

    def init(target):
        moments = zero_moments(shape), zero_moments()
        return Extras(target, *moments, jnp.int32(0), jnp.int32(0))

    def view(extras, obs):
        # moments of another shape would broadcast
        chex.assert_tree_shape_suffix(obs, shape)
        return standardize(extras.observations, obs) if normalize_observations else obs

    def rows(extras, items):
        reward = items.reward
        if normalize_rewards:
            reward = reward * jax.lax.rsqrt(extras.returns.variance + 1e-8)
        return items._replace(
            obs=view(extras, items.obs),
            next_obs=view(extras, items.next_obs),
            reward=reward,
        )

    def observe_(policy, trajectory):
        extras = policy.extras
        observations, returns = extras.observations, extras.returns
        if normalize_observations:
            observations = observe(observations, trajectory.obs, axis_name)
        if normalize_rewards:
            discounted = trajectory.extras["discounted_return"]
            returns = observe(returns, discounted, axis_name)
        steps = jnp.int32(trajectory.reward.size)
        if axis_name is not None:
            steps = jax.lax.psum(steps, axis_name)
        extras = extras._replace(
            observations=observations,
            returns=returns,
            env_steps=extras.env_steps + steps,
        )
        return policy._replace(extras=extras)

    return Experience(init, view, rows, observe_)


def update_rule(
    optimizer: Callable[[], optax.GradientTransformation] | None,
    hyperparams: Hyperparams,
) -> optax.GradientTransformationExtraArgs:
    """Clip by the global norm, transform (Adam unless told otherwise), scale."""
    make = optimizer or optax.scale_by_adam
    rule = optax.chain(
        optax.clip_by_global_norm(hyperparams["max_grad_norm"]),
        make(),
        optax.scale(-1.0 * hyperparams["learning_rate"]),
    )
    # one vector in place of a dozen leaves: fewer operations to compile and to run
    return optax.with_extra_args_support(
        optax.flatten(rule) if optimizer is None else rule
    )


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


def defaults(
    agent: str,
    given: Mapping[str, float],
    known: Mapping[str, tuple[float, float, float]],
) -> dict[str, float]:
    """Return {name: value} of every hyperparameter, checked against its range."""
    checks.known_names(f"hyperparameter of {agent}", given, known)
    return {
        name: checks.within(name, given.get(name, default), low, high)
        for name, (default, low, high) in known.items()
    }


def feed_forward(agent: str, network: Network) -> None:
    """Raise ValueError for a network with a carry: replayed rows have none."""
    if jax.tree.leaves(network.initial_carry(1)):
        raise ValueError(
            f"{agent} takes a feed-forward network, but this one has a carry; use "
            "recurrent_ppo, which trains through time"
        )


def pmean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Mean over devices, if there are several."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
