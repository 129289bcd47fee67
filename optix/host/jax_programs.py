"""The compiled functions of an agent on the device that is called from outside."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.host.jax_view import View
from optix.trees import all_finite, select
from optix.types import Agent, Learned, Policy, PyTree, Sample, Trajectory, Transition

ON_POLICY, OFF_POLICY = "on_policy", "off_policy"


class Programs(NamedTuple):
    """Functions of raw observations, those of a `View`.

    act: `(policy, carry, raw [B, ...], hyperparams, key, random, explore) -> (carry,
        action [B, ...] as the environment takes it, StepExtras)`.
    outputs: `(policy, carry, raw) -> outputs`, as `Agent.outputs`.
    learn: `(policy, window, hyperparams, key) -> Learned`, on policy.
    observe: `(policy, window) -> Policy`, off policy.
    update: `(policy, Transition [M, ...], weight [M], hyperparams, key) -> Learned`,
        off policy.
    """

    act: Callable[..., tuple[PyTree, jax.Array, dict]]
    outputs: Callable[..., PyTree]
    learn: Callable[..., Learned]
    observe: Callable[..., Policy]
    update: Callable[..., Learned]


def programs(agent: Agent, view: View) -> Programs:
    """Return the compiled functions of an agent that sees and acts by a view."""

    def act(policy, carry, raw, hyperparams, key, random, explore):
        act_key, random_key = jax.random.split(key)
        carry, action, extras = agent.act(
            policy, carry, view.encode(raw), hyperparams, act_key, explore
        )
        if explore and jnp.issubdtype(action.dtype, jnp.floating):
            drawn = jax.random.uniform(
                random_key, action.shape, action.dtype, -1.0, 1.0
            )
            action = jnp.where(random, drawn, action)
            extras = {**extras, "action": action}
        return carry, jax.vmap(view.decode)(action), extras

    def outputs(policy, carry, raw):
        assert agent.outputs is not None
        return agent.outputs(policy, carry, view.encode(raw))[1]

    def seen(window):
        def encode(raw):
            rows = view.encode(raw.reshape(-1, *raw.shape[2:]))
            return rows.reshape(*window.reward.shape, *rows.shape[1:])

        return window._replace(obs=encode(window.obs), next_obs=encode(window.next_obs))

    def learn(policy, window, hyperparams, key):
        window = seen(window)
        if "log_prob" not in window.extras:
            log_prob = log_prob_of(agent, policy, window)
            window = window._replace(extras={**window.extras, "log_prob": log_prob})
        return agent.learn(policy, window, hyperparams, key)

    def observe(policy, window):
        def step(policy, row):
            return agent.observe(policy, row), None

        return jax.lax.scan(step, policy, seen(window))[0]

    def update(policy, rows, weight, hyperparams, key):
        obs, next_obs = view.encode(rows.obs), view.encode(rows.next_obs)
        index = jnp.arange(len(weight), dtype=jnp.int32)
        batch = Sample(rows._replace(obs=obs, next_obs=next_obs), index, weight)
        learned = agent.learn(policy, batch, hyperparams, key)
        finite = jnp.asarray(learned.finite) & all_finite(learned.policy)
        new = select(finite, learned.policy, policy)
        return learned._replace(policy=new, finite=finite)

    return Programs(
        jax.jit(act, static_argnames="explore"),
        jax.jit(outputs),
        jax.jit(learn),
        jax.jit(observe),
        jax.jit(update),
    )


def learner_kind(agent: Agent, shape: tuple[int, ...], dtype: Any) -> tuple[str, bool]:
    """Return by which learner an agent learns, and whether its actions are discrete.

    It is off policy if its `learn` takes a `Sample`. Nothing is computed.

    Args:
      agent: of whatever factory.
      shape: of one observation as the agent sees it.
      dtype: of it.

    Raises:
      ValueError: the agent does not act on such observations.
    """
    rows = 2
    key = jax.eval_shape(lambda: jax.random.key(0))
    policy = jax.eval_shape(agent.init, key)
    obs = jax.ShapeDtypeStruct((rows, *shape), dtype)
    floats = agent.hyperparams

    def act(policy, obs, key):
        carry = agent.initial_carry(rows)
        return agent.act(policy, carry, obs, floats, key, True)[1]

    try:
        action = jax.eval_shape(act, policy, obs, key)
    except Exception as error:
        raise checks.OptionError(
            f"the agent must act on observations of shape {shape}, but it failed to: "
            f"{error}; make it for this environment"
        ) from error
    numbers = jnp.issubdtype(action.dtype, jnp.integer)
    discrete = bool(numbers and action.ndim == 1)  # not of several choices at once
    number: Any = jax.ShapeDtypeStruct((rows,), jnp.float32)
    index: Any = jax.ShapeDtypeStruct((rows,), jnp.int32)
    batch = Sample(Transition(obs, action, number, number, obs), index, number)
    try:
        jax.eval_shape(agent.learn, policy, batch, floats, key)
    except Exception:  # it takes something else
        return ON_POLICY, discrete
    return OFF_POLICY, discrete


def log_prob_of(agent: Agent, policy: Policy, window: Trajectory) -> jax.Array:
    """Return [T, B] of the actions of a window that does not tell, by the policy of now.

    It is the one that acted, if nothing was learned since.

    Raises:
      ValueError: the agent remembers, or says nothing of its distribution.
    """
    if agent.outputs is None or jax.tree.leaves(agent.initial_carry(1)):
        raise checks.OptionError(
            "extras of the window must hold what act_batch added at each step, log_prob "
            f"and the carry, got {sorted(window.extras)}; collect by a pipeline, or act "
            "by act_batch and hand its extras on"
        )
    lead = window.reward.shape
    parameters = agent.outputs(
        policy, (), window.obs.reshape(-1, *window.obs.shape[2:])
    )[1]
    action = window.action.reshape(-1, *window.action.shape[2:])
    if isinstance(parameters, tuple):
        mean, log_scale = parameters
        error = (action - mean) * jnp.exp(-log_scale)
        each = -0.5 * jnp.square(error) - log_scale - 0.5 * jnp.log(2 * jnp.pi)
        return each.sum(-1).reshape(lead)
    log_probs = jax.nn.log_softmax(parameters)
    return jnp.take_along_axis(log_probs, action[:, None], -1)[:, 0].reshape(lead)
