"""Gymnasium environments on the host, for agents that live there too."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.host.agent import BaseAgent, EpisodeData
from optix.types import PyTree


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
        self.whole_episodes = whole_episodes
        self.max_episode_steps = checks.positive_int(
            "max_episode_steps", max_episode_steps
        )
        self.env = _open(env)

    def collect(self, agent: BaseAgent, seed: int) -> EpisodeData:
        """Return a window in which the agent explores.

        Args:
          agent: plays by `act(observation)`.
          seed: of the first episode and, through a generator, of the others: episode n
            begins the same whatever was played before.
        """
        seeds = _seeds(seed)
        steps: list[_Step] = []
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

    def _play(self, act: Callable, agent: BaseAgent, seed: int) -> Iterator["_Step"]:
        """Play one episode."""
        agent.begin_episode()
        observation, _ = self.env.reset(seed=seed)
        observation = _copy(observation)
        for count in itertools.count(1):
            action = act(observation)
            following, reward, terminated, truncated, info = self.env.step(action)
            following = _copy(following)
            truncated = bool(truncated) or count == self.max_episode_steps
            yield _Step(
                observation,
                _copy(action),
                float(reward),
                bool(terminated),
                truncated,
                following,
                info,
            )
            if terminated or truncated:
                return
            observation = following


class _Step(NamedTuple):
    """One transition, in the order of `EpisodeData`."""

    observation: PyTree
    action: PyTree
    reward: float
    terminated: bool
    truncated: bool
    next_observation: PyTree
    info: dict[str, Any]


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


def _copy(tree: PyTree) -> PyTree:
    """Copy arrays: environments and agents write into their buffers again."""
    return jax.tree.map(np.array, tree)
