"""Gymnasium environments on the host, for agents that live there too."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from optix import checks
from optix.envs.names import gymnasium_name
from optix.host.agent import BaseAgent
from optix.host.recorded import Recorder, Step, copy_for_agent
from optix.host.window import EpisodeData


class BatchPipeline:
    """Windows of whole episodes from one Gymnasium environment.

    Every window begins with a fresh episode, because an environment can not be forked
    or rolled back with the policy. So episodes are played to their end by default: a
    window of a fixed length would never show what comes later in long episodes.

    Args:
      env: a `gymnasium.Env`, or a function without arguments that makes one.
      window_size: steps a window has at least; exactly, if not `whole_episodes`.
      whole_episodes: finish the episode in which the window gets long enough.
      max_episode_steps: longer episodes are truncated, for environments without a time
        limit of their own.

    Raises:
      TypeError: `env` is neither (a vector environment is not one either).
      ValueError: a size below one, a flag that is none. `collect` and `evaluate` raise it
        where the environment gives something of a wrong form, and name it.

    >>> import gymnasium
    >>> pipeline = BatchPipeline(lambda: gymnasium.make("CartPole-v1"), window_size=50)
    >>> pipeline.close()
    """

    def __init__(
        self,
        env: Any,
        *,
        window_size: int = 1024,
        whole_episodes: bool = True,
        max_episode_steps: int = 100_000,
    ):
        """Make the environment, or take it as it is."""
        self.window_size = checks.positive_int("window_size", window_size)
        self.whole_episodes = checks.boolean("whole_episodes", whole_episodes)
        self.max_episode_steps = checks.positive_int(
            "max_episode_steps", max_episode_steps
        )
        self.env = _open(env)
        self.name = gymnasium_name(self.env)
        self._recorder = Recorder(
            self.name,
            getattr(self.env, "observation_space", None),
            getattr(self.env, "action_space", None),
        )

    def collect(self, agent: BaseAgent, seed: int) -> EpisodeData:
        """Return a window in which the agent explores.

        Args:
          agent: plays by `act(observation)`.
          seed: of the first episode and, through a generator, of the others: episode n
            begins the same whatever was played before.
        """
        seeds = _seeds(seed)
        steps: list[Step] = []
        while len(steps) < self.window_size:
            room = None if self.whole_episodes else self.window_size - len(steps)
            episode = self._play(agent.act, agent, next(seeds))
            steps += itertools.islice(episode, room)
        fields: Any = map(list, zip(*steps, strict=True))
        return EpisodeData(*fields)

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the mean return of whole episodes; nothing is learned.

        An agent whose `act` has a keyword `explore` is called with `explore=False` and
        plays deterministically; any other plays just as in training. Episode n begins
        the same for the same seed, whoever plays.
        """
        checks.positive_int("episodes", episodes)
        act: Callable[..., Any] = agent.act
        if "explore" in inspect.signature(act).parameters:
            act = functools.partial(act, explore=False)
        returns = [
            sum(step.reward for step in self._play(act, agent, episode_seed))
            for episode_seed in itertools.islice(_seeds(seed), episodes)
        ]
        return float(np.mean(returns))

    def close(self) -> None:
        """Close the environment, also one that was handed over."""
        self.env.close()

    def _play(self, act: Callable, agent: BaseAgent, seed: int) -> Iterator[Step]:
        """Play one episode."""
        agent.begin_episode(np.ones(1, bool))
        observation = self._recorder.started(self.env.reset(seed=seed))
        for count in itertools.count(1):
            action = act(copy_for_agent(observation))
            recorded = self._recorder.action(action)
            result = self.env.step(action)
            step = self._recorder.stepped(observation, recorded, result, count)
            step = step._replace(
                truncated=step.truncated or count == self.max_episode_steps
            )
            yield step
            if step.terminated or step.truncated:
                return
            observation = step.next_observation


def _open(env: Any) -> Any:
    """Return the environment, made if it is a function that makes one."""
    import gymnasium

    opened = env if isinstance(env, gymnasium.Env) or not callable(env) else env()
    if not isinstance(opened, gymnasium.Env):
        raise TypeError(
            "env must be a gymnasium.Env or a function that makes one, got "
            f"{type(opened).__name__}; a vector environment needs a vector pipeline"
        )
    return opened


def _seeds(seed: int) -> Iterator[int]:
    """Yield the seeds of episodes without end."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))
