"""Returns and advantages along one trajectory."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix.xla.recurrence import discounted_sums


def following_values(
    value_tm1: jax.Array,
    cut_t: jax.Array,
    value_after: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Return the values of the observations that followed, found from those acted on.

    What followed a step was acted on in the next one, except at a window's last step and
    where an episode was cut: only there `value_after` is asked, for one step of every
    environment at a time. That is seldom more than twice, in place of a second pass over
    the window. After a step that terminated its episode the value means nothing.

    Args:
      value_tm1: [T, B] values of the observations acted on.
      cut_t: [T, B] bool, the episode is cut here and its future is bootstrapped.
      value_after: `(steps [B] int32) -> [B]` values of what followed these steps.

    Returns:
      [T, B] values.

    >>> value = jnp.array([[1.0], [2.0], [3.0]])
    >>> cut = jnp.array([[True], [False], [False]])
    >>> following_values(value, cut, lambda steps: 10.0 * steps + 7.0)[:, 0].tolist()
    [7.0, 3.0, 27.0]
    """
    chex.assert_rank([value_tm1, cut_t], 2)
    number = jnp.arange(value_tm1.shape[0])[:, None]

    def ask(state):
        value_t, unknown = state
        step = jnp.argmax(unknown, 0)
        # a comparison with every step: XLA:CPU scatters row by row
        here = unknown & (number == step)
        return jnp.where(here, value_after(step), value_t), unknown & ~here

    start = jnp.roll(value_tm1, -1, 0), cut_t.at[-1].set(True)
    return jax.lax.while_loop(lambda state: state[1].any(), ask, start)[0]


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
    return discounted_sums(delta_t, decay_t)


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
    delta_t = rho_tm1 * (one_step_t - value_tm1)
    # target minus value, of the observations acted on and of those that followed
    correction_t = discounted_sums(delta_t, c_tm1 * decay_t)
    following_t = decay_t * jnp.append(correction_t[1:], 0.0)
    return VTrace(
        target=value_tm1 + correction_t,
        advantage=rho_tm1 * (one_step_t + following_t - value_tm1),
    )
