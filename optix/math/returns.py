"""Returns and advantages along one trajectory."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


def generalized_advantages(
    reward_t: jax.Array,
    value_tm1: jax.Array,
    value_t: jax.Array,
    terminated_t: jax.Array,
    truncated_t: jax.Array,
    discount: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Generalised advantage estimation (https://arxiv.org/abs/1506.02438).

    `value_t` is the value of the observation that the step led to, before any reset, so
    a truncated episode is bootstrapped from where it was cut; a terminated one is not.

    Args:
      reward_t: [T] rewards.
      value_tm1: [T] values of the observations acted on.
      value_t: [T] values of the observations that followed.
      terminated_t: [T] bool, the return ends here.
      truncated_t: [T] bool, the episode is cut here.
      discount: [] in [0, 1].
      gae_lambda: [] in [0, 1].

    Returns:
      [T] float32 advantages; adding `value_tm1` gives the value targets.
    """
    chex.assert_rank([reward_t, value_tm1, value_t, terminated_t, truncated_t], 1)
    chex.assert_rank([jnp.asarray(discount), jnp.asarray(gae_lambda)], 0)
    delta_t = reward_t + discount * jnp.where(terminated_t, 0.0, value_t) - value_tm1
    decay_t = jnp.where(terminated_t | truncated_t, 0.0, discount * gae_lambda)

    def backwards(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        backwards, jnp.zeros_like(delta_t[0]), (delta_t, decay_t), reverse=True
    )
    return advantages


class VTrace(NamedTuple):
    """What V-trace corrects."""

    target: jax.Array  # [T] float32 for the values of the observations acted on
    advantage: jax.Array  # [T] float32 for the policy gradient, with its ratio


def vtrace(
    reward_t: jax.Array,
    value_tm1: jax.Array,
    value_t: jax.Array,
    terminated_t: jax.Array,
    truncated_t: jax.Array,
    ratio_tm1: jax.Array,
    discount: jax.Array | float,
    trace_lambda: jax.Array | float = 1.0,
    rho_bar: jax.Array | float = 1.0,
    c_bar: jax.Array | float = 1.0,
) -> VTrace:
    """V-trace (https://arxiv.org/abs/1802.01561), returns of another policy corrected.

    The ends of episodes are handled as in `generalized_advantages`. Nothing here stops
    gradients: the caller does so, or passes values that carry none.

    Args:
      reward_t: [T] rewards.
      value_tm1: [T] values of the observations acted on.
      value_t: [T] values of the observations that followed, before any reset.
      terminated_t: [T] bool, the return ends here.
      truncated_t: [T] bool, the episode is cut here.
      ratio_tm1: [T] probability of each action under the policy to improve over that
        under the policy that acted.
      discount: [] in [0, 1].
      trace_lambda: [] in [0, 1]; 1 as in the paper.
      rho_bar: [] limit of the ratios, which decides whose values are learned: those of
        the policy that acted near 0, those of the policy to improve at infinity.
      c_bar: [] limit of the ratios along a trace, at most `rho_bar`: variance against
        speed.
    """
    chex.assert_rank([reward_t, value_tm1, value_t, terminated_t, truncated_t], 1)
    chex.assert_rank(ratio_tm1, 1)
    scalars = (discount, trace_lambda, rho_bar, c_bar)
    chex.assert_rank([jnp.asarray(scalar) for scalar in scalars], 0)
    rho_tm1 = jnp.minimum(ratio_tm1, rho_bar)
    c_tm1 = jnp.minimum(ratio_tm1, c_bar)
    one_step_t = reward_t + discount * jnp.where(terminated_t, 0.0, value_t)
    decay_t = jnp.where(terminated_t | truncated_t, 0.0, discount * trace_lambda)

    def backwards(correction, inputs):
        """`correction` is target minus value, here of the observation that followed."""
        delta, c, decay = inputs
        following = decay * correction
        return delta + c * following, following

    delta_t = rho_tm1 * (one_step_t - value_tm1)
    _, following_t = jax.lax.scan(
        backwards, jnp.zeros_like(delta_t[0]), (delta_t, c_tm1, decay_t), reverse=True
    )
    return VTrace(
        target=value_tm1 + delta_t + c_tm1 * following_t,
        advantage=rho_tm1 * (one_step_t + following_t - value_tm1),
    )
