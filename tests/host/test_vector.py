"""Windows from vectors of environments, against plain loops over single ones."""

import os
import signal
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from optix.host.learner import host
from optix.host.places import episode_seeds
from optix.host.vector import VectorBatchPipeline
from tests.host.agents import Replayer
from tests.host.test_pipelines import Constant, Countdown

SAME_STEP = AutoresetMode.SAME_STEP


class Alternating(Constant):
    """Actions that depend on the observation; tells what it was shown."""

    def __init__(self):
        super().__init__()
        self.begins = []

    def act_batch(self, observations, explore=True):
        shown = observations.copy()
        observations[:] = -1  # its own copy
        self.explored.append(explore)
        return (shown.sum(1) % 2).astype(int), {"shown": shown}

    def begin_episode(self, which):
        self.begins.append(which.copy())


def plain(steps, seed, number=2):
    """The same by single environments, each reset without a seed where it ended."""
    envs = [Countdown() for _ in range(number)]
    seeds = episode_seeds(seed)
    shown = [env.reset(seed=next(seeds))[0].copy() for env in envs]
    rows = []
    for _ in range(steps):
        row = []
        for index, env in enumerate(envs):
            before = shown[index]
            action = int(before.sum() % 2)
            after, reward, terminated, truncated, _ = env.step(action)
            after = after.copy()
            row.append((before, action, reward, terminated, truncated, after))
            ended = terminated or truncated
            shown[index] = env.reset()[0].copy() if ended else after
        rows.append(row)
    return [np.array([[row[i] for row in step] for step in rows]) for i in range(6)]


FIELDS = (
    *("observations", "actions", "rewards"),
    *("terminated", "truncated", "next_observations"),
)


@pytest.mark.parametrize("envs", ["functions", "vector"])
def test_windows_are_those_of_single_environments(envs):
    """The environments write into one buffer, and windows are cut inside of episodes."""
    given = [Countdown, Countdown]
    if envs == "vector":
        given = SyncVectorEnv([Copies, Copies], autoreset_mode=SAME_STEP)
    pipeline = VectorBatchPipeline(given, window_size=7)
    agent, place = Alternating(), pipeline.open()
    parts = []
    for n in range(3):
        parts.append(pipeline.collect(agent, place, None if n else 5))
        pipeline.evaluate(Alternating(), n, 3)
    expected = plain(21, 5)
    for name, values in zip(FIELDS, expected, strict=True):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, values, name)
    dones = expected[3]
    assert dones.sum() > 3 and parts[0].rewards.shape == (7, 2)
    np.testing.assert_array_equal(np.sum(agent.begins, 0), 1 + dones.sum(0))
    for part in parts:
        np.testing.assert_array_equal(part.extras["shown"], part.observations)
    infos = [info for part in parts for info in part.infos]
    assert not any("final_obs" in info for info in infos)
    assert ["final_info" in info for info in infos] == dones.any(1).tolist()


class Copies(Countdown):
    """As Countdown, but each observation is an array of its own."""

    def reset(self, **options):
        observation, info = super().reset(**options)
        return observation.copy(), info

    def step(self, action):
        observation, *rest = super().step(action)
        return observation.copy(), *rest


def test_the_score_is_that_of_single_environments():
    def score(seed, episodes):
        returns = []
        for _, episode_seed in zip(range(episodes), episode_seeds(seed), strict=False):
            env, total, done = Countdown(), 0.0, False
            observation, _ = env.reset(seed=episode_seed)
            while not done:
                action = int(observation.sum() % 2)
                observation, reward, done, _, _ = env.step(action)
                total += reward
            returns.append(total)
        return np.mean(returns)

    pipeline = VectorBatchPipeline([Countdown] * 3, window_size=2)
    agent = Alternating()
    for episodes in (1, 5, 20):
        assert pipeline.evaluate(agent, 7, episodes) == score(7, episodes)
    assert not any(agent.explored)
    pipeline = VectorBatchPipeline([Countdown], window_size=2, max_episode_steps=2)
    assert pipeline.evaluate(Constant(), 7, 4) == 1 + 2


