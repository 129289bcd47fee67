"""Short runs that choose the hyperparameters of a long one."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.host.agent import BaseAgent
from optix.param_space import checked_space, sample
from optix.run.best import give_best
from optix.run.binding import Binding, Pipelines
from optix.run.pause import Pause
from optix.run.result import Result
from optix.run.train import train
from optix.trees import take

_REAL = ("float", "log_float")


def trials(
    agent: Any,
    agent_factory: Any,
    param_space: Any,
    count: int,
    episodes: int,
    seed: int,
) -> "Trials | None":
    """Return the trials that are asked for, None where an agent is given.

    Raises:
        ValueError: neither or both are asked for, or a part of them is missing.
    """
    if (agent is None) == (agent_factory is None):
        raise checks.OptionError(
            "RLOptimizer takes agent= or agent_factory=, got "
            f"{'neither' if agent is None else 'both'}"
        )
    if (agent_factory is None) != (param_space is None):
        raise checks.OptionError(
            "agent_factory and param_space belong together: the factory makes the agents "
            "of trials, whose values are of the space; pass both, or agent= alone"
        )
    if agent_factory is None:
        return None
    return Trials(agent_factory, param_space, count, episodes, seed)


class Trials:
    """Short runs, each of an agent with other settings.

    params: the settings of the best one so far, None before there is one.
    agent: the agent of that one, with its best weights.
    bounds: {name: (low, high)} of the real numbers among what is chosen.

    Args:
        agent_factory: `(params) -> agent`.
        param_space: what to choose from.
        count: how many trials.
        episodes: rounds of each.
        seed: of the settings, and of each trial.
    """

    params: dict[str, Any] | None = None
    agent: BaseAgent | None = None

    def __init__(
        self,
        agent_factory: Callable[[dict[str, Any]], BaseAgent],
        param_space: Mapping[str, tuple],
        count: int,
        episodes: int,
        seed: int,
    ):
        """Draw the settings."""
        checks.function("agent_factory", agent_factory, "it takes {name: value}")
        checks.positive_int("n_trials", count)
        self._make, self._seed = agent_factory, seed
        self._episodes = checks.positive_int("trial_episodes", episodes)
        rng = np.random.default_rng(seed)
        space = checked_space(param_space)
        self.bounds: dict[str, tuple] = {
            name: tuple(ends) for name, (kind, *ends) in space.items() if kind in _REAL
        }
        self.settings = sample(space, count, rng)
        self.scores: list[float] = []  # of the trials that are over

    def take(self, params: dict[str, Any]) -> BaseAgent:
        """Return an agent of settings that were chosen before."""
        self.agent, self.params = self._make(dict(params)), params
        return self.agent

    def run(
        self,
        binding: Binding,
        pipelines: Pipelines,
        pause: Pause,
        max_seconds: float | None,
    ) -> Result | None:
        """Play the trials that are left; return the one that was paused, or None.

        Raises:
            RuntimeError: none of them had a finite score.
        """
        short = binding.within(max_episodes=self._episodes)
        began = time.monotonic()
        for setting in self.settings[len(self.scores) :]:
            left = max_seconds
            if max_seconds is not None:
                left = max(max_seconds - (time.monotonic() - began), 1e-3)
            agent = self._make(dict(setting))
            with pipelines.trial() as pipeline:
                loop = short.loop(short.learner(agent, pipeline), agent)
                result = train(
                    loop,
                    seed=self._seed,
                    pause=pause,
                    max_seconds=left,
                    progress=False,
                )
            if result.paused is not None:
                return result
            score = float(result.scores[0])
            if math.isfinite(score) and score > max(self.scores, default=-math.inf):
                give_best(agent, loop, take(result.state.best, 0))
                self.agent, self.params = agent, setting
            self.scores.append(score if math.isfinite(score) else -math.inf)
        if self.agent is None:
            raise RuntimeError(
                f"none of {len(self.scores)} trials had a finite score; look into "
                "param_space, or let a trial be longer (trial_episodes)"
            )
        return None
