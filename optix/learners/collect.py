"""Experience: a batch of environments, one step at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.forms import check_environment
from optix.trees import count_devices, on_all_devices, select_rows
from optix.types import (
    Agent,
    Environment,
    Hyperparams,
    Policy,
    PyTree,
    Report,
    Trajectory,
)


class Rollout(NamedTuple):
    """Where the environments stand."""

    env_state: PyTree  # [B, ...]
    obs: jax.Array  # [B, ...] float32
    carry: PyTree  # [B, ...] of a recurrent agent
    discounted_return: jax.Array  # [B] float32 of the running episodes


class Collector(NamedTuple):
    """An agent that acts in environments.

    begin: `(key) -> Rollout` with fresh episodes.
    step: `(policy, rollout, hyperparams, act_key, env_key, override) -> (rollout,
        Trajectory without a time axis [B, ...])`; `override`, unless None, is a function
        `(action) -> action` between the agent and the environment.
    """

    begin: Callable[[jax.Array], Rollout]
    step: Callable[..., tuple[Rollout, Trajectory]]


def collector(agent: Agent, env: Environment, num_envs: int) -> Collector:
    """Return the `Collector` of an agent in `num_envs` environments.

    Carries and running returns start afresh where an episode ended.

    Raises:
      ValueError: an environment that does not keep to its record.
    """
    check_environment(env, "step", num_envs)

    def begin(key):
        env_state, obs = env.reset(key, num_envs)
        return Rollout(
            env_state, obs, agent.initial_carry(num_envs), jnp.zeros(num_envs)
        )

    def step(
        policy: Policy,
        rollout: Rollout,
        hyperparams: Hyperparams,
        act_key: jax.Array,
        env_key: jax.Array,
        override: Callable | None = None,
    ) -> tuple[Rollout, Trajectory]:
        carry, action, extras = agent.act(
            policy, rollout.carry, rollout.obs, act_key, hyperparams, True
        )
        if override is not None:
            action = override(action)
        env_state, result = env.step(env_key, rollout.env_state, action)
        done = result.terminated | result.truncated
        discount = hyperparams.get("discount", 1.0)
        discounted = result.reward + discount * rollout.discounted_return
        transition = Trajectory(
            obs=rollout.obs,
            action=action,
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            next_obs=result.next_obs,
            extras={**extras, "discounted_return": discounted},
        )
        carry, discounted = select_rows(
            done,
            (agent.initial_carry(num_envs), jnp.zeros(num_envs)),
            (carry, discounted),
        )
        return Rollout(env_state, result.obs, carry, discounted), transition

    return Collector(begin, step)


def window_report(
    steps: int,
    finite: jax.Array,
    metrics: dict[str, jax.Array],
    trajectory: Trajectory,
    axis_name: str | None,
) -> Report:
    """Return the report of a window of `steps` environment steps, over all devices."""
    env_steps = jnp.int32(steps * count_devices(axis_name))
    finite = on_all_devices(finite, axis_name)
    return Report(env_steps, finite, metrics, trajectory)


def own_key(key: jax.Array, axis_name: str | None) -> jax.Array:
    """Return a key of this device's own: experience differs, parameters do not."""
    if axis_name is None:
        return key
    return jax.random.fold_in(key, jax.lax.axis_index(axis_name))
