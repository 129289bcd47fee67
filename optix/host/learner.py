"""Agents outside the device, in the same jitted loop as agents on it."""

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from optix import checks
from optix.host.agent import BaseAgent, HyperparamSet, Pipeline
from optix.host.slots import HostSlot, HostStore
from optix.host.window import EpisodeData
from optix.types import Learner, LearnerState, Policy, Report


def host(
    agent: BaseAgent,
    pipeline: Pipeline,
    *,
    evaluation_episodes: int = 8,
    validation: Pipeline | None = None,
    metrics: Sequence[str] = (),
    directory: str | None = None,
) -> Learner:
    """Return a learner around an agent that lives outside the device.

    Its policy is the number of a slot of weights, kept by a `HostStore`. One callback
    per window loads the slot if the agent has other weights, sets hyperparameters,
    seeds the agent, collects, learns and puts the weights into a new slot; another one
    per evaluation. Where an observation, an action, a reward or a number that `learn`
    returns is not finite, the policy keeps its slot, and the first time a warning says
    which. Runs repeat and resume as exactly as the agent's `save_weights` and `seed`
    allow.

    It runs under jit, vmap and scan, in a process with one local device. An agent that
    itself computes with JAX may block inside a callback.

    Args:
      agent: its float hyperparameters become the learner's, others stay as they are.
      pipeline: collects the windows.
      evaluation_episodes: whole episodes per score.
      validation: evaluates in place of `pipeline`, by playing or in any other way.
      metrics: names among the numbers of `learn` to report beside "return" (of the
        episodes that ended in the window, -inf without any), "window_return" (per
        episode begun) and "window_episodes"; NaN where a window has no such number.
      directory: in which to make the temporary folder of weights, or None.

    Raises:
      TypeError: `agent` is not a `BaseAgent`.
      ValueError: `evaluation_episodes` is not a positive integer, a pipeline lacks a
        method, `metrics` are no names, `directory` is no folder.

    >>> import gymnasium
    >>> from optix.host.pipelines import BatchPipeline
    >>> class Still(BaseAgent):
    ...     def act(self, observation): return 0
    ...     def learn(self, episode_data): return {}
    ...     def get_hyperparams(self): return HyperparamSet({"rate": 0.5})
    ...     def set_hyperparams(self, hyperparams): pass
    ...     def save_weights(self, path): open(path, "w").close()
    ...     def load_weights(self, path): pass
    >>> pipeline = BatchPipeline(lambda: gymnasium.make("CartPole-v1"), window_size=50)
    >>> learner = host(Still(), pipeline)
    >>> state, key = learner.init(jax.random.key(0)), jax.random.key(1)
    >>> state, report = jax.jit(learner.step)(state, learner.hyperparams, key, True)
    >>> bool(report.finite), state.policy.extras
    (True, HostSlot(slot=Array(1, dtype=int32)))
    """
    if not isinstance(agent, BaseAgent):
        raise TypeError(
            "agent must derive from optix.host.agent.BaseAgent and define its six "
            f"methods, got {type(agent).__name__}"
        )
    checks.positive_int("evaluation_episodes", evaluation_episodes)
    _check_pipeline("pipeline", pipeline, ("collect", "evaluate"))
    if validation is not None:
        _check_pipeline("validation", validation, ("evaluate",))
    _check_names(metrics)
    _check_directory(directory)
    store = HostStore(agent, directory)
    initial = agent.get_hyperparams().copy()
    tunable = {
        name: float(value)
        for name, value in initial.params.items()
        if isinstance(value, float | np.floating)
    }
    reported = ("return", "window_return", "window_episodes", *metrics)
    train = store.guarded(_trainer(store, pipeline, initial, tuple(tunable), reported))
    play = store.guarded(_player(store, validation or pipeline, evaluation_episodes))
    outcome = (
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.bool_),
        jax.ShapeDtypeStruct((), jnp.bool_),
        jax.ShapeDtypeStruct((len(reported),), jnp.float32),
    )

    def init(key):
        del key  # the agent is there already
        return LearnerState(Policy(params=(), extras=HostSlot(jnp.int32(0))))

    def begin(policy, key):
        del policy, key  # every window begins with a fresh episode
        return ()

    def step(state, hyperparams, key, active):
        values = [jnp.asarray(hyperparams[name], jnp.float32) for name in tunable]
        slot, env_steps, data_finite, finite, numbers = io_callback(
            train,
            outcome,
            state.policy.extras.slot,
            jnp.stack(values) if values else jnp.zeros(0),
            _seeds(key),
            active,
        )
        policy = state.policy._replace(extras=HostSlot(slot))
        told = dict(zip(reported, numbers, strict=True))
        report = Report(env_steps, finite, told, data_finite=data_finite)
        return state._replace(policy=policy), report

    def evaluate(policy, hyperparams, key):
        del hyperparams  # the agent has those that it last learned with
        score = jax.ShapeDtypeStruct((), jnp.float32)
        return io_callback(play, score, policy.extras.slot, _seeds(key))

    return Learner(init, begin, step, evaluate, tunable, store)


