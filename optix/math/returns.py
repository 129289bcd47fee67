"""Returns and advantages along one trajectory."""

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
