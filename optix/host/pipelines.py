"""One Gymnasium environment on the host, for agents that live there too."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from optix import checks
from optix.envs.hosted import hosted
from optix.envs.names import gymnasium_name
from optix.host.agent import BaseAgent
from optix.host.places import Place, Places, chunks, episode_seeds
from optix.host.recorded import Recorder, Stepped, each, recorder
from optix.host.window import EpisodeData, join_extras
from optix.types import Environment, PyTree

SIDE_BY_SIDE = 8  # episodes of an evaluation
ENDLESS = 100_000  # steps, where an environment has no limit of its own


class BatchPipeline:
    """Windows from one Gymnasium environment, which is stepped on and on.

    A window has `window_size` steps and goes on where the one before was cut; the next
    episode begins where one ends. Evaluations play in environments of their own, side by
    side.

    Copies of the environment, for evaluation and for other seeds and lanes, are made by
    `env` where that is a function. Of an environment they are what `gymnasium.make` makes
    of its `spec`: whatever was done to it since is not in them, so pass a function then.
    Where it has no such spec there is only the one: evaluations play in it too, and the
    next window begins with a fresh episode.

    Args:
      env: a `gymnasium.Env`, or a function without arguments that makes one.
      window_size: steps of a window.
      whole_episodes: also finish the episode in which the window gets long enough, so
        that the next one begins a fresh one.
      max_episode_steps: longer episodes are truncated, for environments without a time
        limit of their own.

    Raises:
      TypeError: `env` is neither (a vector environment is not one either).
      ValueError: a size below one, a flag that is none. `collect` and `evaluate` raise it
        where the environment gives something of a wrong form, and name it.

    >>> import gymnasium
    >>> pipeline = BatchPipeline(lambda: gymnasium.make("CartPole-v1"), window_size=50)
    >>> pipeline.window_steps, pipeline.time_limit, pipeline.copies
    (50, 500, None)
    >>> pipeline.close()
    """

    lanes = None  # any number

    def __init__(
        self,
        env: Any,
        *,
        window_size: int = 1024,
        whole_episodes: bool = False,
        max_episode_steps: int = ENDLESS,
    ):
        """Make the environment, or take it as it is."""
        self.window_steps = checks.positive_int("window_size", window_size)
        self.whole_episodes = checks.boolean("whole_episodes", whole_episodes)
        self.max_episode_steps = checks.positive_int(
            "max_episode_steps", max_episode_steps
        )
        self.env, self._make = _open(env)
        self.name = gymnasium_name(self.env)
        limit = getattr(self.env.spec, "max_episode_steps", None) or ENDLESS
        limit = min(limit, self.max_episode_steps)
        self.time_limit = limit if limit < ENDLESS else None
        self._recorder = recorder(self.env, self.name)
        self._places = Places(self.env, self._make, self.name, _close)
        self._judges: list[Any] = []
        self._hosted: list[Environment] = []

    @property
    def copies(self) -> int | None:
        """How many copies there can be, None for any number."""
        return self._places.copies

    @property
    def masked(self) -> bool:
        """Whether the environment tells which actions are allowed; a reset says it."""
        with self._places.judging():
            return self._recorder.tells_masks(self._judging(1)[0])

    def open(self) -> Place:
        """Return one more copy; where there can be none, one that plays in the first."""
        return self._places.open()

    def collect(self, agent: BaseAgent, envs: Place, seed: int | None) -> EpisodeData:
        """Return the next window, [T, ...], in which the agent explores.

        Args:
          agent: plays by `act_batch`.
          envs: a copy that `open` gave.
          seed: of the first episode and, through a generator, of all later ones: episode
            n begins the same whatever was played before. None goes on.
        """
        recorder = self._recorder.shown_to(agent)
        with self._places.playing(envs):
            if seed is not None:
                envs.seeds, envs.observation = episode_seeds(seed), None
            if not recorder.goes_on(envs.observation):
                envs.observation = None
            rows, extras = [], []
            while len(rows) < self.window_steps or (
                self.whole_episodes and envs.observation is not None
            ):
                row, added = self._step(agent, envs, recorder)
                rows.append(row)
                extras.append(added)
        fields: Any = list(map(list, zip(*rows, strict=True)))
        recorder.check_actions(fields[1], agent)
        return EpisodeData(*fields, extras=join_extras(extras, np.concatenate))

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the mean return of whole episodes; nothing is learned.

        The agent plays with `explore=False`. Episode n begins the same for the same seed,
        whoever plays.
        """
        checks.positive_int("episodes", episodes)
        returns: list[float] = []
        with self._places.judging():
            envs = self._judging(min(episodes, SIDE_BY_SIDE))
            for seeds in chunks(seed, episodes, len(envs)):
                returns += self._play(agent, envs, seeds)
        return float(np.mean(returns))

    def environment(self, copies: int = 8) -> Environment:
        """Return the environment as agents on the device play it, in copies of its own.

        Args:
          copies: how many windows can go on where they were left.

        Raises:
          ValueError: nobody knows how to make another one; windows of whole episodes,
            which have no fixed size.
        """
        if self.whole_episodes:
            raise checks.OptionError(
                "whole_episodes must be False for an agent of JAX, whose windows have a "
                "fixed size, got True"
            )
        make, name = copied(self._make, self.name, "env"), self.name
        steps = self.max_episode_steps

        def one():
            from gymnasium.wrappers import TimeLimit

            return make() if steps == ENDLESS else TimeLimit(make(), steps)

        env = hosted(one, name=name, copies=copies)
        self._hosted.append(env)
        return env._replace(time_limit=min(env.time_limit, steps))

    def close(self) -> None:
        """Close all environments, also one that was handed over."""
        self._places.close()
        close_hosted(self._hosted)
        while self._judges:
            self._judges.pop().close()

    def _step(
        self, agent: BaseAgent, place: Place, recorder: Recorder
    ) -> tuple[tuple, Any]:
        """Play one step; return its row in the order of `EpisodeData`, and the extras."""
        if place.observation is None:
            seed = next(place.seeds, None)
            agent.begin_episode(np.ones(1, bool))
            result = place.env.reset(seed=seed)
            place.observation = recorder.started(result, place.env)
            place.count = 0
        observation = place.observation
        actions, extras = agent.act_batch(_stacked([observation]))
        action = each(lambda x: x[0], actions)
        place.count += 1
        place.observation = None  # should the environment fail
        taken, step = recorder.step(place.env, action, agent, place.count)
        step = self._cut(step, place.count)
        following = step.observation
        if not (step.terminated or step.truncated):
            place.observation = following
        flags = step.terminated, step.truncated
        row = (observation, taken, step.reward, *flags, following, step.info)
        return row, {name: each(np.array, value) for name, value in extras.items()}

    def _play(self, agent: BaseAgent, envs: list, seeds: list[int]) -> list[float]:
        """Return the returns of one episode for each seed, played side by side."""
        recorder = self._recorder.shown_to(agent)
        agent.begin_episode(np.ones(len(seeds), bool))
        observations = [
            recorder.started(env.reset(seed=seed), env)
            for env, seed in zip(envs, seeds, strict=False)
        ]
        returns, alive, count = [0.0] * len(seeds), set(range(len(seeds))), 0
        while alive:
            count += 1
            actions, _ = agent.act_batch(_stacked(observations), explore=False)
            for row in sorted(alive):
                action = each(lambda x, row=row: x[row], actions)
                _, step = recorder.step(envs[row], action, agent, count)
                step = self._cut(step, count)
                returns[row] += step.reward
                observations[row] = step.observation
                if step.terminated or step.truncated:
                    alive.remove(row)
        return returns

    def _cut(self, step: Stepped, count: int) -> Stepped:
        if count < self.max_episode_steps:
            return step
        return step._replace(truncated=True)

    def _judging(self, number: int) -> list[Any]:
        """Return so many environments for an evaluation, or the only one."""
        if self._make is None:
            return [self.env]
        while len(self._judges) < number:
            self._judges.append(self._make())
        return self._judges[:number]


