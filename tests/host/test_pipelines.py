import gymnasium
import numpy as np
import pytest

from optix.host.pipelines import BatchPipeline
from tests.numpy_agent import NumpyAgent


class Countdown(gymnasium.Env):
    """Ends after 3 steps and as many as the start says; writes into one buffer."""

    observation_space = gymnasium.spaces.Box(0, 100, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.buffer = np.zeros(2, np.float32)
        self.closed = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start = int(self.np_random.integers(5))
        self.buffer[:] = self.start, 0
        return self.buffer, {}

    def step(self, action):
        # the draws of an episode depend on the policy; those of the next one must not
        self.np_random.integers(5, size=1 + int(action))
        self.buffer[1] += 1
        time = self.buffer[1]
        return self.buffer, float(time), time >= 3 + self.start, False, {"time": time}

    def close(self):
        self.closed = True


class Constant(NumpyAgent):
    """Always the same action; notes what it was asked."""

    def __init__(self, action=0):
        super().__init__()
        self.action, self.begun, self.explored = action, 0, []

    def act(self, observation, explore=True):
        self.explored.append(explore)
        return self.action

    def begin_episode(self, which):
        self.begun += 1


class Unaware(NumpyAgent):
    """An agent of the plain six methods."""

    def act(self, observation):
        return 0


def test_a_window_of_whole_episodes():
    agent = Constant()
    data = BatchPipeline(Countdown, window_size=20).collect(agent, 3)
    ends = np.flatnonzero(data.dones)
    assert data.length >= 20 and ends[-1] == data.length - 1
    assert ends[-2] < 19  # and no longer than needed
    assert agent.begun == len(ends) and all(agent.explored)
    # an independent account of every episode: its start says how long it takes
    first = 0
    for end in ends:
        start = int(data.observations[first, 0])
        times = np.arange(3 + start)
        rows = slice(first, end + 1)
        np.testing.assert_array_equal(data.observations[rows, 1], times)
        np.testing.assert_array_equal(data.next_observations[rows, 1], times + 1)
        np.testing.assert_array_equal(data.rewards[rows], times + 1)
        assert not data.terminated[first:end].any() and data.terminated[end]
        first = end + 1
    assert not data.truncated.any()
    assert [info["time"] for info in data.infos] == data.rewards.tolist()


def test_a_window_of_exact_length_ends_inside_an_episode():
    whole = BatchPipeline(Countdown, window_size=20).collect(Constant(), 3)
    exact = BatchPipeline(Countdown, window_size=2, whole_episodes=False)
    data = exact.collect(Constant(), 3)
    assert data.length == 2 and not data.dones.any()
    np.testing.assert_array_equal(data.observations, whole.observations[:2])
    np.testing.assert_array_equal(data.next_observations, whole.next_observations[:2])


def test_endless_episodes_are_truncated():
    pipeline = BatchPipeline(Countdown, window_size=5, max_episode_steps=2)
    data = pipeline.collect(Constant(), 0)
    assert data.truncated.tolist() == [False, True] * 3
    assert not data.terminated.any()
    assert pipeline.evaluate(Constant(), 0, 4) == 1 + 2


def test_a_seed_decides_where_episodes_begin_whatever_is_played():
    def starts(seed, action):
        data = BatchPipeline(Countdown, window_size=40).collect(Constant(action), seed)
        return data.observations[data.observations[:, 1] == 0, 0].tolist()

    assert starts(3, 0) == starts(3, 1)
    assert starts(3, 0) != starts(4, 0)
    assert len(set(starts(3, 0))) > 1


def test_the_score_is_the_mean_return_of_whole_episodes():
    agent = Constant()
    pipeline = BatchPipeline(Countdown, window_size=1)
    data = BatchPipeline(Countdown, window_size=100).collect(Constant(), 7)
    returns = [
        part.sum() for part in np.split(data.rewards, np.flatnonzero(data.dones) + 1)
    ]
    assert pipeline.evaluate(agent, 7, 6) == np.mean(returns[:6])
    assert agent.begun == 6 and not any(agent.explored)
    assert pipeline.evaluate(Unaware(), 7, 6) == np.mean(returns[:6])


def test_cartpole_scores_of_a_seed_are_equal():
    with_env = BatchPipeline(gymnasium.make("CartPole-v1"), window_size=30)
    agent = NumpyAgent()
    scores = [with_env.evaluate(agent, seed, 3) for seed in (1, 2, 1)]
    assert scores[0] == scores[2] != scores[1]
    agent.seed(0)
    first = with_env.collect(agent, 1)
    agent.seed(0)
    again = with_env.collect(agent, 1)
    np.testing.assert_array_equal(first.observations, again.observations)
    assert first.observations.dtype == np.float32
    with_env.close()


def test_close_closes_the_environment():
    env = Countdown()
    BatchPipeline(env).close()
    assert env.closed


def test_what_is_no_environment_is_refused():
    with pytest.raises(TypeError, match="env must be a gymnasium.Env .* got str"):
        BatchPipeline("CartPole-v1")
    with pytest.raises(TypeError, match="needs a vector pipeline"):
        BatchPipeline(lambda: gymnasium.make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match="window_size must be an integer >= 1, got 0"):
        BatchPipeline(Countdown, window_size=0)
