"""What all agents share: normalisers, the update rule, what feed-forward agents refuse."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from optix import checks
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
    shape = checks.shape("observation_shape", observation_shape)

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
    if optimizer is not None and not callable(optimizer):
        raise ValueError(
            "optimizer must be a function that makes a transformation, like "
            f"optax.scale_by_adam, got {optimizer!r}; write lambda: ... around it"
        )
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


def check_batch(batch: Any, kind: type, learner: str) -> None:
    """Raise ValueError for a batch of another kind than the agent learns from."""
    if not isinstance(batch, kind):
        raise ValueError(
            f"the agent learns from a {kind.__name__}, got a {type(batch).__name__}; give "
            f"the agent to optix.learners.{learner}"
        )


def check_outputs(
    name: str,
    network: Network,
    shapes: tuple[tuple[int, ...], ...],
    fits: Callable[[Any], bool],
    wanted: str,
) -> None:
    """Raise ValueError unless a feed-forward network gives an agent what it learns from.

    Args:
      name: of the network, for messages.
      network: whose `apply` takes one array, or a tuple of several.
      shapes: of one of each of its inputs.
      fits: the shapes of its outputs for one row -> whether they will do.
      wanted: what these are, in words, and the remedy.
    """
    rows = tuple(jnp.zeros((1, *shape)) for shape in shapes)

    def outputs(key):
        return network.apply(*network.init(key), (), rows if rows[1:] else rows[0])[1]

    try:
        out = jax.eval_shape(outputs, jax.random.key(0))
    except Exception as error:
        raise ValueError(
            f"{name} must take rows of shape {', '.join(map(str, shapes))}, but it "
            f"failed to: {error}"
        ) from error
    given = jax.tree.map(lambda x: x.shape[1:], out)
    if not fits(given):
        raise ValueError(f"{name} must give {wanted}; for one row it gave {given}")
