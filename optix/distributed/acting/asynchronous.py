"""Actors, learner and loop as one object, in the words of tensor-optix."""

import time
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.distributed.acting.learner import actors
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.types import MAX_INT32, Agent, LoopState, StopReason

_ENVS = 16  # of an actor


class AsyncActorLearner:
    """An agent that learns from what actors play; `optix.train` does more around it.

    Args:
      agent: on policy; of those that are, `impala` corrects for the age of a policy.
      env_factory: a name of Gymnasium, or a function that makes a `gymnasium.Env`.
      n_actors: how many.
      trajectory_len: steps of a window.
      engine: where they play: "threads", "inline" or "ray".
      seed: of the random numbers.
      **options: any other keyword of `optix.distributed.actors`, such as `num_envs` of
        all of them together, by default 16 for each.

    Attributes:
      state: the `LoopState` so far, None before the first run; `state.best.policy` is the
        best policy.

    Raises:
      ValueError: as from `optix.distributed.actors`.

    >>> from optix.agents.impala import impala
    >>> from optix.networks.mlp import actor_critic
    >>> from optix.types import Discrete
    >>> agent = impala(actor_critic((4,), Discrete(2)), (4,), Discrete(2))
    >>> learner = AsyncActorLearner(agent, "CartPole-v1", n_actors=2, trajectory_len=16)
    >>> learner.state is None
    True
    """

    def __init__(
        self,
        agent: Agent,
        env_factory: Any,
        n_actors: int = 4,
        trajectory_len: int = 64,
        *,
        engine: str = "threads",
        seed: int = 0,
        **options: Any,
    ):
        """See the class."""
        checks.positive_int("n_actors", n_actors)
        checks.positive_int("trajectory_len", trajectory_len)
        checks.positive_int("seed", seed, 0, 2**32 - 1)
        options = {"num_envs": _ENVS * n_actors, **options}
        learner = actors(
            agent,
            env_factory,
            num_actors=n_actors,
            num_steps=trajectory_len,
            engine=engine,
            **options,
        )
        self._window = options["num_envs"] * trajectory_len
        self._loop = loop(learner, fixed(), max_rounds=MAX_INT32)
        self._step = jax.jit(self._loop.step)
        self._seed = seed
        self.state: LoopState | None = None

    def run(self, max_steps: int) -> dict[str, float]:
        """Learn for so many environment steps more, or until it has converged.

        Returns:
          total_steps and total_updates (windows learned from) so far; elapsed seconds of
          this run and its steps_per_second; best_score; policy_lag (how many windows old
          the policy was that played, on average), dropped steps and restarts in this run.

        Raises:
          ActorsFailedError: actors have failed too often.
        """
        checks.positive_int("max_steps", max_steps)
        began, lags = time.monotonic(), []
        crew: Any = self._loop.learner.host
        try:
            if self.state is None:
                self.state = self._loop.init(jax.random.key(self._seed))
            state, before = self.state, int(self.state.env_steps)
            while (
                int(state.stop_reason) == StopReason.RUNNING
                and int(state.env_steps) < before + max_steps
            ):
                state, report = self._step(state)
                crew.keep(state)
                lags.append(float(report.metrics["policy_lag"]))
                self.state = state
        except jax.errors.JaxRuntimeError:
            crew.raise_if_failed()  # the exception itself, not JAX's account of it
            raise
        finally:
            crew.rest()
        elapsed, steps = time.monotonic() - began, int(state.env_steps)
        # without a window in this run the actors are those of the run before
        told = {name: int(n.sum()) if lags else 0 for name, n in crew.told().items()}
        return {
            "total_steps": steps,
            "total_updates": steps // self._window,
            "elapsed": elapsed,
            "steps_per_second": (steps - before) / elapsed,
            "best_score": float(state.best.score),
            "policy_lag": float(np.mean(lags)) if lags else 0.0,
            "dropped": told["dropped"],
            "restarts": told["restarts"],
        }
