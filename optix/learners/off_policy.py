"""Learning from a replay that is filled, step by step, on the device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.buffers.compact import compact, numbers_dtype
from optix.buffers.n_step import n_step as n_step_returns
from optix.buffers.prioritised import prioritised as prioritised_buffer
from optix.buffers.storage import checked_batch_size
from optix.buffers.uniform import uniform
from optix.learners.collect import Rollout, collector, own_key, window_report
from optix.learners.evaluate import evaluator
from optix.trees import (
    all_finite,
    count_devices,
    gather_lanes,
    mean_lanes,
    on_all_devices,
    saturating_add,
    select,
)
from optix.types import (
    Agent,
    Box,
    Buffer,
    Environment,
    Learner,
    LearnerState,
    PyTree,
    Transition,
)
from optix.xla.threefry import unrolled

PRIORITY = {  # name: (default, low, high), of a prioritised replay
    "priority_exponent": (0.6, 0.0, 1.0),
    "importance_exponent": (0.4, 0.0, 1.0),
    "importance_steps": (100_000.0, 1.0, 1e9),  # environment steps until it is 1
}


class OffPolicyRollout(NamedTuple):
    """Where the environments stand, and the steps that wait for their returns."""

    envs: Rollout  # [B, ...]
    pending: PyTree  # [B, ...] of the n-step returns


class Memory(NamedTuple):
    """What the lanes share."""

    replay: PyTree  # the buffer's state
    env_steps: jax.Array  # [] int32 collected by all lanes, on all devices


def off_policy(
    agent: Agent,
    env: Environment,
    *,
    num_envs: int = 8,
    num_steps: int = 256,
    collect_steps: int = 1,
    gradient_steps: int = 1,
    batch_size: int = 128,
    capacity: int = 100_000,
    learning_starts: int = 1_000,
    n_step: int = 1,
    prioritised: bool = False,
    buffer: Buffer | None = None,
    hindsight: Callable | None = None,
    observation_dtype: str | None = None,
    one_copy: bool | None = None,
    evaluation_episodes: int = 16,
    deterministic_evaluation: bool = True,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Learner:
    """Return a learner that alternates between a few steps and a few updates.

    Actions are random until `learning_starts` steps are stored; then learning begins.
    Transitions that are not finite are never stored. All lanes of a tuner store into one
    replay and learn from the same rows of it.

    Args:
      agent: an agent whose `learn` takes a `Sample` of `Transition`.
      env: a batch of environments on the device.
      num_envs: environments side by side, on each device.
      num_steps: steps of a window.
      collect_steps: steps between updates; they divide `num_steps`.
      gradient_steps: updates each time.
      batch_size: rows of an update, on each device.
      capacity: rows of the replay, on each device.
      learning_starts: environment steps before the first update.
      n_step: steps whose rewards one row sums.
      prioritised: replay by temporal-difference error
        (https://arxiv.org/abs/1511.05952).
      buffer: replaces the replay of `capacity`; `prioritised` says whether the agent's
        errors become its priorities.
      hindsight: relabels a window's goals, as `optix.buffers.hindsight.hindsight(...)`
        does; its rows are stored at the end of the window, beside the real ones.
      observation_dtype: in which the replay keeps observations, see
        `optix.buffers.compact.compact`: "uint8" for images of whole numbers takes a
        quarter of the memory; None keeps float32.
      one_copy: the replay keeps each observation once, not as what one row starts from
        and another leads to: half of the memory. `capacity` then counts observations,
        one more than rows in each episode. None does so for images, but not with
        `hindsight` or with a `buffer`, see the `streams` of `optix.buffers.uniform`.
      evaluation_episodes: whole episodes per score.
      deterministic_evaluation: score the mode of the policy, not samples.
      axis_name: devices whose batches form one.
      **hyperparams: defaults of the traced floats in `PRIORITY`, if prioritised.

    Raises:
      ValueError: sizes below one or that do not fit each other, unknown names, or an
        agent whose actions are not the environment's.

    >>> from optix.agents.dqn import dqn
    >>> from optix.envs.device import device
    >>> from optix.networks.values import action_values
    >>> env = device("CartPole-v1")
    >>> spaces = (env.observation_shape, env.action_space)
    >>> learner = off_policy(dqn(action_values(*spaces), *spaces), env, capacity=1000)
    >>> state = learner.init(jax.random.key(0))
    >>> int(state.memory.env_steps)
    0
    """
    checks.record("agent", agent, Agent, "make one by its factory, as in dqn(...)")
    checks.record("env", env, Environment, "make one by optix.envs.device.device(...)")
    for name, value in {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "collect_steps": collect_steps,
        "gradient_steps": gradient_steps,
        "batch_size": batch_size,
        "learning_starts": learning_starts,
        "n_step": n_step,
        "evaluation_episodes": evaluation_episodes,
    }.items():
        checks.positive_int(name, value)
    checks.positive_int("num_steps * num_envs", num_steps * num_envs)
    checks.boolean("prioritised", prioritised)
    checks.boolean("deterministic_evaluation", deterministic_evaluation)
    checks.axis_name(axis_name)
    if num_steps % collect_steps:
        raise ValueError(
            f"num_steps must be divisible by collect_steps={collect_steps}, got "
            f"{num_steps}"
        )
    if buffer is not None:
        checks.record("buffer", buffer, Buffer, "use uniform(...) or prioritised(...)")
    if hindsight is not None:
        remedy = "make it by optix.buffers.hindsight.hindsight(...)"
        checks.function("hindsight", hindsight, remedy)
    known = PRIORITY if prioritised else {}
    floats = checks.floats("option of off_policy", hyperparams, known)
    one_copy = _checked_one_copy(one_copy, env, hindsight, buffer)
    # the tuners of optix have at most two lanes, whose rows come side by side
    streams = 2 * num_envs if one_copy else 0
    kind = prioritised_buffer if prioritised else uniform
    checks.positive_int("capacity", capacity)
    replay = buffer or kind(capacity, streams=streams, n_step=n_step)
    if observation_dtype is not None:
        numbers_dtype("observation_dtype", observation_dtype)
        replay = compact(replay, observation_dtype)
    checked_batch_size(batch_size, replay.capacity)
    _check_capacity(replay.capacity, n_step * num_envs, one_copy)
    # a replay of one copy, ours or the user's, may never hold more than this quarter
    enough = min(batch_size, learning_starts, -(-replay.capacity // 4))
    returns = n_step_returns(n_step)
    experience = collector(agent, env, num_envs)
    learn_once = jax.jit(agent.learn)  # traced once for its result and for its shapes
    evaluate = evaluator(
        agent,
        env,
        episodes=evaluation_episodes,
        deterministic=deterministic_evaluation,
        axis_name=axis_name,
    )

    def begin(policy, key):
        envs = experience.begin(own_key(key, axis_name))
        return OffPolicyRollout(envs, returns.init(_example(policy, envs), num_envs))

    def _example(policy, envs):
        """The shapes of one step of one environment, nothing computed."""
        key = jax.random.key(0)
        shapes = jax.eval_shape(
            experience.step, policy, envs, agent.hyperparams, key, key
        )[1]
        return jax.tree.map(
            lambda x: jnp.zeros(x.shape[1:], x.dtype), shapes._replace(extras=())
        )

    def init(key):
        policy_key, begin_key = jax.random.split(key)
        policy = agent.init(policy_key)
        rollout = begin(policy, begin_key)
        step = _example(policy, rollout.envs)
        row = Transition(step.obs, step.action, step.reward, step.reward, step.next_obs)
        memory = Memory(replay.init(row), jnp.int32(0))
        return LearnerState(policy, rollout, memory)

    def collect(state, hyperparams, keys, active):
        """One step of every environment, into the replay."""
        policy, rollout, memory = state
        act_key, env_key, random_key = keys
        warm = memory.env_steps >= learning_starts

        def random_until_warm(action):
            return jnp.where(
                warm, action, _random(env.action_space, action, random_key)
            )

        envs, trajectory = experience.step(
            policy, rollout.envs, hyperparams, act_key, env_key, random_until_warm
        )
        pending, rows, valid = returns.push(
            rollout.pending,
            trajectory._replace(extras=()),
            hyperparams.get("discount", 1.0),
        )
        rows, valid = gather_lanes((rows, valid & active & jax.vmap(all_finite)(rows)))
        steps = valid.size * count_devices(axis_name)
        memory = Memory(
            replay.add(memory.replay, rows, valid),
            saturating_add(memory.env_steps, jnp.where(active, steps, 0)),
        )
        policy = agent.observe(policy, trajectory)
        return LearnerState(policy, OffPolicyRollout(envs, pending), memory), trajectory

    def is_ready(memory, was_ready):
        """Whether every device has enough to learn from; once it has, it stays so."""
        ready = memory.env_steps >= learning_starts
        ready &= replay.size(memory.replay) >= enough
        if axis_name is None:
            return ready
        # devices that knew it when the window began need not ask again
        return jax.lax.cond(
            was_ready, lambda: was_ready, lambda: on_all_devices(ready, axis_name)
        )

    def learn(state, hyperparams, keys, active, was_ready):
        """One update, once there is enough to learn from."""
        memory = state.memory
        sample_key, learn_key = keys
        ready = is_ready(memory, was_ready)
        exponent = 0.0
        if prioritised:
            share = memory.env_steps / hyperparams["importance_steps"]
            first = hyperparams["importance_exponent"]
            exponent = first + jnp.clip(share, 0.0, 1.0) * (1.0 - first)
        batch = replay.sample(memory.replay, sample_key, batch_size, exponent)

        def wait(policy, *arguments):
            shapes = jax.eval_shape(learn_once, policy, *arguments)[1]
            return policy, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        policy, info = jax.lax.cond(
            ready, learn_once, wait, state.policy, batch, learn_key, hyperparams
        )
        error = info.pop("td_error", None)
        if prioritised:
            priority = mean_lanes(error ** hyperparams["priority_exponent"])
            replayed = replay.update(
                memory.replay, batch.index, priority, ready & active
            )
            memory = memory._replace(replay=replayed)
        return state._replace(policy=policy, memory=memory), (info, ready)

    def step(state, hyperparams, key, active):
        was_ready = is_ready(state.memory, jnp.bool_(False))

        def iterate(state, keys):
            state, trajectory = jax.lax.scan(
                lambda state, keys: collect(state, hyperparams, keys, active),
                state,
                keys[0],
            )
            state, learned = jax.lax.scan(
                lambda state, keys: learn(state, hyperparams, keys, active, was_ready),
                state,
                keys[1],
            )
            return state, (trajectory, *learned)

        collect_key, learn_key, relabel_key = jax.random.split(
            own_key(key, axis_name), 3
        )
        # split once for the whole window, not anew in every step
        turns = num_steps // collect_steps
        collect_keys = jax.random.split(collect_key, (3, turns, collect_steps))
        learn_keys = jax.random.split(learn_key, (2, turns, gradient_steps))
        keys = tuple(unrolled(collect_keys)), tuple(unrolled(learn_keys))
        new, (trajectory, info, ready) = jax.lax.scan(iterate, state, keys)
        policy, rollout, memory = new
        trajectory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
        if hindsight is not None:
            discount = hyperparams.get("discount", 1.0)
            rows, valid = hindsight(trajectory, relabel_key, discount)
            rows, valid = gather_lanes((rows, valid & active))
            memory = memory._replace(replay=replay.add(memory.replay, rows, valid))
        sound = all_finite(policy)
        # a window whose updates went astray changes nothing
        policy = select(sound, policy, state.policy)
        finite = sound & all_finite(
            (trajectory.obs, trajectory.reward, rollout.envs.obs)
        )
        updates = jnp.maximum(ready.sum(), 1)
        metrics = jax.tree.map(lambda x: x.sum() / updates, info)
        steps = num_steps * num_envs
        report = window_report(steps, finite, metrics, trajectory, axis_name)
        return LearnerState(policy, rollout, memory), report

    return Learner(init, begin, step, evaluate, {**agent.hyperparams, **floats})


def _random(space, action, key):
    """Actions drawn uniformly, shaped as `action` is."""
    if isinstance(space, Box):
        return jax.random.uniform(key, action.shape, action.dtype, -1.0, 1.0)
    return jax.random.randint(key, action.shape, 0, space.n, action.dtype)


def _checked_one_copy(one_copy, env, hindsight, buffer):
    """Whether the replay keeps each observation once."""
    if one_copy is not None and not isinstance(one_copy, bool | np.bool_):
        raise checks.OptionError(
            f"one_copy must be True, False or None, got {one_copy!r}"
        )
    can = hindsight is None and buffer is None
    if one_copy and not can:
        raise ValueError(
            "one_copy must be None or False with hindsight, whose rows start from other "
            "goals, and with a buffer, which takes `streams` itself"
        )
    if one_copy is None:
        return can and len(env.observation_shape) > 1
    return bool(one_copy)


def _check_capacity(capacity, needed, one_copy):
    if capacity < needed:
        raise ValueError(
            f"capacity must be at least n_step * num_envs = {needed}, got {capacity}"
        )
    if one_copy and capacity < 4 * needed:
        raise ValueError(
            "capacity must be at least 4 * n_step * num_envs = "
            f"{4 * needed} where observations are kept once, got {capacity}; a longer "
            "replay or one_copy=False"
        )
