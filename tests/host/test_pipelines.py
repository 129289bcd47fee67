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
        self.begun += int(which.sum())


def window(pipeline, agent, seed):
    """The first window of a copy."""
    return pipeline.collect(agent, pipeline.open(), seed)


class Unaware(NumpyAgent):
    """An agent of the plain six methods."""

    def act(self, observation):
        return 0


def test_a_window_of_whole_episodes():
    agent = Constant()
    whole = BatchPipeline(Countdown, window_size=20, whole_episodes=True)
    data = window(whole, agent, 3)
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


@pytest.mark.parametrize("sizes", [(1, 40), (7, 6), (3, 13)])
def test_windows_go_on_where_they_were_cut(sizes):
    """The parts are the whole, whatever plays in between."""
    size, number = sizes
    whole = window(BatchPipeline(Countdown, window_size=size * number), Constant(), 3)
    assert 2 < whole.dones.sum() < len(whole.dones)
    agent, pipeline = Constant(), BatchPipeline(Countdown, window_size=size)
    place, other = pipeline.open(), pipeline.open()
    parts = []
    for n in range(number):
        parts.append(pipeline.collect(agent, place, None if n else 3))
        pipeline.collect(Constant(1), other, None if n % 2 else n)
        pipeline.evaluate(Constant(1), n, 2)
    for field in ("observations", "next_observations", "rewards", "terminated"):
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, field))
    assert agent.begun == 1 + whole.dones[:-1].sum()


def test_after_whole_episodes_comes_a_fresh_one():
    pipeline = BatchPipeline(Countdown, window_size=5, whole_episodes=True)
    place, long = pipeline.open(), BatchPipeline(Countdown, window_size=60)
    parts = [pipeline.collect(Constant(), place, None if n else 3) for n in range(4)]
    rewards = np.concatenate([part.rewards for part in parts])
    assert all(part.dones[-1] and part.observations[0, 1] == 0 for part in parts)
    whole = window(long, Constant(), 3)
    np.testing.assert_array_equal(rewards, whole.rewards[: len(rewards)])


def test_what_acting_adds_travels_with_the_window():
    class Tells(Constant):
        def act_batch(self, observations, explore=True):
            time = observations[:, 1].copy()
            observations[:] = -1  # its own copy
            return np.zeros(len(time), int), {"time": time, "pair": (time, [2 * time])}

    data = window(BatchPipeline(Countdown, window_size=9), Tells(), 3)
    np.testing.assert_array_equal(data.extras["time"], data.observations[:, 1])
    np.testing.assert_array_equal(data.extras["pair"][1][0], 2 * data.extras["time"])

    class Forgets(Tells):
        def act_batch(self, observations, explore=True):
            time = observations[0, 1]
            return np.zeros(1, int), {"value" if time else "time": np.ones(1)}

    with pytest.raises(ValueError, match=r"same names at every step, got \['time'\]"):
        window(BatchPipeline(Countdown, window_size=2), Forgets(), 3)


def test_an_only_environment_serves_all_in_turn():
    """Without a spec there is one; whoever was disturbed begins a fresh episode."""
    pipeline = BatchPipeline(Countdown(), window_size=2)
    assert pipeline.copies == 1
    place = pipeline.open()
    first = pipeline.collect(Constant(), place, 3)
    on = pipeline.collect(Constant(), place, None)
    times = [data.observations[:, 1].tolist() for data in (first, on)]
    assert times == [[0, 1], [2, 0 if on.dones[0] else 3]]
    agent = Constant()
    assert pipeline.evaluate(agent, 7, 6) == BatchPipeline(Countdown).evaluate(
        Constant(), 7, 6
    )
    assert agent.begun == 6
    disturbed = pipeline.collect(agent, place, None)
    assert disturbed.observations[0, 1] == 0 and agent.begun == 7
    other = pipeline.open()
    pipeline.collect(Constant(), other, 5)
    assert pipeline.collect(Constant(), place, None).observations[0, 1] == 0


