"""Several Gymnasium environments side by side, for agents on the host."""

import functools
import itertools
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.envs.hosted import hosted
from optix.envs.vectors import close_vector
from optix.host.agent import BaseAgent
from optix.host.pipelines import (
    ENDLESS,
    SIDE_BY_SIDE,
    close_hosted,
    copied,
)
from optix.host.places import Place, Places, chunks, episode_seeds
from optix.host.recorded import Recorder, each, recorder
from optix.host.vector_envs import (
    final_observation,
    living,
    reset_seed,
    vector_source,
)
from optix.host.window import EpisodeData, join_extras
from optix.types import Environment, PyTree

_FINALS = ("final_obs", "_final_obs")  # they are in `next_observations`


class VectorBatchPipeline:
    """Windows [T, B] from a vector of B Gymnasium environments, stepped on and on.

    The agent acts for all of them at once. Each environment has its own episodes: a
    window goes on where the one before was cut, and `next_observations` are the true
    ones, also where an episode ended and the vector has reset it in the same step.
    Evaluations play in environments of their own, side by side.

    Copies are made by the functions or of the name; of a vector environment by its
    `env_fns`, or by `gymnasium.make_vec` of its `spec`. Of one that has neither, or that
    is wrapped as a vector, there is only the one: evaluations play in it too, and the
    next window begins with fresh episodes.

    Args:
      envs: a list of functions that make one environment each, a registered name, or a
        `gymnasium.vector.VectorEnv` with `autoreset_mode` SAME_STEP.
      window_size: steps of a window in each environment.
      num_envs: how many, of a name.
      async_envs: each environment in a process of its own; pays where a step takes
        milliseconds. Gymnasium forks them; another way is
        `AsyncVectorEnv(functions, context="spawn", autoreset_mode="SameStep")` as `envs`.
      max_episode_steps: an evaluation cuts longer episodes, for environments without a
        time limit of their own.

    Raises:
      TypeError: `envs` is something else.
      ValueError: a size below one, options that do not go together, another
        `autoreset_mode`, spaces not made of arrays. `collect` and `evaluate` raise it
        where something of a wrong form is given, and name it.
      RuntimeError: in `collect` and `evaluate`, a process has died.

    >>> pipeline = VectorBatchPipeline("CartPole-v1", num_envs=4, window_size=32)
    >>> pipeline.window_steps, pipeline.time_limit, pipeline.copies
    (128, 500, None)
    >>> pipeline.close()
    """

    lanes = None  # any number

    def __init__(
        self,
        envs: Any,
        *,
        window_size: int = 256,
        num_envs: int | None = None,
        async_envs: bool = False,
        max_episode_steps: int = ENDLESS,
    ):
        """Make the environments, or take them as they are."""
        self.window_size = checks.positive_int("window_size", window_size)
        self.max_episode_steps = checks.positive_int(
            "max_episode_steps", max_episode_steps
        )
        checks.boolean("async_envs", async_envs)
        source = vector_source(envs, num_envs, async_envs)
        self.envs, self._make, self.name, limit = source
        self.num_envs = self.envs.num_envs
        self.window_steps = self.window_size * self.num_envs
        limit = min(limit or ENDLESS, self.max_episode_steps)
        self.time_limit = limit if limit < ENDLESS else None
        make = self._make and functools.partial(self._make, self.num_envs)
        self._places = Places(self.envs, make, self.name, close_vector)
        self._recorder = recorder(self.envs, self.name)
        self._judge: Any = None
        self._hosted: list[Environment] = []

    @property
    def copies(self) -> int | None:
        """How many copies there can be, None for any number."""
        return self._places.copies

    @property
    def masked(self) -> bool:
        """Whether the environment tells which actions are allowed; a reset says it."""
        with self._places.judging():
            return self._recorder.tells_masks(self._judging(self.num_envs))

    def open(self) -> Place:
        """Return one more copy; where there can be none, one that plays in the first."""
        return self._places.open()

    def collect(self, agent: BaseAgent, envs: Place, seed: int | None) -> EpisodeData:
        """Return the next window, [T, B, ...], in which the agent explores.

        Args:
          agent: plays by `act_batch`, and is told by `begin_episode`.
          envs: a copy that `open` gave.
          seed: begins fresh episodes; None goes on.
        """
        recorder = self._recorder.shown_to(agent)
        with self._places.playing(envs), living(envs.env, self.name):
            if seed is not None:
                envs.seeds, envs.observation = episode_seeds(seed), None
            if not recorder.goes_on(envs.observation):
                self._begin(agent, envs, recorder)
            return self._window(agent, envs, recorder)

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the mean return of whole episodes; nothing is learned.

        The agent plays with `explore=False`. Episode n begins the same for the same seed,
        whoever plays.
        """
        checks.positive_int("episodes", episodes)
        returns: list[float] = []
        with self._places.judging():
            env = self._judging(min(episodes, max(SIDE_BY_SIDE, self.num_envs)))
            with living(env, self.name):
                for seeds in chunks(seed, episodes, env.num_envs):
                    returns += self._play(agent, env, seeds).tolist()
        return float(np.mean(returns))

    def environment(self, copies: int = 8) -> Environment:
        """Return the environment as agents on the device play it, in copies of its own.

        Args:
          copies: how many windows can go on where they were left.

        Raises:
          ValueError: nobody knows how to make other vectors of it.
        """
        make = copied(self._make, self.name, "envs")
        env = hosted(self.name, name=self.name, vector=make, copies=copies)
        self._hosted.append(env)
        return env._replace(time_limit=min(env.time_limit, self.max_episode_steps))

    def close(self) -> None:
        """Close all environments, also those that were handed over."""
        self._places.close()
        close_hosted(self._hosted)
        if self._judge is not None:
            close_vector(self._judge)
            self._judge = None

    def _begin(self, agent: BaseAgent, place: Place, recorder: Recorder) -> None:
        """Begin fresh episodes."""
        agent.begin_episode(np.ones(self.num_envs, bool))
        seeds = list(itertools.islice(place.seeds, self.num_envs))
        result = place.env.reset(seed=reset_seed(place.env, seeds))
        place.observation = recorder.started(result, place.env)

    def _window(
        self, agent: BaseAgent, place: Place, recorder: Recorder
    ) -> EpisodeData:
        """Play on from where a copy stands."""
        observation, steps = place.observation, self.window_size
        place.observation = None  # should the environments fail
        shown = jax.tree.map(
            lambda x: np.empty((steps + 1, *x.shape), x.dtype), observation
        )
        rows, extras, ends = [], [], []
        _put(shown, 0, observation)
        for n in range(steps):
            actions, added = agent.act_batch(_copied(observation))
            taken, step = recorder.step(place.env, actions, agent, n + 1)
            observation = step.observation
            _put(shown, n + 1, observation)
            done = step.terminated | step.truncated
            if done.any():
                agent.begin_episode(done)
                over = np.flatnonzero(done).tolist()
                for row in over:
                    final = final_observation(step.info, row, self.name)
                    ends.append((n, row, recorder.final(final, step.info, row)))
            info = {k: v for k, v in step.info.items() if k not in _FINALS}
            rows.append((taken, step.reward, step.terminated, step.truncated, info))
            extras.append({name: _copied(value) for name, value in added.items()})
        place.observation = observation
        following = jax.tree.map(lambda x: x[1:].copy(), shown)
        for n, row, final in ends:
            _put(following, (n, row), final)
        fields: Any = map(list, zip(*rows, strict=True))
        actions, rewards, terminated, truncated, infos = fields
        recorder.check_actions(actions, agent)
        return EpisodeData(
            jax.tree.map(lambda x: x[:-1], shown),
            actions,
            rewards,
            terminated,
            truncated,
            following,
            infos,
            join_extras(extras, np.stack),
        )

    def _play(self, agent: BaseAgent, env: Any, seeds: list[int]) -> np.ndarray:
        """Return the returns of the first episode of each environment that has a seed."""
        size, number = len(seeds), env.num_envs
        judge = self._recorder.shown_to(agent)._replace(lead=(number,))
        filled = seeds + seeds[:1] * (number - size)  # those beyond count for nothing
        agent.begin_episode(np.ones(number, bool))
        observation = judge.started(env.reset(seed=reset_seed(env, filled)), env)
        returns, alive = np.zeros(number), np.arange(number) < size
        for count in range(1, self.max_episode_steps + 1):
            actions, _ = agent.act_batch(_copied(observation), explore=False)
            _, step = judge.step(env, actions, agent, count)
            observation = step.observation
            returns[alive] += step.reward[alive]
            done = step.terminated | step.truncated
            alive &= ~done
            if not alive.any():
                break
            if done.any():
                agent.begin_episode(done)
        return returns[:size]

    def _judging(self, number: int) -> Any:
        """Return environments for an evaluation: so many, or the only ones."""
        if self._make is None:
            return self.envs
        if self._judge is None or self._judge.num_envs != number:
            if self._judge is not None:
                close_vector(self._judge)
            self._judge = self._make(number)
        return self._judge


def _copied(tree: PyTree) -> PyTree:
    return each(np.array, tree)


def _put(buffer: PyTree, index: Any, value: PyTree) -> None:
    """Write a value into the rows `index` of a buffer."""
    if type(buffer) is np.ndarray:
        buffer[index] = value
        return
    for rows, row in zip(jax.tree.leaves(buffer), jax.tree.leaves(value), strict=True):
        rows[index] = row
