"""Learning from windows that actors have played: the same agents, the same loop."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jax.experimental import io_callback

from optix import checks
from optix.distributed.acting.actor import Actor, Play, Rollout, shapes, versions
from optix.distributed.acting.crew import Crew, Stream
from optix.distributed.acting.engines import ENGINES
from optix.distributed.acting.roster import Settings
from optix.distributed.cluster import check_ray
from optix.envs.hosted import hosted
from optix.envs.names import is_hosted, is_registered
from optix.envs.source import source
from optix.learners.collect import window_return
from optix.learners.evaluate import check_fit
from optix.trees import all_finite
from optix.types import Agent, Environment, Learner, LearnerState, Report, Trajectory

METRICS = ("policy_lag", "dropped", "restarts", "actor_steps_per_second")


def actors(
    agent: Agent,
    env_factory: Any,
    num_actors: int = 4,
    *,
    num_envs: int = 64,
    num_steps: int = 128,
    engine: str = "inline",
    env_params: Any = None,
    evaluation_episodes: int = 16,
    deterministic_evaluation: bool = True,
    lockstep: int | None = None,
    max_lag: int = 8,
    deadline: float = 60.0,
    max_restarts: int = 5,
) -> Learner:
    """Return a learner whose windows are played by actors.

    One callback for each window hands the newest policy out and takes experience in. In
    lockstep a window holds a part of each actor, played by a policy that is so many
    windows old, in the order of the actors: then a run is the same bit for bit each time,
    on one machine, unless an actor fails. Otherwise a window holds whatever came first.
    Episodes can not be saved: a rollback and a resume begin fresh ones.

    An actor that raises, dies, is silent for too long, or gives NaN or other shapes than
    it must is replaced, and what it was playing is dropped.

    Args:
      agent: on policy; of those that are, `impala` corrects for the age of a policy.
      env_factory: a name of Gymnasium, or a function that makes a `gymnasium.Env`.
      num_actors: how many.
      num_envs: environments of a window, which the actors share alike.
      num_steps: steps of a window.
      engine: "inline", in turn in this thread; "threads", for environments that let go
        of Python's lock; "ray", processes of one machine or, by RAY_ADDRESS, of many.
      env_params: keywords of `gymnasium.make`, for a name.
      evaluation_episodes: whole episodes per score, which the actors share.
      deterministic_evaluation: score the mode of the policy, not samples.
      lockstep: how many windows old a policy is that plays, 0 for none; None is 1 for
        "inline" and else takes what comes first.
      max_lag: how many windows old it may be at most; what is older is dropped.
      deadline: seconds after which an actor that says nothing is replaced, more than its
        part of a window and its episodes of a score take; it has two minutes more for
        its first answer. Not inline, where it would be waited for.
      max_restarts: how often actors are replaced, all together; once only where the
        next raises the same and none has played or scored anything yet.

    Raises:
      ValueError: sizes that do not fit, an unknown engine, environments that no agent can
        use, Ray that is not installed.

    >>> from optix.agents.impala import impala
    >>> from optix.networks.mlp import actor_critic
    >>> from optix.types import Discrete
    >>> agent = impala(actor_critic((4,), Discrete(2)), (4,), Discrete(2))
    >>> learner = actors(agent, "CartPole-v1", num_actors=2, num_steps=16)
    >>> learner.lanes, learner.env.name
    (1, 'CartPole-v1')
    """
    checks.record("agent", agent, Agent, "make one by its factory, as in impala(...)")
    for name, size in (
        ("num_actors", num_actors),
        ("num_envs", num_envs),
        ("num_steps", num_steps),
        ("evaluation_episodes", evaluation_episodes),
    ):
        checks.positive_int(name, size)
    if num_envs % num_actors:
        raise checks.OptionError(
            f"num_envs must be divisible by the {num_actors} actors, got {num_envs}; take "
            f"{num_envs + num_actors - num_envs % num_actors}"
        )
    checks.known_names("engine", [engine], ENGINES)
    if engine == "ray":
        check_ray("engine='ray'")
    checks.boolean("deterministic_evaluation", deterministic_evaluation)
    if lockstep is not None:
        checks.positive_int("lockstep", lockstep, minimum=0)
    elif engine == "inline":
        lockstep = 1
    checks.positive_int("max_lag", max_lag)
    if lockstep is not None and lockstep > max_lag:
        raise checks.OptionError(
            f"lockstep must be at most max_lag, {max_lag}, got {lockstep}; raise max_lag"
        )
    checks.within("deadline", deadline, 0, 1e9, open_ends=True)
    checks.positive_int("max_restarts", max_restarts, minimum=0)
    env = played(env_factory, env_params)
    check_fit(agent, env)
    agent.check_window(num_steps, num_envs)
    each = num_envs // num_actors
    made = source(env_factory, env_params)
    play = Play(agent, made, each, num_steps, deterministic_evaluation, versions())
    settings = Settings(
        *(num_actors, lockstep, max_lag),
        # in turn nobody else would notice
        deadline=math.inf if engine == "inline" else float(deadline),
        max_restarts=max_restarts,
        steps=each * num_steps,
        name=made.name,
    )
    start = partial(ENGINES[engine], partial(Actor, play), num_actors)
    crew = Crew(start, settings, shapes(play, each))
    whole = shapes(play, num_envs)
    encode = made.shown.encode
    unseen = np.zeros(2, np.int32)
    of = jax.ShapeDtypeStruct

    def collect(stream, seed, shared, active):
        if not active:
            nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), whole)
            return np.asarray(stream), nothing, np.zeros(len(METRICS), np.float32)
        stream, rollout, lag = crew.window(stream, int(seed), _copied(shared))
        told = crew.told()
        figures = [
            lag,
            told["dropped"].sum(),
            told["restarts"].sum(),
            told["steps_per_second"].sum(),
        ]
        return stream, rollout, np.array(figures, np.float32)

    def score(seed, shared):
        mean = crew.evaluate(int(seed), evaluation_episodes, _copied(shared))
        return np.float32(mean)

    window_shapes = (of((2,), np.int32), whole, of((len(METRICS),), np.float32))
    collecting = sequential_vmap(
        partial(io_callback, crew.guarded(collect), window_shapes)
    )
    scoring = sequential_vmap(
        partial(io_callback, crew.guarded(score), of((), np.float32))
    )

    def begin(policy, key):
        del policy, key  # the next window makes fresh episodes
        return Stream(jnp.asarray(unseen)), jnp.full(num_envs, -jnp.inf, jnp.float32)

    def init(key):
        policy_key, begin_key = jax.random.split(key)
        policy = agent.init(policy_key)
        return LearnerState(policy, begin(policy, begin_key))

    def step(state, hyperparams, key, active):
        seed_key, learn_key = jax.random.split(key)
        (stream, latest), shared = state.rollout, _shared(state.policy, hyperparams)
        number, rollout, figures = collecting(
            stream.number, _seed(seed_key), shared, jnp.asarray(active)
        )
        trajectory = _trajectory(rollout, encode, num_steps)
        learned = agent.learn(state.policy, trajectory, hyperparams, learn_key)
        ended = trajectory.terminated | trajectory.truncated
        returns = trajectory.extras["episode_return"]
        at = num_steps - 1 - jnp.argmax(ended[::-1], 0)  # the last end of each
        last = jnp.take_along_axis(returns, at[None], 0)[0]
        latest = jnp.where(ended.any(0), last, latest)
        data_finite = all_finite((trajectory.obs, trajectory.reward))
        metrics = {
            **learned.info,
            **dict(zip(METRICS, figures, strict=True)),
            "return": window_return(trajectory, latest),
        }
        report = Report(
            jnp.int32(num_steps * num_envs),
            jnp.asarray(learned.finite) & data_finite,
            metrics,
            trajectory,
            data_finite,
        )
        rollout = (Stream(number), latest)
        return LearnerState(learned.policy, rollout, state.memory), report

    def evaluate(policy, hyperparams, key):
        return scoring(_seed(key), _shared(policy, hyperparams))

    return Learner(
        init, begin, step, evaluate, agent.hyperparams, crew, agent, env, lanes=1
    )


def played(env_factory: Any, env_params: Any = None) -> Environment:
    """Return the environment that actors play, which is Gymnasium's.

    Raises:
      OptionError: it is one that only the device plays.
    """
    # a name of gymnax's may be one of Gymnasium's too
    named = isinstance(env_factory, str) and is_registered(env_factory)
    is_record = isinstance(env_factory, Environment)
    if not is_record and (named or is_hosted(env_factory)):
        return hosted(env_factory, env_params)
    what = f"the Environment {env_factory.name}" if is_record else repr(env_factory)
    raise checks.OptionError(
        f"actors play a name of Gymnasium or what a function makes, got {what}, which "
        "the device plays by itself; leave actors out"
    )


def _shared(policy: Any, hyperparams: Any) -> tuple[Any, dict[str, jax.Array]]:
    """Return what actors need: no state of the optimizer."""
    floats = {name: jnp.float32(value) for name, value in hyperparams.items()}
    return policy._replace(opt_state=()), floats


def _copied(tree: Any) -> Any:
    """Return NumPy arrays that outlive the callback."""
    return jax.tree.map(np.array, tree)


def _seed(key: jax.Array) -> jax.Array:
    """Return a seed that environments can count up from."""
    return jax.random.bits(key, (), jnp.uint32) >> 2


def _trajectory(rollout: Rollout, encode: Any, steps: int) -> Trajectory:
    """Return a window as agents see it."""

    def seen(obs):
        rows = encode(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs))
        return jax.tree.map(lambda x: x.reshape(steps, -1, *x.shape[1:]), rows)

    fields = rollout._replace(obs=seen(rollout.obs), next_obs=seen(rollout.next_obs))
    return Trajectory(*fields)
