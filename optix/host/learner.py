"""Agents outside the device, in the same jitted loop as agents on it."""

import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from optix import checks
from optix.host.agent import BaseAgent, Pipeline
from optix.host.bound import bound
from optix.host.ensemble import EnsembleAgent
from optix.host.jax_agent import JaxAgent
from optix.host.memories import Run
from optix.host.playing import beginner, player, settings, trainer
from optix.host.slots import HostSlot, HostStore
from optix.host.streams import Stream
from optix.types import Agent, Learner, LearnerState, Policy, Report

EVALUATION_SHARE = 0.15  # of a round's environment steps, at most, by default


def host(
    agent: BaseAgent,
    pipeline: Pipeline,
    *,
    evaluation_episodes: int = 8,
    validation: Any = None,
    metrics: Sequence[str] = (),
    directory: str | None = None,
    fresh: bool = False,
    copies: int = 8,
) -> Learner:
    """Return a learner around an agent that lives outside the device.

    Its policy is the number of a slot of weights, kept by a `HostStore`. One callback
    per window loads the slot if the agent has other weights, sets hyperparameters,
    seeds the agent, collects, learns and puts the weights into a new slot; another one
    per evaluation. Where an observation, an action, a reward or a number that `learn`
    returns is not finite, the policy keeps its slot, and the first time a warning says
    which. A replay of the agent's (`make_memory`) belongs to the run: its lanes share it,
    a rollback keeps it, and `optix.train` saves it as it does one on the device.

    Episodes go on from window to window. A rollback, a fork's second lane and a resumed
    run begin fresh ones: environments can not be copied. So a resume is exact only with
    `fresh`, and as exact then as the agent's `state` (or `save_weights`) and `seed` are.

    By default a round has so many windows (`Learner.windows_per_round`) that evaluation
    takes at most 15 % of its steps, where the pipeline knows its time limit.

    It runs under jit, vmap and scan, in a process with one local device.

    A JAX agent (`as_base_agent`, `FlaxPPOAgent`) does not act in callbacks, where what it
    computes could block: it is bound itself, over the environments that the pipeline can
    make, as `optix.make` binds one. `agent_of` of the learner's `host` works for it too.
    All that its `learn` reports is among the metrics, "return" beside it.

    Args:
      agent: its float hyperparameters become the learner's, others stay as they are.
      pipeline: collects the windows.
      evaluation_episodes: whole episodes per score.
      validation: a pipeline that evaluates in place of `pipeline`, by playing or in any
        other way.
      metrics: names among the numbers of `learn` to report beside "return" (of the
        episodes that ended last), "window_return" (per episode of which the window
        shows a part) and "window_episodes"; NaN where a window has no such number.
      directory: in which to make the temporary folder of weights, or None.
      fresh: begin each window with fresh episodes. Learning is slower with short windows:
        let them be of whole episodes.
      copies: of the environments that may be open at once, beside those of evaluations:
        one for each seed and lane whose episodes are to go on.

    Raises:
      TypeError: `agent` is not a `BaseAgent`, or overrides half of `state` and `restore`.
      ValueError: a size that is not a positive integer, a pipeline lacks a method,
        `metrics` are no names, `directory` is no folder, `fresh` no flag, `state` of the
        agent gives its own arrays; an ensemble; a JAX agent at a live stream; without
        `validation` a live source that takes no actions.

    >>> import gymnasium
    >>> from optix.host.agent import HyperparamSet
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
    >>> bool(report.finite), int(state.policy.extras.slot), int(state.rollout.number)
    (True, 1, 1)
    """
    _check(agent, pipeline, validation, metrics, directory)
    checks.positive_int("evaluation_episodes", evaluation_episodes)
    checks.boolean("fresh", fresh)
    checks.positive_int("copies", copies)
    judge = pipeline if validation is None else validation
    windows = _windows_per_round(pipeline, judge, evaluation_episodes)
    if isinstance(agent, JaxAgent):
        return bound(
            agent,
            pipeline,
            validation,
            evaluation_episodes=evaluation_episodes,
            metrics=metrics,
            fresh=fresh,
            copies=copies,
            windows_per_round=windows,
        )
    if (unscored := getattr(judge, "unscored", None)) is not None:
        word = "pipeline" if validation is None else "validation"
        raise checks.OptionError(f"{word} must score an agent, but {unscored}")
    store = HostStore(agent, pipeline, directory, copies)
    initial = agent.get_hyperparams().copy()
    tunable = {
        name: float(value)
        for name, value in initial.params.items()
        if isinstance(value, float | np.floating)
    }
    told = ("return", "window_return", "window_episodes", *metrics)
    given = settings(initial, tuple(tunable))
    train = store.guarded(trainer(store, pipeline, given, told, fresh))
    play = store.guarded(player(store, judge, given, evaluation_episodes))
    resets = type(agent).reset is not BaseAgent.reset
    first = store.guarded(beginner(store, resets))
    enter = store.guarded(lambda seeds: np.int32(store.streams.enter()))
    slot_number = jax.ShapeDtypeStruct((), jnp.int32)
    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    row = jax.ShapeDtypeStruct((len(told),), jnp.float32)
    outcome = (slot_number, slot_number, slot_number, flag, flag, row)

    def init(key):
        slot, memory, number = jnp.int32(0), (), jnp.int32(0)
        if store.streams.single:  # the number tells the runs apart
            number = io_callback(enter, slot_number, _seeds(key))
        if resets or store.memories.there:
            bits = jax.ShapeDtypeStruct((2,), jnp.uint32)
            slot, run = io_callback(first, (slot_number, bits), _seeds(key))
            memory = Run(run) if store.memories.there else ()
        policy = Policy(params=(), extras=HostSlot(slot))
        return LearnerState(policy, Stream(number), memory)

    def begin(policy, key):
        del policy, key  # the next window makes them
        return Stream(jnp.int32(0))

    def step(state, hyperparams, key, active):
        run = state.memory.bits if store.memories.there else jnp.zeros(2, jnp.uint32)
        slot, number, env_steps, data_finite, finite, numbers = io_callback(
            train,
            outcome,
            state.policy.extras.slot,
            state.rollout.number,
            run,
            _values(hyperparams, tunable),
            _seeds(key),
            active,
        )
        policy = state.policy._replace(extras=HostSlot(slot))
        metrics = dict(zip(told, numbers, strict=True))
        report = Report(env_steps, finite, metrics, data_finite=data_finite)
        return state._replace(policy=policy, rollout=Stream(number)), report

    def evaluate(policy, hyperparams, key):
        score = jax.ShapeDtypeStruct((), jnp.float32)
        values = _values(hyperparams, tunable)
        return io_callback(play, score, policy.extras.slot, values, _seeds(key))

    return Learner(
        init,
        begin,
        step,
        evaluate,
        tunable,
        store,
        lanes=getattr(pipeline, "lanes", None),
        windows_per_round=windows,
    )


