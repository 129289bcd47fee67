"""Experience: a batch of environments, one step at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.forms import check_environment
from optix.trees import count_devices, on_all_devices, select, select_rows
from optix.types import (
    MAX_INT32,
    Agent,
    Environment,
    Hyperparams,
    Policy,
    PyTree,
    Report,
    StepExtras,
    Trajectory,
)


class Rollout(NamedTuple):
    """Where the environments stand."""

    env_state: PyTree  # [B, ...]
    obs: jax.Array  # [B, ...] of the environment's type
    carry: PyTree  # [B, ...] of a recurrent agent
    discounted_return: jax.Array  # [B] float32 of the running episodes
    episode_return: jax.Array  # [B] float32 the same, undiscounted
    latest_return: (
        jax.Array
    )  # [B] float32 of the latest episode that ended, -inf if none


class Collector(NamedTuple):
    """An agent that acts in environments.

    begin: `(key) -> Rollout` with fresh episodes.
    claim: `(rollout, steps, active, key) -> (Rollout, fresh [] bool)`, before the first
        of so many steps: where environments outside the device have left the rollout
        behind it begins afresh, see `Environment.claim`. The key is its alone.
    step: `(policy, rollout, hyperparams, act_key, env_key, override) -> (rollout,
        Trajectory without a time axis [B, ...])`; `override`, unless None, is a function
        `(action) -> action` between the agent and the environment.
    """

    begin: Callable[[jax.Array], Rollout]
    claim: Callable[..., tuple[Rollout, jax.Array]]
    step: Callable[..., tuple[Rollout, Trajectory]]


def collector(agent: Agent, env: Environment, num_envs: int) -> Collector:
    """Return the `Collector` of an agent in `num_envs` environments.

    Carries and running returns start afresh where an episode ended.

    Raises:
      ValueError: an environment that does not keep to its record, or an agent without a
        "discount" among its hyperparameters.
    """
    checks.record("agent", agent, Agent, "make one by its factory, as in ppo(...)")
    checks.record("env", env, Environment, "make one by optix.envs.device.device(...)")
    checks.positive_int("num_envs", num_envs)
    check_environment(env, "step", num_envs)
    if "discount" not in agent.hyperparams:
        known = ", ".join(agent.hyperparams) or "none"
        raise checks.OptionError(
            'agent.hyperparams must have a "discount", by which returns are summed, got '
            f"{known}; 1.0 sums rewards as they are"
        )

    def begin(key):
        env_state, obs = env.reset(key, num_envs)
        zeros = jnp.zeros(num_envs, jnp.float32)
        none = jnp.full(num_envs, -jnp.inf, jnp.float32)
        carry = agent.initial_carry(num_envs)
        return Rollout(env_state, obs, carry, zeros, zeros, none)

    def claim(rollout, steps, active, key):
        if env.claim is None:
            return rollout, jnp.bool_(False)
        env_state, obs, fresh = env.claim(
            jax.random.fold_in(key, MAX_INT32),  # the key is also split elsewhere
            rollout.env_state,
            rollout.obs,
            steps,
            active,
        )
        fresh_parts = agent.initial_carry(num_envs), jnp.zeros((2, num_envs))
        returns = jnp.stack([rollout.discounted_return, rollout.episode_return])
        carry, returns = select(fresh, fresh_parts, (rollout.carry, returns))
        rollout = rollout._replace(
            env_state=env_state,
            obs=obs,
            carry=carry,
            discounted_return=returns[0],
            episode_return=returns[1],
        )
        return rollout, fresh

    def step(
        policy: Policy,
        rollout: Rollout,
        hyperparams: Hyperparams,
        act_key: jax.Array,
        env_key: jax.Array,
        override: Callable | None = None,
    ) -> tuple[Rollout, Trajectory]:
        carry, action, extras = agent.act(
            policy, rollout.carry, rollout.obs, hyperparams, act_key, True
        )
        if override is not None:
            action = override(action)
        env_state, result = env.step(env_key, rollout.env_state, action)
        done = result.terminated | result.truncated
        discount = hyperparams["discount"]
        discounted = result.reward + discount * rollout.discounted_return
        undiscounted = result.reward + rollout.episode_return
        told = {} if result.shared is None else {"shared": result.shared}
        transition = Trajectory(
            obs=rollout.obs,
            action=action,
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            next_obs=result.next_obs,
            extras=StepExtras(
                **extras,
                **told,
                discounted_return=discounted,
                episode_return=undiscounted,
            ),
        )
        carry = select_rows(done, agent.initial_carry(num_envs), carry)
        rollout = Rollout(
            env_state,
            result.obs,
            carry,
            discounted_return=jnp.where(done, 0.0, discounted),
            episode_return=jnp.where(done, 0.0, undiscounted),
            latest_return=jnp.where(done, undiscounted, rollout.latest_return),
        )
        return rollout, transition

    return Collector(begin, claim, step)


def window_report(
    steps: int,
    update_finite: jax.Array,
    metrics: dict[str, jax.Array],
    trajectory: Trajectory,
    latest_return: jax.Array,
    data_finite: jax.Array,
    axis_name: str | None,
) -> Report:
    """Return the report of a window, over all devices.

    Where resets are shared its metric "shared_resets" is how many episodes began with the
    state that another began with in the same step.

    Args:
      steps: environment steps of the window on this device.
      update_finite: [] bool, what the agent says of its update.
      metrics: {name: []} of the update.
      trajectory: [T, B].
      latest_return: [B] of the rollout after the window.
      data_finite: [] bool, whether what was collected is finite.
      axis_name: the devices, None for one.
    """
    env_steps = jnp.int32(steps * count_devices(axis_name))
    data_finite = on_all_devices(data_finite, axis_name)
    finite = on_all_devices(jnp.asarray(update_finite), axis_name) & data_finite
    value = window_return(trajectory, latest_return, axis_name)
    metrics = {**metrics, "return": value}
    if "shared" in trajectory.extras:
        shared = trajectory.extras["shared"].sum()
        if axis_name is not None:
            shared = jax.lax.psum(shared, axis_name)
        metrics["shared_resets"] = shared.astype(jnp.float32)
    return Report(env_steps, finite, metrics, trajectory, data_finite)


def window_return(
    trajectory: Trajectory, latest_return: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Return the mean return [] of the episodes that ended in a window.

    Where none ended it is that of the latest ones before; -inf where none ever has.
    """

    def mean(values, counted):
        total = jnp.where(counted, values, 0.0).sum(), counted.sum()
        if axis_name is not None:
            total = jax.lax.psum(total, axis_name)
        return jnp.where(total[1] > 0, total[0] / jnp.maximum(total[1], 1), -jnp.inf)

    ended = trajectory.terminated | trajectory.truncated
    in_window = mean(trajectory.extras["episode_return"], ended)
    before = mean(latest_return, latest_return > -jnp.inf)
    return jnp.where(in_window > -jnp.inf, in_window, before)


def own_key(key: jax.Array, axis_name: str | None) -> jax.Array:
    """Return a key of this device's own: experience differs, parameters do not."""
    if axis_name is None:
        return key
    count_devices(axis_name)  # refuses the name of no axis
    return jax.random.fold_in(key, jax.lax.axis_index(axis_name))
