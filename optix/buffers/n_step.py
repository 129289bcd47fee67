"""Returns of several steps, made while collecting."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from optix import checks
from optix.buffers import storage
from optix.trees import take
from optix.types import PyTree, Trajectory, Transition


class NStep(NamedTuple):
    """A delay line of n - 1 steps for each environment.

    init: `(step, batch) -> state` from one step of one environment, arrays or shapes;
        every leaf [batch, ...], () for n = 1.
    push: `(state, step [B, ...], discount []) -> (state, Transition [B], valid [B])`.
    """

    n: int
    init: Callable[[Trajectory, int], PyTree]
    push: Callable[..., tuple[PyTree, Transition, jax.Array]]


class Pending(NamedTuple):
    """The steps that wait for those that follow."""

    steps: Trajectory  # [B, n - 1, ...] oldest first
    count: jax.Array  # [B] int32 of them that are real


def n_step(n: int) -> NStep:
    """Return the delay line that turns steps into transitions of up to `n` steps.

    Each push takes a `Trajectory` without time axis and with `extras=()`, and emits the
    oldest of the last n steps: its reward is the discounted sum of n rewards, cut at the
    first end of an episode, so m <= n of them. `next_obs` is what followed the last of
    these steps, before any reset. The transition's discount is discount**m, and 0 where
    the episode terminated there (also if it was truncated at once).

    One episode follows another in the stream, so no transition is lost at an end; each
    comes n - 1 pushes late. The first n - 1 of a fresh state are not valid. The state
    belongs to the rollout, so nothing is lost at the end of a window; what replaces the
    rollout, like a rollback, drops the n - 1 steps that wait.

    Args:
      n: steps, at least 1.

    Raises:
      ValueError: an `n` that is no such integer; at trace time steps that are not like
        the one given to `init`.

    >>> line = n_step(2)
    >>> zero, no = jnp.zeros(()), jnp.zeros((), bool)
    >>> step = Trajectory(zero, zero, zero, no, no, zero)
    >>> state = line.init(step, 1)
    >>> for reward in (1.0, 10.0):
    ...     now = jax.tree.map(lambda x: x[None], step._replace(reward=zero + reward))
    ...     state, transition, valid = line.push(state, now, 0.5)
    >>> bool(valid[0]), float(transition.reward[0]), float(transition.discount[0])
    (True, 6.0, 0.25)
    """
    n = checks.positive_int("n", n)

    def init(step, batch):
        checks.positive_int("batch", batch)
        if n == 1:
            return ()
        line = jax.tree.map(
            lambda x: jnp.zeros((batch, n - 1, *x.shape), x.dtype),
            storage.shapes_of(step),
        )
        return Pending(line, jnp.zeros(batch, jnp.int32))

    def push(state, step, discount):
        if n == 1:
            window = jax.tree.map(lambda x: x[:, None], step)
            valid = jnp.ones(step.reward.shape, bool)
        else:
            one = jax.eval_shape(lambda tree: take(take(tree, 0), 0), state.steps)
            storage.check_rows("step", step, one, state.count.shape)
            window = jax.tree.map(
                lambda old, new: jnp.concatenate([old, new[:, None]], axis=1),
                state.steps,
                step,
            )
            valid = state.count == n - 1
            waiting = jax.tree.map(lambda x: x[:, 1:], window)
            state = Pending(waiting, jnp.minimum(state.count + 1, n - 1))
        oldest = jax.vmap(oldest_transition, in_axes=(0, None))(window, discount)
        return state, oldest, valid

    return NStep(n, init, push)


def oldest_transition(window: Trajectory, discount: jax.Array | float) -> Transition:
    """Return the first step of a window of one environment as a row to learn from.

    Args:
      window: [n, ...] steps in order.
      discount: [] in [0, 1].

    Returns:
      The transition over the steps up to the first end of an episode.
    """
    chex.assert_rank([window.reward, window.terminated, window.truncated], 1)
    chex.assert_rank(jnp.asarray(discount), 0)
    n = len(window.reward)
    ended = jnp.cumsum(window.terminated | window.truncated)
    counts = jnp.concatenate([jnp.ones(1, bool), ended[:-1] == 0])
    powers = jnp.power(jnp.float32(discount), jnp.arange(n + 1))
    reward = jnp.sum(jnp.where(counts, powers[:n] * window.reward, 0.0))
    steps = jnp.sum(counts)
    last = steps - 1
    return Transition(
        obs=take(window.obs, 0),
        action=take(window.action, 0),
        reward=reward,
        discount=jnp.where(window.terminated[last], 0.0, powers[steps]),
        next_obs=take(window.next_obs, last),
    )