def _check_pipeline(keyword: str, pipeline: Any, methods: Sequence[str]) -> None:
    missing = [name for name in methods if not callable(getattr(pipeline, name, None))]
    if missing or isinstance(pipeline, type):
        raise checks.OptionError(
            f"{keyword} must have the methods {' and '.join(methods)}, got {pipeline!r}; "
            "use optix.host.pipelines.BatchPipeline(env) for a Gymnasium environment"
        )


def _check_names(metrics: Sequence[str]) -> None:
    is_sequence = isinstance(metrics, Sequence) and not isinstance(metrics, str)
    if not is_sequence or not all(isinstance(name, str) for name in metrics):
        raise checks.OptionError(
            f"metrics must be a sequence of names, like ('loss',), got {metrics!r}"
        )


def _check_directory(directory: Any) -> None:
    is_path = isinstance(directory, str | os.PathLike)
    if directory is not None and not (is_path and os.path.isdir(directory)):
        raise checks.OptionError(
            f"directory must be a folder that exists, or None, got {directory!r}"
        )


def _seeds(key: jax.Array) -> jax.Array:
    """Return the seeds of environment and agent, [2] uint32."""
    return jax.random.bits(key, (2,), jnp.uint32)


def _trainer(
    store: HostStore,
    pipeline: Pipeline,
    initial: HyperparamSet,
    tunable: Sequence[str],
    reported: Sequence[str],
) -> Callable:
    """Return the callback of a window."""
    told: list[str] = []  # one warning is enough

    def train(slot, values, seeds, active):
        slot = int(slot)
        if not active:
            nothing = np.zeros(len(reported), np.float32)
            return np.int32(slot), np.int32(0), np.True_, np.True_, nothing
        given = dict(zip(tunable, np.asarray(values).tolist(), strict=True))
        env_seed, agent_seed = np.asarray(seeds).tolist()
        store.hold(slot)
        store.agent.set_hyperparams(HyperparamSet({**initial.params, **given}))
        store.agent.seed(agent_seed)
        data = pipeline.collect(store.agent, env_seed)
        numbers, wrong = {}, _not_finite(data)
        data_finite = wrong is None
        if data_finite:
            store.release()
            numbers = _numbers(store.agent.learn(data))
            failed = [f"{k} = {v}" for k, v in numbers.items() if not math.isfinite(v)]
            wrong = f"learn returned {', '.join(failed)}" if failed else None
        finite = wrong is None
        if wrong is not None and not told:
            told.append(wrong)
            source = getattr(pipeline, "name", type(pipeline).__name__)
            warnings.warn(
                f"{source}: {wrong}; the policy stays as it was", stacklevel=2
            )
        episodes = data.rewards[0].size + data.dones[:-1].sum()
        numbers["return"] = _ended_return(data)
        numbers["window_return"] = data.total_reward / episodes
        numbers["window_episodes"] = episodes
        row = [numbers.get(name, math.nan) for name in reported]
        return (
            np.int32(store.new_slot() if finite else slot),
            np.int32(data.length),
            np.bool_(data_finite),
            np.bool_(finite),
            np.asarray(row, np.float32),
        )

    return train


def _player(store: HostStore, pipeline: Pipeline, episodes: int) -> Callable:
    """Return the callback of an evaluation."""

    def play(slot, seeds):
        slot, seeds = int(slot), np.asarray(seeds).tolist()
        # a stopped seed asks for the same score in every round of the others
        if store.scores.get(slot, (None,))[0] != seeds:
            env_seed, agent_seed = seeds
            store.hold(slot)
            store.agent.seed(agent_seed)
            score = float(pipeline.evaluate(store.agent, env_seed, episodes))
            store.scores[slot] = seeds, score
        return np.float32(store.scores[slot][1])

    return play


def _ended_return(data: EpisodeData) -> float:
    """Return the mean return of the episodes that ended in a window, -inf without any."""
    dones = data.dones.reshape(len(data.rewards), -1)
    rewards = data.rewards.reshape(dones.shape).astype(np.float64)
    returns = []
    for column, ended in zip(rewards.T, dones.T, strict=True):
        ends = np.flatnonzero(ended) + 1
        returns += [part.sum() for part in np.split(column, ends)[: len(ends)]]
    return float(np.mean(returns)) if returns else -math.inf


def _not_finite(data: EpisodeData) -> str | None:
    """Return in words which observation, action or reward is not finite, if one is."""
    for field in ("rewards", "observations", "actions", "next_observations"):
        for leaf in jax.tree.leaves(getattr(data, field)):
            if not np.issubdtype(leaf.dtype, np.floating):
                continue
            rows = np.isfinite(leaf).reshape(len(leaf), -1).all(1)
            if not rows.all():
                step = int(rows.argmin())
                return f"{field} hold {leaf[step]} at step {step} of a window"
    return None


def _numbers(info: Any) -> dict[str, float]:
    """Return what is a number in what `learn` returned."""
    if not isinstance(info, Mapping):
        raise TypeError(
            f"learn must return {{name: number}}, got {type(info).__name__}; return "
            "{} if there is nothing to tell"
        )
    numbers = {}
    for name, value in info.items():
        with contextlib.suppress(TypeError, ValueError):
            numbers[name] = float(value)
    return numbers