class Parts(gymnasium.Env):
    """Observations and actions of several parts; ends after two steps."""

    observation_space = gymnasium.spaces.Dict(
        {
            "image": gymnasium.spaces.Box(0, 255, (2, 2), np.uint8),
            "pair": gymnasium.spaces.Tuple(
                [gymnasium.spaces.Discrete(9), gymnasium.spaces.MultiBinary(2)]
            ),
        }
    )
    action_space = gymnasium.spaces.Dict(
        {
            "turn": gymnasium.spaces.Discrete(2),
            "push": gymnasium.spaces.Box(-1, 1, (3,)),
        }
    )

    def shown(self):
        image = np.full((2, 2), self.time, np.uint8)
        return {"image": image, "pair": (self.time, np.zeros(2, np.int8))}

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.shown(), {}

    def step(self, action):
        self.time += 1
        return self.shown(), float(action["push"].sum()), self.time == 2, False, {}


class Pushes(Replayer):
    def act_batch(self, observations, explore=True):
        number = len(observations["image"])
        turn, push = np.ones(number, int), np.full((number, 3), 0.5, np.float32)
        return {"turn": turn, "push": push}, {}


def test_spaces_of_several_parts():
    pipeline = VectorBatchPipeline([Parts] * 2, window_size=3)
    data = pipeline.collect(Pushes(), pipeline.open(), 0)
    assert data.observations["image"].dtype == np.uint8
    assert data.observations["image"][:, 0, 0, 0].tolist() == [0, 1, 0]
    assert data.next_observations["image"][:, 0, 0, 0].tolist() == [1, 2, 1]
    assert data.next_observations["pair"][0][:, 1].tolist() == [1, 2, 1]
    assert data.actions["push"].shape == (3, 2, 3)
    assert data.rewards.tolist() == [[1.5, 1.5]] * 3
    assert pipeline.evaluate(Pushes(), 0, 3) == 3.0


# ------------------------------------------------------------------------- what is taken


def test_a_name():
    pipeline = VectorBatchPipeline("CartPole-v1", num_envs=3, window_size=4)
    assert (pipeline.name, pipeline.num_envs, pipeline.time_limit) == (
        *("CartPole-v1", 3, 500),
    )
    first, other = pipeline.open(), pipeline.open()
    assert first.env is pipeline.envs and other.env is not first.env
    data = [pipeline.collect(Chooses(), place, 0) for place in (first, other)]
    np.testing.assert_array_equal(data[0].observations, data[1].observations)
    assert data[0].observations.shape == (4, 3, 4)


class Chooses(Constant):
    def act_batch(self, observations, explore=True):
        return np.zeros(len(observations), int), {}


def test_a_vector_of_a_name_is_made_again():
    options = {"autoreset_mode": SAME_STEP}
    env = gymnasium.make_vec(
        "CartPole-v1",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs=options,
        max_episode_steps=9,
    )
    pipeline = VectorBatchPipeline(env, window_size=4)
    assert pipeline.copies is None
    pipeline.open()
    other = pipeline.open().env
    assert other is not env and other.num_envs == 2
    assert pipeline.evaluate(Chooses(), 0, 5) <= 9  # the options are kept


def test_a_wrapped_vector_is_the_only_one():
    class Only(gymnasium.vector.VectorWrapper):
        pass

    env = Only(SyncVectorEnv([Copies] * 2, autoreset_mode=SAME_STEP))
    pipeline = VectorBatchPipeline(env, window_size=1)
    assert pipeline.copies == 1
    place, agent = pipeline.open(), Alternating()
    pipeline.collect(agent, place, 3)
    data = pipeline.collect(agent, place, None)
    assert data.observations[0, :, 1].tolist() == [1, 1]
    pipeline.evaluate(agent, 0, 3)
    data = pipeline.collect(agent, place, None)
    assert data.observations[0, :, 1].tolist() == [0, 0]


def test_the_mode_is_that_of_the_vector_not_of_the_class():
    """Gymnasium keeps it in a dictionary that all environments of a class share."""
    env = SyncVectorEnv([Copies] * 2, autoreset_mode=SAME_STEP)
    SyncVectorEnv([Copies] * 2)
    VectorBatchPipeline(env)


class Text(Countdown):
    observation_space = gymnasium.spaces.Text(5)