def test_a_registered_environment_is_made_again():
    env = gymnasium.make("CartPole-v1", max_episode_steps=7)
    pipeline = BatchPipeline(env, window_size=2)
    assert pipeline.copies is None and pipeline.time_limit == 7
    places = [pipeline.open() for _ in range(2)]
    assert places[0].env is env and places[1].env is not env
    for place in places:
        pipeline.collect(NumpyAgent(), place, 3)
    pipeline.evaluate(NumpyAgent(), 0, 2)
    data = pipeline.collect(NumpyAgent(), places[0], None)
    assert (data.observations[0] != 0).all() and not data.dones.any()

    class Own(gymnasium.Wrapper):
        pass

    assert BatchPipeline(Own(env)).copies == 1  # nobody knows how to wrap another


def test_two_runs_at_once_in_one_environment_are_refused():
    class Waits(Constant):
        def act(self, observation, explore=True):
            with pytest.raises(RuntimeError, match="Countdown is being played already"):
                pipeline.evaluate(Constant(), 0, 1)
            with pytest.raises(RuntimeError, match="make a pipeline for each run"):
                pipeline.collect(Constant(), pipeline.open(), 0)
            return 0

    pipeline = BatchPipeline(Countdown(), window_size=2)
    assert window(pipeline, Waits(), 0).length == 2
    assert pipeline.evaluate(Constant(), 0, 1) > 0  # and it is free again


@pytest.mark.parametrize(
    ("action", "space", "message"),
    [
        (np.zeros(2), "box", r"of Box.*got float64\[2\]"),
        (0.5, "discrete", r"of Discrete\(2\), got float64\[\]"),
        (np.array([1]), "discrete", r"got int64\[1\]"),
        ("left", "discrete", "got <U4"),
        (np.array(["a"] * 3), "box", "got <U1"),
        (None, "discrete", "got object"),
    ],
)
def test_actions_of_another_form_are_refused(action, space, message):
    class Any(Countdown):
        action_space = {
            "box": gymnasium.spaces.Box(-1, 1, (3,)),
            "discrete": gymnasium.spaces.Discrete(2),
        }[space]

    pipeline = BatchPipeline(Any, window_size=2)
    with pytest.raises(ValueError, match=f"an action of Constant in Any .*{message}"):
        window(pipeline, Constant(action), 0)
    with pytest.raises(ValueError, match=f"an action of Constant in Any .*{message}"):
        pipeline.evaluate(Constant(action), 0, 1)


def test_endless_episodes_are_truncated():
    pipeline = BatchPipeline(Countdown, window_size=5, max_episode_steps=2)
    data = window(pipeline, Constant(), 0)
    assert data.truncated.tolist() == [False, True, False, True, False]
    assert not data.terminated.any()
    assert pipeline.evaluate(Constant(), 0, 4) == 1 + 2


def test_a_seed_decides_where_episodes_begin_whatever_is_played():
    def starts(seed, action):
        data = window(BatchPipeline(Countdown, window_size=40), Constant(action), seed)
        return data.observations[data.observations[:, 1] == 0, 0].tolist()

    assert starts(3, 0) == starts(3, 1)
    assert starts(3, 0) != starts(4, 0)
    assert len(set(starts(3, 0))) > 1


def test_the_score_is_the_mean_return_of_whole_episodes():
    agent = Constant()
    pipeline = BatchPipeline(Countdown, window_size=1)
    data = window(BatchPipeline(Countdown, window_size=100), Constant(), 7)
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
    first = window(with_env, agent, 1)
    agent.seed(0)
    again = window(with_env, agent, 1)
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
    with pytest.raises(TypeError, match="needs a VectorBatchPipeline"):
        BatchPipeline(lambda: gymnasium.make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match="window_size must be an integer >= 1, got 0"):
        BatchPipeline(Countdown, window_size=0)