def copied(make: Callable | None, name: str, keyword: str) -> Callable:
    """Return what makes copies, or raise ValueError where nothing does."""
    if make is None:
        raise checks.OptionError(
            f"{keyword} must be one that can be made again for an agent of JAX, got "
            f"{name}, of which there is only the one; pass a function that makes it"
        )
    return make


def close_hosted(environments: list[Environment]) -> None:
    """Close the copies behind environments of the device."""
    while environments:
        host: Any = environments.pop().host
        host.close()


def _open(env: Any) -> tuple[Any, Callable[[], Any] | None]:
    """Return the environment, and what makes another one if anything does."""
    import gymnasium

    is_env = isinstance(env, gymnasium.Env)
    opened = env if is_env or not callable(env) else env()
    if not isinstance(opened, gymnasium.Env):
        raise TypeError(
            "env must be a gymnasium.Env or a function that makes one, got "
            f"{type(opened).__name__}; a vector environment needs a "
            "VectorBatchPipeline"
        )
    if not is_env:
        return opened, env
    spec = opened.spec
    # a wrapper that does not tell its arguments can not be made again
    if spec is None or any(w.kwargs is None for w in spec.additional_wrappers):
        return opened, None
    return opened, functools.partial(gymnasium.make, spec)


def _close(env: Any) -> None:
    env.close()


def _stacked(observations: list[PyTree]) -> PyTree:
    """Return copies of observations as a batch, which the agent may change."""
    return each(lambda *rows: np.array(rows), *observations)