class NoSpec:
    pass


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: VectorBatchPipeline(SyncVectorEnv([Copies] * 2)),
            ValueError,
            "envs must reset in the same step.*is NEXT_STEP; pass a list of functions",
        ),
        (
            lambda: VectorBatchPipeline(gymnasium.make_vec("CartPole-v1", 2)),
            ValueError,
            "autoreset_mode is NEXT_STEP.*SAME_STEP",
        ),
        (lambda: VectorBatchPipeline([Text]), ValueError, "spaces of arrays.*Text"),
        (
            lambda: VectorBatchPipeline("CartPole-v1"),
            ValueError,
            "num_envs must say how",
        ),
        (
            lambda: VectorBatchPipeline("CartPool-v1", num_envs=2),
            ValueError,
            "envs: .*CartPool.*",
        ),
        (
            lambda: VectorBatchPipeline([Copies], num_envs=2),
            ValueError,
            "num_envs must be the number of functions, 1, got 2",
        ),
        (
            lambda: VectorBatchPipeline(
                SyncVectorEnv([Copies], autoreset_mode=SAME_STEP), async_envs=True
            ),
            ValueError,
            "num_envs and async_envs are for names and functions",
        ),
        (
            lambda: VectorBatchPipeline(Copies()),
            TypeError,
            "envs must be a list of functions.*needs a BatchPipeline",
        ),
        (
            lambda: VectorBatchPipeline([]),
            TypeError,
            "envs must be a list of functions",
        ),
        (lambda: VectorBatchPipeline([NoSpec]), TypeError, "one that makes a NoSpec"),
        (
            lambda: VectorBatchPipeline([Copies], async_envs="yes"),
            ValueError,
            "async_envs must be True or False",
        ),
    ],
)
def test_what_can_not_be_played_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3, int), r"\[2\] of Discrete\(2\), got int64\[3\]"),
        (np.zeros(2), r"\[2\] of Discrete\(2\), got float64\[2\]"),
        (np.zeros((2, 1), int), r".*got int64\[2, 1\]"),
    ],
)
def test_actions_of_another_form_are_refused(actions, message):
    class Plays(Constant):
        def act_batch(self, observations, explore=True):
            return actions, {}

    pipeline = VectorBatchPipeline([Countdown] * 2, window_size=1)
    message = f"an action of Plays in Countdown must be {message}"
    with pytest.raises(ValueError, match=message):
        pipeline.collect(Plays(), pipeline.open(), 0)
    pipeline = VectorBatchPipeline([Countdown] * 2, window_size=1)
    with pytest.raises(ValueError, match="an action of Plays in Countdown must be"):
        pipeline.evaluate(Plays(), 0, 2)


def test_a_vector_that_hides_its_ends_is_refused():
    class Hides(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            *rest, _ = self.env.step(actions)
            return *rest, {}

    env = Hides(SyncVectorEnv([Copies] * 2, autoreset_mode=SAME_STEP))
    pipeline = VectorBatchPipeline(env, window_size=20)
    with pytest.raises(
        ValueError, match="Copies|SyncVectorEnv ended an episode without"
    ):
        pipeline.collect(Chooses(), pipeline.open(), 0)


# -------------------------------------------------------------------------- processes


class Explodes(Countdown):
    def step(self, action):
        if self.buffer[1] == 2:
            raise OverflowError("too far")
        return super().step(action)


def test_processes_play_and_a_dead_one_is_named():
    """Killed in the middle of a run; the next window begins with new ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of every fork
        pipeline = VectorBatchPipeline(
            [Countdown] * 2, window_size=7, num_envs=2, async_envs=True
        )
        learner = host(Chooses(), pipeline, evaluation_episodes=1)
        seen, key = [], jax.random.key(0)
        learner.host.agent.learn = lambda data: seen.append(data) or {}
        state, _ = learner.step(learner.init(key), learner.hyperparams, key, True)
        data = seen[0]
        starts = data.observations[0, :, 0]
        assert data.dones[2].tolist() == (starts == 0).tolist()
        np.testing.assert_array_equal(data.next_observations[:, :, 1], data.rewards)
        process = pipeline.envs.processes[1]
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(jax.errors.JaxRuntimeError):
            jax.block_until_ready(learner.step(state, learner.hyperparams, key, True))
        message = r"a process of the environments Countdown has died: .*exit code -9"
        with pytest.raises(RuntimeError, match=message):
            learner.host.raise_if_failed()
        _, report = learner.step(state, learner.hyperparams, key, True)
        assert report.env_steps == 14
        np.testing.assert_array_equal(seen[0].rewards, seen[1].rewards)  # fresh ones
        learner.host.keep(state)
        pipeline.close()


def test_an_error_in_a_process_arrives_as_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = AsyncVectorEnv([Explodes], autoreset_mode=SAME_STEP)
        pipeline = VectorBatchPipeline(env, window_size=7)
        with pytest.raises(OverflowError, match="too far"):
            pipeline.collect(Chooses(), pipeline.open(), 0)
        pipeline.close()
