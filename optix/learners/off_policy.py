"""Learning from a replay that is filled, step by step, on the device.

The factory is long for its options alone: they are documented and checked there.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.buffers.n_step import NStep
from optix.buffers.n_step import n_step as n_step_returns
from optix.learners.collect import (
    Collector,
    Rollout,
    collector,
    own_key,
    window_report,
)
from optix.learners.evaluate import evaluator
from optix.learners.memory import PRIORITY, ReplayMemory, replay_memory
from optix.math.masks import mask_of, random_action
from optix.trees import all_finite, on_all_devices, select
from optix.types import (
    Agent,
    Box,
    Buffer,
    Discrete,
    Environment,
    Hyperparams,
    Learned,
    Learner,
    LearnerState,
    MultiDiscrete,
    Policy,
    PyTree,
    Report,
    Trajectory,
    Transition,
)
from optix.xla.backend import time_unroll
from optix.xla.threefry import unrolled


class OffPolicyRollout(NamedTuple):
    """Where the environments stand, and the steps that wait for their returns."""

    envs: Rollout  # [B, ...]
    pending: PyTree  # [B, ...] of the n-step returns


class Parts(NamedTuple):
    """What an off-policy window is made of; static."""

    agent: Agent
    env: Environment
    experience: Collector
    returns: NStep
    memory: ReplayMemory
    hindsight: Callable | None
    num_envs: int
    num_steps: int
    collect_steps: int
    gradient_steps: int


def collect(
    parts: Parts,
    state: LearnerState,
    hyperparams: Hyperparams,
    keys: tuple[jax.Array, jax.Array, jax.Array],
    active: jax.Array,
) -> tuple[LearnerState, Trajectory]:
    """Take one step of every environment, into the replay."""
    policy, rollout, memory = state
    act_key, env_key, random_key = keys
    warm = parts.memory.warm(memory)

    def random_until_warm(action):
        mask = mask_of(rollout.envs.obs)
        anything = _random(parts.env.action_space, action, unrolled(random_key), mask)
        return jnp.where(warm, action, anything)

    envs, trajectory = parts.experience.step(
        policy, rollout.envs, hyperparams, act_key, env_key, random_until_warm
    )
    pending, rows, valid = parts.returns.push(
        rollout.pending, trajectory._replace(extras=()), hyperparams["discount"]
    )
    valid &= jax.vmap(all_finite)(rows)
    memory = parts.memory.collect(memory, rows, valid, active)
    policy = parts.agent.observe(policy, trajectory)
    return LearnerState(policy, OffPolicyRollout(envs, pending), memory), trajectory


def learn(
    parts: Parts,
    state: LearnerState,
    hyperparams: Hyperparams,
    keys: tuple[jax.Array, jax.Array],
    active: jax.Array,
    was_ready: jax.Array,
) -> tuple[LearnerState, tuple[Learned, jax.Array]]:
    """Make one update, once there is enough to learn from; the policy is in the state.

    Returns:
      The state; what was learned, without the policy, and whether it was [] bool.
    """
    policy, _, memory = state
    sample_key, learn_key = keys
    ready = parts.memory.ready(memory, was_ready)
    batch = parts.memory.sample(memory, hyperparams, sample_key)
    # traced once for its result and for its shapes
    update = jax.jit(parts.agent.learn)

    def wait(policy, *arguments):
        learned = jax.eval_shape(update, policy, *arguments)
        nothing = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), learned._replace(policy=())
        )
        return nothing._replace(policy=policy, finite=jnp.bool_(True))

    def update_once(*arguments):
        learned = update(*arguments)
        return learned._replace(finite=jnp.asarray(learned.finite))

    learned = jax.lax.cond(
        ready, update_once, wait, policy, batch, hyperparams, learn_key
    )
    memory = parts.memory.prioritise(
        memory, batch.index, learned.priority, hyperparams, ready & active
    )
    state = state._replace(policy=learned.policy, memory=memory)
    return state, (learned._replace(policy=(), priority=()), ready)


def claimed(
    parts: Parts, rollout: OffPolicyRollout, key: jax.Array, active: jax.Array
) -> OffPolicyRollout:
    """Return where a window begins; nothing waits for what will not follow any more."""
    if parts.env.claim is None:
        return rollout
    envs, fresh = parts.experience.claim(rollout.envs, parts.num_steps, active, key)
    nothing = jax.tree.map(jnp.zeros_like, rollout.pending)
    return OffPolicyRollout(envs, select(fresh, nothing, rollout.pending))


def window(
    parts: Parts,
    state: LearnerState,
    hyperparams: Hyperparams,
    key: jax.Array,
    active: jax.Array,
) -> tuple[LearnerState, Report]:
    """Alternate between steps and updates for `num_steps` steps."""
    axis_name = parts.agent.axis_name
    key = own_key(key, axis_name)
    state = state._replace(rollout=claimed(parts, state.rollout, key, active))
    was_ready = parts.memory.ready(state.memory, jnp.bool_(False))

    def turn(state, keys):
        state, trajectory = jax.lax.scan(
            lambda state, keys: collect(parts, state, hyperparams, keys, active),
            state,
            keys[0],
        )
        state, learned = jax.lax.scan(
            lambda state, keys: learn(
                parts, state, hyperparams, keys, active, was_ready
            ),
            state,
            keys[1],
        )
        return state, (trajectory, *learned)

    collect_key, learn_key, relabel_key = jax.random.split(key, 3)
    # split once for the whole window, not anew in every step
    turns = parts.num_steps // parts.collect_steps
    collect_keys = jax.random.split(collect_key, (3, turns, parts.collect_steps))
    learn_keys = jax.random.split(learn_key, (2, turns, parts.gradient_steps))
    keys = tuple(collect_keys), tuple(learn_keys)
    new, (trajectory, learned, ready) = jax.lax.scan(
        turn, state, keys, unroll=time_unroll()
    )
    policy, rollout, memory = new
    trajectory = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
    if parts.hindsight is not None:
        rows, valid = parts.hindsight(trajectory, relabel_key, hyperparams["discount"])
        memory = parts.memory.store(memory, rows, valid, active)
    # of all devices: one that kept its old policy alone would part from the others
    update_finite = on_all_devices(all_finite(policy) & learned.finite.all(), axis_name)
    # a window whose updates went astray changes nothing
    policy = select(update_finite, policy, state.policy)
    updates = jnp.maximum(ready.sum(), 1)
    report = window_report(
        parts.num_steps * parts.num_envs,
        update_finite,
        jax.tree.map(lambda x: x.sum() / updates, learned.info),
        trajectory,
        rollout.envs.latest_return,
        all_finite((trajectory.obs, trajectory.reward, rollout.envs.obs)),
        axis_name,
    )
    return LearnerState(policy, rollout, memory), report


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
    lanes: int = 1,
    **hyperparams: float,
) -> Learner:
    """Return a learner that alternates between a few steps and a few updates.

    Actions are random until `learning_starts` steps are stored; then learning begins.
    Transitions that are not finite are never stored. All lanes of a tuner store into one
    replay and learn from the same rows of it.

    Args:
      agent: an agent whose `learn` takes a `Sample` of `Transition`; on the devices of
        its `axis_name` the batches form one.
      env: a batch of environments.
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
        quarter of the memory; None keeps the environment's type, of small integers
        and of flags shown on the device their own.
      one_copy: the replay keeps each observation once, not as what one row starts from
        and another leads to: half of the memory. `capacity` then counts observations,
        one more than rows in each episode. None does so for images, but not with
        `hindsight` or with a `buffer`, see the `streams` of `optix.buffers.uniform`.
      evaluation_episodes: whole episodes per score.
      deterministic_evaluation: score the mode of the policy, not samples.
      lanes: of the tuner, which share the replay; `optix.make` tells it.
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
    sizes = {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "collect_steps": collect_steps,
        "gradient_steps": gradient_steps,
    }
    others = {
        "batch_size": batch_size,
        "learning_starts": learning_starts,
        "n_step": n_step,
        "lanes": lanes,
        "evaluation_episodes": evaluation_episodes,
    }
    for name, value in (sizes | others).items():
        checks.positive_int(name, value)
    checks.positive_int("num_steps * num_envs", num_steps * num_envs)
    checks.boolean("prioritised", prioritised)
    checks.boolean("deterministic_evaluation", deterministic_evaluation)
    if num_steps % collect_steps:
        raise checks.OptionError(
            f"num_steps must be divisible by collect_steps={collect_steps}, got "
            f"{num_steps}"
        )
    if hindsight is not None:
        remedy = "make it by optix.buffers.hindsight.hindsight(...)"
        checks.function("hindsight", hindsight, remedy)
        if env.masked:
            raise checks.OptionError(
                f"hindsight must be None in {env.name}: which actions are allowed "
                "under another goal is not known; leave action masks or hindsight out"
            )
    known = PRIORITY if prioritised else {}
    floats = checks.floats("option of off_policy", hyperparams, known)
    memory = replay_memory(
        env,
        rows_at_once=n_step * num_envs * lanes,
        streams=num_envs * lanes,
        lanes=lanes,
        batch_size=batch_size,
        capacity=capacity,
        learning_starts=learning_starts,
        n_step=n_step,
        prioritised=prioritised,
        buffer=buffer,
        hindsight=hindsight,
        observation_dtype=observation_dtype,
        one_copy=one_copy,
        axis_name=agent.axis_name,
    )
    parts = Parts(
        agent=agent,
        env=env,
        experience=collector(agent, env, num_envs),
        returns=n_step_returns(n_step),
        memory=memory,
        hindsight=hindsight,
        **sizes,
    )
    evaluate = evaluator(
        agent,
        env,
        episodes=evaluation_episodes,
        deterministic=deterministic_evaluation,
    )

    def begin(policy, key):
        envs = parts.experience.begin(own_key(key, agent.axis_name))
        waiting = parts.returns.init(_example(parts, policy, envs), num_envs)
        return OffPolicyRollout(envs, waiting)

    def init(key):
        policy_key, begin_key = jax.random.split(key)
        policy = agent.init(policy_key)
        rollout = begin(policy, begin_key)
        step = _example(parts, policy, rollout.envs)
        row = Transition(step.obs, step.action, step.reward, step.reward, step.next_obs)
        return LearnerState(policy, rollout, memory.init(row))

    def step(state, hyperparams, key, active):
        return window(parts, state, hyperparams, key, active)

    hyperparams = {**agent.hyperparams, **floats}
    return Learner(
        init, begin, step, evaluate, hyperparams, env.host, agent, env, lanes
    )


def _example(parts: Parts, policy: Policy, envs: Rollout) -> Trajectory:
    """Return one step of one environment, zeros of its shapes; nothing is computed."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(
        parts.experience.step, policy, envs, parts.agent.hyperparams, key, key
    )[1]
    return jax.tree.map(
        lambda x: jnp.zeros(x.shape[1:], x.dtype), shapes._replace(extras=())
    )


def _random(space, action, key, mask):
    """Actions drawn uniformly from those allowed, shaped as `action` is."""
    if isinstance(space, Box):
        return jax.random.uniform(key, action.shape, action.dtype, -1.0, 1.0)
    if mask is not None:
        sizes = space.sizes if isinstance(space, MultiDiscrete) else None
        return random_action(key, mask, sizes).astype(action.dtype)
    most = space.n if isinstance(space, Discrete) else jnp.asarray(space.sizes)
    return jax.random.randint(key, action.shape, 0, most, action.dtype)
