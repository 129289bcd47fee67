"""A JAX agent in the loop: itself, over the environments of a pipeline for host agents.

A callback of a compiled program must not compute with JAX: what it waits for may wait
for it. So nothing here calls the host agent; only its environments are outside.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.envs.copies import together
from optix.host.jax_agent import JaxAgent
from optix.host.jax_programs import ON_POLICY, learner_kind
from optix.learners.evaluate import evaluator
from optix.learners.off_policy import off_policy
from optix.learners.on_policy import on_policy
from optix.trees import select
from optix.types import Environment, HostPart, Learner, Policy, PyTree


class BoundAgent:
    """What is outside the device of a bound agent: `Learner.host`.

    Attributes:
      agent: the host agent; it has the weights that it came with, until `agent_of`.
    """

    def __init__(self, agent: JaxAgent, environments: HostPart | None):
        """Take both."""
        self.agent = agent
        self._environments = environments

    def agent_of(self, policy: Policy) -> JaxAgent:
        """Return the agent with the weights of one policy, `state.best.policy` say.

        Raises:
          ValueError: it is of another agent, or of several seeds.
        """
        self.agent.take(policy)
        return self.agent

    def raise_if_failed(self) -> None:
        """Raise the exception of an environment itself, once."""
        if self._environments is not None:
            self._environments.raise_if_failed()

    def keep(self, state: PyTree) -> None:
        """Forget what a state does not name."""
        if self._environments is not None:
            self._environments.keep(state)

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return what a tree names outside."""
        return {} if self._environments is None else self._environments.save(tree)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `save` returned."""
        if self._environments is not None:
            self._environments.load(arrays)


def bound(
    agent: JaxAgent,
    pipeline: Any,
    validation: Any,
    *,
    evaluation_episodes: int,
    metrics: Sequence[str],
    fresh: bool,
    copies: int,
    windows_per_round: int,
) -> Learner:
    """Return the learner of the JAX agent over a pipeline; see `optix.host.learner.host`.

    Runs begin with the weights that the agent has, where it has learned or loaded any,
    and else with their own.

    Raises:
      ValueError: a pipeline whose environments can not be played so, an agent for other
        spaces, a window that it can not learn from, a metric that it does not report.
    """
    env = _environment("pipeline", pipeline, copies)
    sizes = {
        "num_envs": getattr(pipeline, "num_envs", 1),
        "evaluation_episodes": evaluation_episodes,
    }
    sizes["num_steps"] = pipeline.window_steps // sizes["num_envs"]
    kind = agent.learner
    if kind is None:
        kind, _ = learner_kind(
            agent.agent, env.observation_shape, env.observation_dtype
        )
    if kind == ON_POLICY:
        learner = on_policy(agent.agent, env, **sizes)
    else:
        learner = off_policy(
            agent.agent, env, **sizes, **_replay(agent, sizes["num_envs"])
        )
    evaluate, host = learner.evaluate, env.host
    if validation is not None:
        held_out = _environment("validation", validation, copies)
        evaluate = evaluator(agent.agent, held_out, episodes=evaluation_episodes)
        host = together(host, held_out.host)
    # copies: what the agent learns later is no matter of this learner's
    given = None if agent.untouched else jax.tree.map(np.array, agent.policy)

    def init(key):
        state = learner.init(key)
        return state if given is None else state._replace(policy=given)

    def step(state, hyperparams, key, active):
        if fresh:
            begun = learner.begin(state.policy, key)
            state = state._replace(rollout=select(active, begun, state.rollout))
        return learner.step(state, hyperparams, key, active)

    bound_to = learner._replace(
        init=init,
        step=step,
        evaluate=evaluate,
        hyperparams={**learner.hyperparams, **agent.hyperparams},
        host=BoundAgent(agent, host),
        windows_per_round=windows_per_round,
    )
    _check_metrics(bound_to, metrics)
    return bound_to


def _environment(keyword: str, pipeline: Any, copies: int) -> Environment:
    make: Any = getattr(pipeline, "environment", None)
    if not callable(make):
        raise checks.OptionError(
            f"{keyword} must be a BatchPipeline or a VectorBatchPipeline where the agent "
            "is one of JAX, which acts in a compiled program and not when it is called, "
            f"got {pipeline!r}; take an agent of another framework, or for a live stream "
            "a gymnasium.Env that waits for its items in a BatchPipeline"
        )
    made: Any = make(copies)
    return made


def _replay(agent: JaxAgent, num_envs: int) -> dict[str, Any]:
    """Return the keywords of `off_policy`."""
    options = agent.options._asdict()
    options["gradient_steps"] = agent.options.updates(num_envs)
    floats = agent.hyperparams.keys() - agent.agent.hyperparams.keys()
    return options | {name: agent.hyperparams[name] for name in floats}


def _check_metrics(learner: Learner, metrics: Sequence[str]) -> None:
    if not metrics:
        return

    def told(key):
        state = learner.init(key)
        return learner.step(state, learner.hyperparams, key, True)[1].metrics

    known = jax.eval_shape(told, jax.random.key(0))
    checks.known_names("metric of the agent", metrics, known)