def _check(
    agent: Any, pipeline: Any, validation: Any, metrics: Any, directory: Any
) -> None:
    if not isinstance(agent, BaseAgent):
        remedy = "; give it the six methods by optix.as_base_agent(agent, env)"
        raise TypeError(
            "agent must derive from optix.host.agent.BaseAgent and define its six "
            f"methods, got {type(agent).__name__}"
            f"{remedy if isinstance(agent, Agent) else ''}"
        )
    if isinstance(agent, EnsembleAgent):
        raise checks.OptionError(
            "agent must learn, but an EnsembleAgent only plays; train its members, and "
            "score it by pipeline.evaluate(ensemble, seed, episodes)"
        )
    _check_pipeline("pipeline", pipeline, ("open", "collect", "evaluate"))
    if validation is not None:
        _check_pipeline("validation", validation, ("evaluate",))
    is_sequence = isinstance(metrics, Sequence) and not isinstance(metrics, str)
    if not is_sequence or not all(isinstance(name, str) for name in metrics):
        raise checks.OptionError(
            f"metrics must be a sequence of names, like ('loss',), got {metrics!r}"
        )
    is_path = isinstance(directory, str | os.PathLike)
    if directory is not None and not (is_path and os.path.isdir(directory)):
        raise checks.OptionError(
            f"directory must be a folder that exists, or None, got {directory!r}"
        )


def _check_pipeline(keyword: str, pipeline: Any, methods: Sequence[str]) -> None:
    missing = [name for name in methods if not callable(getattr(pipeline, name, None))]
    if missing or isinstance(pipeline, type):
        raise checks.OptionError(
            f"{keyword} must have the methods {', '.join(methods)}, got {pipeline!r}; "
            "use optix.host.pipelines.BatchPipeline(env) for a Gymnasium environment, "
            "optix.host.vector.VectorBatchPipeline(envs) for a vector of them"
        )


def _windows_per_round(pipeline: Any, judge: Any, episodes: int) -> int:
    """Return how many windows make evaluation the share of a round that it may have.

    One where a pipeline does not say how long a window or an episode may be.
    """
    limit = getattr(judge, "time_limit", None)
    window = getattr(pipeline, "window_steps", None)
    if judge is pipeline and getattr(pipeline, "scores_windows", False):
        limit = window = 1  # both are as long, however long that is
    if limit is None or window is None:
        return 1
    played = episodes * limit * (1 - EVALUATION_SHARE) / EVALUATION_SHARE
    return max(1, math.ceil(played / window))


def _seeds(key: jax.Array) -> jax.Array:
    """Return the seeds of environment and agent, [2] uint32."""
    return jax.random.bits(key, (2,), jnp.uint32)


def _values(hyperparams: Any, tunable: Sequence[str] | dict) -> jax.Array:
    """Return the tuned hyperparameters in their order, [N] float32."""
    values = [jnp.asarray(hyperparams[name], jnp.float32) for name in tunable]
    return jnp.stack(values) if values else jnp.zeros(0)
