"""What all agents share: normalisers, the update rule, what feed-forward agents refuse."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import optax

from optix.math.running import observe, standardize
from optix.types import Hyperparams, Network, PyTree, Trajectory


class Normalizers(NamedTuple):
    """How an agent sees observations and rewards.

    They work on any `extras` with Moments called `observations` and `returns`.

    view: `(extras, obs [..., *observation_shape]) -> obs`, normalised where asked for.
    scale: `(extras, reward) -> reward`, scaled, never shifted.
    observe: `(extras, trajectory) -> extras` with the moments of what was collected.
    """

    view: Callable[[Any, PyTree], PyTree]
    scale: Callable[[Any, jax.Array], jax.Array]
    observe: Callable[[Any, Trajectory], Any]


def normalizers(
    observation_shape: tuple[int, ...],
    normalize_observations: bool,
    normalize_rewards: bool,
    axis_name: str | None,
) -> Normalizers:
    """Return the `Normalizers` of an agent; what is not asked for changes nothing."""
    shape = tuple(observation_shape)

    def view(extras, obs):
        # moments of another shape would broadcast
        chex.assert_tree_shape_suffix(obs, shape)
        return standardize(extras.observations, obs) if normalize_observations else obs

    def scale(extras, reward):
        if not normalize_rewards:
            return reward
        return reward * jax.lax.rsqrt(extras.returns.variance + 1e-8)

    def observe_(extras, trajectory):
        if normalize_observations:
            rows = trajectory.obs.reshape(-1, *shape)
            observations = observe(extras.observations, rows, axis_name)
            extras = extras._replace(observations=observations)
        if normalize_rewards:
            discounted = trajectory.extras["discounted_return"].reshape(-1)
            returns = observe(extras.returns, discounted, axis_name)
            extras = extras._replace(returns=returns)
        return extras

    return Normalizers(view, scale, observe_)


def update_rule(
    optimizer: Callable[[], optax.GradientTransformation] | None,
    hyperparams: Hyperparams,
    adam_epsilon: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Clip by the global norm, transform (by Adam unless told otherwise), scale."""
    rule = optax.chain(
        optax.clip_by_global_norm(hyperparams["max_grad_norm"]),
        optimizer() if optimizer else optax.scale_by_adam(eps=adam_epsilon),
        optax.scale(-1.0 * hyperparams["learning_rate"]),
    )
    # one vector in place of a dozen leaves: fewer operations to compile and to run
    arranged = rule if optimizer else optax.flatten(rule)
    return optax.with_extra_args_support(arranged)


def feed_forward(agent: str, network: Network) -> None:
    """Raise ValueError for a network with a carry."""
    if jax.tree.leaves(network.initial_carry(1)):
        raise ValueError(
            f"{agent} takes a feed-forward network, but this one has a carry; give it to "
            "recurrent_ppo, which trains through time"
        )
