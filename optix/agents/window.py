"""Learning from one window of fresh experience in epochs of minibatches.

What PPO and PQN share; what they learn from a minibatch each says itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optix.agents.reading import Batch, Reading
from optix.agents.updates import has_few
from optix.agents.view import Normalizers
from optix.math.masks import observed
from optix.math.returns import following_values, generalized_advantages
from optix.trees import mean_devices, select
from optix.types import Policy, PyTree, Trajectory
from optix.xla.backend import on_cpu
from optix.xla.permutation import random_permutation


def kept(
    normal: Normalizers, extras: Any, obs: PyTree
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Return observations as a window keeps them, and `(obs) -> obs` as they are read.

    Bytes stay bytes until a minibatch is read, for as floats a window of images is four
    times as large. Others are normalised here, once for all epochs.
    """
    if observed(obs).dtype == jnp.uint8:
        return obs, lambda rows: normal.normalize(extras, rows)
    return normal.normalize(extras, obs), lambda rows: rows


def advantages(
    normal: Normalizers,
    reading: Reading,
    policy: Policy,
    batch: Trajectory,
    extras: Any,
    discount: jax.Array,
    trace_lambda: jax.Array,
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Return the rows of a window, with generalised advantages and values.

    Advantage and value together are the lambda return.

    Args:
      normal: how observations and rewards are seen.
      reading: how the network is run over the window.
      policy: that acted. Observations are seen as it saw them.
      batch: the window [T, B].
      extras: with the scale of rewards.
      discount: [] in [0, 1].
      trace_lambda: [] in [0, 1].

    Returns:
      A `Batch`, in the rows that `reading` makes of it, and how their observations are
      read, see `kept`.
    """
    obs, see = kept(normal, policy.extras, batch.obs)
    value = reading.values(policy.params, policy.structure, obs, batch, see)

    def value_after(steps):
        """The value [B] of what followed a step [B] of each environment."""
        carry, *seen = jax.tree.map(
            lambda x: x[steps, jnp.arange(steps.size)],
            (batch.extras.get("carry", ()), batch.obs, batch.next_obs),
        )
        seen = [normal.normalize(policy.extras, x) for x in seen]
        return reading.value_after(policy.params, policy.structure, carry, *seen)

    next_value = following_values(
        value, batch.truncated & ~batch.terminated, value_after
    )
    advantage = jax.vmap(
        generalized_advantages, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1
    )(
        normal.scale(extras, batch.reward),
        value,
        next_value,
        batch.terminated,
        batch.truncated,
        discount,
        trace_lambda,
    )
    log_prob = batch.extras.get("log_prob", ())
    window = Batch(obs, batch.action, log_prob, advantage, value)
    return reading.rows(window, batch), see


def learn_in_epochs(
    objective: Callable[[PyTree, PyTree], tuple[jax.Array, dict[str, jax.Array]]],
    rule: optax.GradientTransformationExtraArgs,
    policy: Policy,
    rows: PyTree,
    key: jax.Array,
    *,
    count: int,
    num_epochs: int,
    num_minibatches: int,
    axis_name: str | None,
    goes_on: Callable[[dict[str, jax.Array]], jax.Array] | None = None,
) -> tuple[PyTree, PyTree, dict[str, jax.Array]]:
    """Return (params, opt_state, information) after some passes over a window.

    Args:
      objective: `(params, rows [M, ...]) -> (loss [], {name: []})`.
      rule: how gradients become updates.
      policy: to begin with.
      rows: [count, ...].
      key: of the orders of the rows.
      count: rows.
      num_epochs: passes.
      num_minibatches: parts of a pass.
      axis_name: devices whose minibatches form one.
      goes_on: whether a minibatch's information lets it, and those that follow it, be
        learned from; None for always.
    """
    # XLA:CPU hands a turn that begins with many gathers to a second thread in parts, by
    # which small updates lose more than they gain
    early = on_cpu() and has_few(policy.params)

    def take(index):
        return jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), rows)

    def minibatch(carry, given):
        params, opt_state, running = carry
        part = given if early else take(given)
        grads, info = jax.grad(objective, has_aux=True)(params, part)
        grads, info = mean_devices((grads, info), axis_name)
        updates, new_opt_state = rule.update(
            grads, opt_state, params, version=policy.structure
        )
        new = optax.apply_updates(params, updates), new_opt_state
        if goes_on is not None:
            running = running & goes_on(info)
            new = select(running, new, (params, opt_state))
        return (*new, running), info

    def epoch(carry, key):
        order = random_permutation(key, count).reshape(num_minibatches, -1)
        return jax.lax.scan(minibatch, carry, take(order) if early else order)

    start = (policy.params, policy.opt_state, jnp.bool_(True))
    keys = jax.random.split(key, num_epochs)
    (params, opt_state, _), info = jax.lax.scan(epoch, start, keys)
    return params, opt_state, jax.tree.map(jnp.mean, info)
