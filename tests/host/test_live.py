"""Windows from live sources that play a script, against what the script says."""

import os
import queue
import signal
import threading
import time

import jax
import numpy as np
import pytest

from optix.host.boundaries import every_n_seconds, every_n_steps
from optix.host.feed import Feed, SourceEndedError, SourceStalledError
from optix.host.learner import host
from optix.host.live import LivePipeline
from optix.loop.loop import loop
from optix.run.train import resume, train
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from tests.host.agents import Replayer, Steps
from tests.numpy_agent import NumpyAgent

KEY = jax.random.key(0)
WAIT = 30.0  # seconds until a test that hangs fails


class Script:
    """Plays items: an int shows itself and pays ten times as much, an exception is raised.

    An int with a letter behind it ends an episode: "3t" terminated, "3c" truncated. What
    else there is goes out as it is. Notes the actions.
    """

    def __init__(self, *connections):
        self.connections, self.actions, self.closed = list(connections), [], 0

    def stream(self):
        for item in self.connections.pop(0):
            if isinstance(item, BaseException):
                raise item
            if callable(item):
                item()
                continue
            if isinstance(item, tuple | list | float | None):
                yield item
                continue
            text = str(item)
            shown = int(text.rstrip("tc"))
            flags = text.endswith("t"), text.endswith("c")
            yield np.float32([shown]), 10.0 * shown, *flags, {"shown": shown}

    def act(self, action):
        self.actions.append(int(action))

    def close(self):
        self.closed += 1


class Teller(NumpyAgent):
    """Acts by what it is shown, notes how, and learns nothing."""

    def __init__(self):
        super().__init__()
        self.begun, self.explored, self.windows = 0, [], []

    def act_batch(self, observations, explore=True):
        self.explored.append(explore)
        shown = observations[:, 0].copy()
        observations[:] = -1  # its own copy
        return shown.astype(int) + 100, {"shown": shown}

    def begin_episode(self, which):
        assert which.tolist() == [True]
        self.begun += 1

    def learn(self, episode_data):
        self.windows.append(episode_data)
        return {}


def live(*connections, **options):
    return LivePipeline(
        Script(*connections),
        **{"reconnect_seconds": 0, "stall_seconds": WAIT} | options,
    )


def collect(pipeline, agent=None):
    return pipeline.collect(agent or Teller(), pipeline, None)


def told(data):
    """Transitions of a window as (shown, next, terminated, truncated)."""
    assert data.rewards.ndim == 1
    np.testing.assert_array_equal(data.rewards, 10 * data.next_observations[:, 0])
    np.testing.assert_array_equal(data.actions, 100 + data.observations[:, 0])
    np.testing.assert_array_equal(data.extras["shown"], data.observations[:, 0])
    shown = [info["shown"] for info in data.infos]
    assert shown == data.next_observations[:, 0].tolist()
    return [
        (int(a), int(b), *("t" * bool(t), "c" * bool(c)))
        for a, b, t, c in zip(
            data.observations[:, 0],
            data.next_observations[:, 0],
            data.terminated,
            data.truncated,
            strict=True,
        )
    ]


# ------------------------------------------------------------------------------ windows


def test_a_natural_end_ends_the_window_and_the_next_item_begins_an_episode():
    pipeline, agent = live([1, 2, "3t", 4, "5c", "6t", 7, 8]), Teller()
    assert told(collect(pipeline, agent)) == [(1, 2, "", ""), (2, 3, "t", "")]
    assert told(collect(pipeline, agent)) == [(4, 5, "", "c")]
    # 6 is an episode without a step; the end of the stream cuts the last one
    assert told(collect(pipeline, agent)) == [(7, 8, "", "c")]
    assert agent.begun == 3 and all(agent.explored)
    # neither the last observation of an episode is acted on, nor an empty one
    assert pipeline._act.__self__.actions == [101, 102, 104, 107, 108]
    for _ in range(2):
        with pytest.raises(SourceEndedError, match="the stream of Script has ended"):
            collect(pipeline)
    assert pipeline.connections == 1


def test_a_boundary_cuts_where_the_next_window_begins():
    pipeline = live([1, 2, 3, 4, "5t", 6, 7], boundary=every_n_steps(2))
    assert told(collect(pipeline)) == [(1, 2, "", ""), (2, 3, "", "c")]
    # what was cut at is acted on by whoever plays next
    assert pipeline._act.__self__.actions == [101, 102]
    assert told(collect(pipeline)) == [(3, 4, "", ""), (4, 5, "t", "")]
    assert told(collect(pipeline)) == [(6, 7, "", "c")]
    pipeline = live([1, 2, 3, 4], max_episode_steps=1)
    assert told(collect(pipeline)) == [(1, 2, "", "c")]
    assert told(collect(pipeline)) == [(2, 3, "", "c")]


def test_a_boundary_of_ones_own_is_told_steps_seconds_and_observation():
    asked = []

    def boundary(steps, seconds, observation):
        asked.append((steps, int(observation[0])))
        assert 0 <= seconds < WAIT
        return observation[0] == 3

    pipeline = live([1, 2, 3, 4, "5t"], boundary=boundary)
    assert len(collect(pipeline).rewards) == 2
    assert told(collect(pipeline))[-1] == (4, 5, "t", "")
    assert asked == [(1, 2), (2, 3), (1, 4)]  # not where the episode ends anyway


def test_seconds_are_those_of_a_steady_clock_from_the_first_action(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "time", lambda: 0.0)

    class Slow(Teller):
        def act_batch(self, observations, explore=True):
            clock[0] += 2.0
            return super().act_batch(observations, explore)

    pipeline = live(range(9), boundary=LivePipeline.every_n_seconds(5))
    for expected in ([0, 1, 2], [3, 4, 5]):
        clock[0] += 50  # learning
        data = collect(pipeline, Slow())
        assert data.observations[:, 0].tolist() == expected
    with pytest.raises(ValueError, match="n must be in"):
        every_n_seconds(0)


class LockStep:
    """Waits for each action; it pays 1 if that was what it had shown, of -1 per step."""

    def __init__(self):
        self.actions = queue.Queue()

    def stream(self):
        shown, reward = 0, -1.0
        while True:
            yield np.float32([shown]), reward, False, False, {}
            reward = float(self.actions.get(timeout=WAIT) == 100 + shown)
            shown += 1

    def act(self, action):
        self.actions.put(action)


def test_rewards_belong_to_the_actions_that_went_back():
    pipeline = LivePipeline(LockStep(), boundary=every_n_steps(3))
    for _ in range(3):
        assert collect(pipeline).rewards.tolist() == [1, 1, 1]


def test_observations_of_parts_are_copied_when_they_come():
    class Reuses:
        image = np.zeros((2, 2), np.uint8)

        def stream(self):
            for n in range(4):
                self.image[:] = n
                yield {"image": self.image, "rest": [n, n]}, n, False, n == 3, {}

    class Pushes(Replayer):
        def act_batch(self, observations, explore=True):
            assert observations["image"].shape == (1, 2, 2)
            return {"push": np.ones((1, 3)), "turn": np.zeros(1, int)}, {}

    data = collect(LivePipeline(Reuses()), Pushes())
    assert data.observations["image"][:, 0, 0].tolist() == [0, 1, 2]
    assert data.next_observations["rest"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert data.actions["push"].shape == (3, 3) and data.actions["turn"].shape == (3,)


# ------------------------------------------------------------------- floods and gaps


class Paced(Teller):
    """Says when it acts on what, and waits with that for an event."""

    def __init__(self, says=(), waits=()):
        super().__init__()
        self.says, self.waits = dict(says), dict(waits)

    def act_batch(self, observations, explore=True):
        shown = int(observations[0, 0])
        if shown in self.says:
            self.says[shown].set()
        if shown in self.waits:
            assert self.waits[shown].wait(WAIT)
        return super().act_batch(observations, explore)


def wait(event):
    return lambda: event.wait(WAIT)


def until(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_full_queue_lets_the_source_wait():
    script = Script(range(4))
    options = {"stall_seconds": WAIT, "reconnects": 0, "reconnect_seconds": 0}
    feed = Feed(script, buffer_size=1, overflow="block", **options)
    assert feed.get().observation == 0
    until(lambda: feed.blocked)
    items = [feed.get() for _ in range(3)]
    assert [int(item.observation[0]) for item in items] == [1, 2, 3]
    assert not any(item.gap for item in items)
    assert 1 <= feed.blocked <= 3 and feed.dropped == 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_no_transition_spans_what_was_dropped(size):
    """While 1 is acted on all up to 9 come; the newest of them are left."""
    acting, there, acted, over = (threading.Event() for _ in range(4))
    script = [0, wait(acting), 1, wait(acted), *range(2, 10), there.set]
    pipeline = live(
        [*script, wait(over), 10, "11t"], buffer_size=size, overflow="drop_oldest"
    )
    agent = Paced({0: acting, 1: acted, 9: over}, {1: there})
    first = 10 - size
    kept = [(n, n + 1, "", "") for n in range(first, 10)]
    done = threading.Event()  # 10 must not be dropped by 11
    pipeline._feed._source.connections[0].insert(-1, wait(done))
    agent.says[10] = done
    expected = [(0, 1, "", "c"), *kept, (10, 11, "t", "")]
    assert told(collect(pipeline, agent)) == expected
    assert pipeline.dropped == 8 - size and pipeline.blocked == 0
    assert agent.begun == 2


def test_what_waits_for_the_next_window_is_stale_after_a_gap():
    acting, over = threading.Event(), threading.Event()
    pipeline = live(
        [1, wait(acting), 2, wait(over), 3, 4, 5, 6],
        buffer_size=2,
        overflow="drop_oldest",
        boundary=every_n_steps(1),
    )
    assert told(collect(pipeline, Paced({1: acting}))) == [(1, 2, "", "c")]
    over.set()
    until(lambda: pipeline.dropped == 2)
    assert told(collect(pipeline)) == [(5, 6, "", "c")]
    assert pipeline._act.__self__.actions == [101, 105]  # never 102


def test_an_end_behind_a_gap_ends_the_window():
    error = ConnectionError("cable")
    with pytest.warns(RuntimeWarning, match="broke off.*cable.*opened again"):
        pipeline = live([1, 2, error], ["3t", 4, "5t"])
        assert told(collect(pipeline)) == [(1, 2, "", "c")]
        assert told(collect(pipeline)) == [(4, 5, "t", "")]


# ------------------------------------------------------------------------------ faults


def test_a_source_that_raises_is_opened_again():
    cable = ConnectionError("cable")
    agent = Teller()
    pipeline = live([1, 2, 3, cable], [cable], [7, 8, cable], [cable], [9, "10t"])
    with pytest.warns(RuntimeWarning, match="Script broke off .ConnectionError: cable"):
        data = collect(pipeline, agent)
    expected = [(1, 2, "", ""), (2, 3, "", "c"), (7, 8, "", "c"), (9, 10, "t", "")]
    assert told(data) == expected
    assert pipeline.connections == 5 and agent.begun == 3


def test_its_own_exception_arrives_when_it_raises_too_often_in_a_row():
    """One item is no progress: there is no transition."""
    errors = [ConnectionError(n) for n in range(5)]
    pipeline = live(
        [1, errors[0]], [2, errors[1]], [3, errors[2]], [4, 5], reconnects=2
    )
    with pytest.warns(RuntimeWarning), pytest.raises(ConnectionError) as caught:
        collect(pipeline)
    assert caught.value is errors[2] and pipeline.connections == 3
    assert "stream" in [entry.name for entry in caught.traceback]
    assert told(collect(pipeline)) == [(4, 5, "", "c")]  # asked again it connects anew


def test_a_source_that_stalls():
    free = threading.Event()
    pipeline = live([1, wait(free), 2, 3], stall_seconds=0.02)
    with pytest.raises(SourceStalledError, match="Script has given nothing for 0.02 s"):
        collect(pipeline)
    free.set()
    pipeline._feed._stall_seconds = WAIT
    assert told(collect(pipeline)) == [(2, 3, "", "c")]
    assert isinstance(SourceStalledError(), TimeoutError)


class NotIterable:
    def stream(self):
        return None


FINE = (np.zeros(2, np.float32), 1.0, False, False, {})


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            FINE[:4],
            r"item 1 of Script must be .*5 values, got tuple of 4; mend the sour",
        ),
        (None, "5 values, got NoneType"),
        (
            (np.zeros(3, np.float32), *FINE[1:]),
            r"float32\[2\] as the first, got .*\[3\]",
        ),
        ((np.zeros(2, int), *FINE[1:]), r"float32\[2\] as the first, got int64\[2\]"),
        (({"a": FINE[0]}, *FINE[1:]), "as the first, got {'a'"),
        ((None, *FINE[1:]), "arrays of numbers, got None"),
        (("up", *FINE[1:]), "arrays of numbers, got <U2"),
        (([[1], [1, 2]], *FINE[1:]), "arrays of numbers, got object"),
        ((np.float32([0, np.nan]), *FINE[1:]), "observation of item 1 .* be finite"),
        ((FINE[0], np.inf, *FINE[2:]), "reward of item 1 .* a finite number, got inf"),
        ((FINE[0], [1.0, 2.0], *FINE[2:]), "the reward .* a finite number"),
        ((FINE[0], None, *FINE[2:]), "the reward .* a finite number, got None"),
        ((*FINE[:2], "no", False, {}), "terminated .* True or False, got 'no'"),
        ((*FINE[:3], np.zeros(2, bool), {}), "truncated of item 1 .* True or False"),
        ((*FINE[:4], None), "the info of item 1 .* a dict, got None"),
    ],
)
def test_items_of_a_wrong_form_are_refused_at_once(item, message):
    pipeline = live([FINE, item])
    with pytest.raises(ValueError, match=message):
        pipeline.collect(Steady(), pipeline, None)
    assert pipeline.connections == 1


class Steady(Teller):
    def act_batch(self, observations, explore=True):
        return np.zeros(1, int), {}


def test_the_first_observation_is_checked_too_and_streams_must_be_iterable():
    with pytest.raises(ValueError, match="item 0 of Script must be finite"):
        collect(live([([np.nan], *FINE[1:])]))
    with pytest.raises(ValueError, match="stream.. of NotIterable must return an iter"):
        collect(LivePipeline(NotIterable()))


@pytest.mark.parametrize(
    "action", [np.float32([np.nan]), np.zeros(2, int), np.int64(1), [3.5], ["left"]]
)
def test_actions_that_no_source_should_get(action):
    class Acts(Teller):
        def act_batch(self, observations, explore=True):
            return action, {}

    pipeline = live([1, 2])
    message = "actions of Acts for Script must be arrays .1, ...."
    with pytest.raises(ValueError, match=message):
        collect(pipeline, Acts())
    assert pipeline._act.__self__.actions == []


def test_an_act_that_raises_arrives_as_itself():
    pipeline = live([1, 2, 3, 4])
    pipeline._act = iter([]).__next__
    with pytest.raises(TypeError):
        collect(pipeline)
    pipeline._act = None
    assert told(collect(pipeline))[-1] == (3, 4, "", "c")


class NoStream:
    pass


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LivePipeline(NoStream()), TypeError, "a method stream.. that yields"),
        (lambda: LivePipeline(Script), TypeError, "source must be an object"),
        (lambda: live(overflow="drop"), ValueError, "'drop'; did you mean 'drop_old"),
        (
            lambda: live(buffer_size=0),
            ValueError,
            "buffer_size must be an integer >= 1",
        ),
        (lambda: live(stall_seconds=0), ValueError, "stall_seconds must be in .0"),
        (lambda: live(reconnects=-1), ValueError, "reconnects must be an integer >= 0"),
        (lambda: live(reconnect_seconds=-1), ValueError, "reconnect_seconds must be"),
        (lambda: live(boundary=7), ValueError, "boundary must be a function, got 7"),
        (lambda: live(max_episode_steps=0), ValueError, "max_episode_steps must be"),
        (lambda: every_n_steps(0), ValueError, "n must be an integer >= 1"),
    ],
)
def test_what_is_no_live_pipeline(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


# ----------------------------------------------------------------------------- closing


def threads():
    return [t for t in threading.enumerate() if t.name == "optix-live"]


@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_close_stops_a_flood(overflow):
    pipeline = live(
        iter(lambda: 1, 2), boundary=every_n_steps(1), buffer_size=2, overflow=overflow
    )
    pipeline.close_source = pipeline._feed._source
    collect(pipeline)
    thread = pipeline._feed._thread
    pipeline.close()
    assert not thread.is_alive() and pipeline.close_source.closed == 1
    pipeline.close()
    assert pipeline.close_source.closed == 1
    with pytest.raises(RuntimeError, match="pipeline of Script has been closed"):
        collect(pipeline)
    LivePipeline(Script()).close()  # not begun


def test_close_wakes_a_window_that_waits_and_leaves_a_source_that_hangs(monkeypatch):
    monkeypatch.setattr("optix.host.feed._JOIN_SECONDS", 0.02)
    free, acting, failed = threading.Event(), threading.Event(), []
    pipeline = live([1, wait(free)])
    pipeline._feed._source.close = wait(free)

    def play():
        with pytest.raises(RuntimeError, match="has been closed") as caught:
            collect(pipeline, Paced({1: acting}))
        failed.append(caught)

    player = threading.Thread(target=play)
    player.start()
    acting.wait(WAIT)
    with pytest.raises(RuntimeError, match="played already, by another run"):
        collect(pipeline)
    pipeline.close()
    player.join(WAIT)
    assert failed and pipeline._feed._thread.is_alive()  # a daemon
    assert pipeline._feed._thread.daemon
    free.set()
    pipeline._feed._thread.join(WAIT)


def test_close_tells_what_the_source_says():
    pipeline = live([1])
    pipeline._feed._source.close = iter([]).__next__
    with pytest.raises(StopIteration):
        pipeline.close()
    pipeline.close()


def test_close_ends_the_pause_before_another_connection():
    pipeline = live([OSError("cable")], reconnect_seconds=1e6, stall_seconds=0.02)
    with pytest.warns(RuntimeWarning, match="cable"), pytest.raises(SourceStalledError):
        collect(pipeline)
    thread = pipeline._feed._thread
    pipeline.close()
    assert not thread.is_alive()


def test_ctrl_c_interrupts_a_window_that_waits():
    free, acting = threading.Event(), threading.Event()

    def interrupt():
        assert acting.wait(WAIT)
        os.kill(os.getpid(), signal.SIGINT)

    pipeline = live([1, interrupt, wait(free), 2, 3])
    with pytest.raises(KeyboardInterrupt):
        collect(pipeline, Paced({1: acting}))
    free.set()
    assert told(collect(pipeline)) == [(2, 3, "", "c")]
    pipeline.close()


# ------------------------------------------------------------------------ in the loop


def test_a_score_is_the_mean_return_of_the_next_windows():
    pipeline, agent = live([1, 2, "3t", 4, 5, "6t", 7, 8]), Teller()
    assert pipeline.evaluate(agent, 0, 1) == 10 * (2 + 3)
    assert pipeline.evaluate(agent, 0, 3) == 10 * np.mean([5 + 6, 8])
    assert not any(agent.explored)
    with pytest.raises(SourceEndedError):
        pipeline.evaluate(agent, 0, 1)
    pipeline = live([1, 2, 3, 4], boundary=every_n_steps(1))
    collect(pipeline)
    assert pipeline.evaluate(agent, 0, 1) == 30
    assert told(collect(pipeline)) == [(3, 4, "", "c")]
    with pytest.raises(RuntimeError, match="takes no actions.*validation="):
        LivePipeline(NotIterable()).evaluate(agent, 0, 1)


def test_rounds_are_so_long_that_evaluation_is_the_share_that_it_may_be():
    for options in ({}, {"boundary": every_n_steps(20)}):
        pipeline = live([], **options)
        assert host(Teller(), pipeline).windows_per_round == 46  # 8 / 54 < 0.15
        other = host(Teller(), Steps(), validation=pipeline)
        assert other.windows_per_round == 1  # Steps says no length
    assert pipeline.window_steps == pipeline.time_limit == 20
    assert live([]).time_limit is None


class Room:
    """Pays where the action is the sign of what it showed; ends after 8 steps."""

    def __init__(self, fail_at=None):
        self.given, self.fail_at = [], fail_at
        self.rng = np.random.default_rng(0)

    def stream(self):
        step, reward = 0, 0.0
        self.actions = queue.Queue()  # what was meant for a broken connection is void
        while True:
            step += 1
            shown = self.rng.normal(size=4)
            self.given.append(shown)
            if len(self.given) == self.fail_at:
                raise OSError("burnt")
            end = step % 9 == 0
            yield shown, reward, end, False, {}
            if not end:
                action = self.actions.get(timeout=WAIT)
                reward = float(action == (shown[0] > 0))

    def act(self, action):
        self.actions.put(action)


class Correlates(NumpyAgent):
    """Its weights are sums of what was shown where an action paid."""

    scale = np.ones(4)

    def learn(self, episode_data):
        features, _ = self.probabilities(episode_data.observations)
        paid = (2 * episode_data.actions - 1) * (2 * episode_data.rewards - 1)
        self.weights = self.weights + np.stack([-paid @ features, paid @ features], 1)
        return {}


def test_a_live_source_trains_to_the_end(tmp_path):
    """It fails on the way, and is resumed; a second run is refused."""
    source = Room(fail_at=9 * 20)
    pipeline = LivePipeline(source, reconnects=0)
    learner = host(Correlates(), pipeline, evaluation_episodes=2)
    budget = {"final_scores": 2, "windows_per_round": 2, "max_rounds": 10}
    run = loop(learner, fixed(), **budget)
    with pytest.raises(OSError, match="burnt"):
        train(run, progress=False, directory=tmp_path / "run", checkpoint_seconds=0)
    with pytest.warns(RuntimeWarning, match="can not be resumed"):
        result = resume(tmp_path / "run", run, progress=False)
    assert result.scores[0] > 6 and result.state.round[0] == 10  # 4 by chance, of 8
    played = len(source.given)
    state = learner.init(KEY)  # of another run
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(learner.step(state, learner.hyperparams, KEY, True))
    with pytest.raises(RuntimeError, match=REFUSED):
        learner.host.raise_if_failed()
    assert len(source.given) == played
    pipeline.close()


REFUSED = "a live source can not be copied: one lane, one seed"


def test_one_lane_and_one_learner():
    pipeline = live(range(30), boundary=every_n_steps(2))
    learner = host(Teller(), pipeline)
    with pytest.raises(ValueError, match="2 lanes.*only 1: it can not be copied"):
        loop(learner, spsa({"learning_rate": (0.5, 20.0)}, lanes=2))
    learner.step(learner.init(KEY), learner.hyperparams, KEY, True)
    other = host(Teller(), pipeline)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(other.step(other.init(KEY), other.hyperparams, KEY, True))
    with pytest.raises(RuntimeError, match=f"Script: {REFUSED}"):
        other.host.raise_if_failed()


def test_a_rollback_and_a_resume_elsewhere_go_on_with_the_stream():
    items = list(range(30))
    pipeline = live(items, boundary=every_n_steps(2))
    learner = host(Teller(), pipeline)
    state = learner.init(KEY)
    assert state.rollout.number < 0
    for n in range(4):
        state, report = learner.step(state, learner.hyperparams, KEY, True)
        assert report.metrics["return"] == 10 * (4 * n + 3)
        if n == 1:
            state = state._replace(rollout=learner.begin(state.policy, KEY))
    other = host(Teller(), live(items, boundary=every_n_steps(2)))
    with pytest.warns(RuntimeWarning, match="can not be resumed"):
        other.host.load(learner.host.save(state))
    for n in range(2):
        state, report = other.step(state, other.hyperparams, KEY, True)
        assert report.metrics["return"] == 10 * (4 * n + 3)
    # a state from before the first window resumes without a word
    third = host(Teller(), live(items))
    third.host.load(learner.host.save(learner.init(KEY)))


def test_seeds_that_are_mapped_are_refused_by_their_first_window():
    learner = host(Teller(), live(range(30), boundary=every_n_steps(2)))
    states = jax.vmap(learner.init)(jax.random.split(KEY, 2))
    assert sorted(states.rollout.number.tolist()) == [-2, -1]
    step = jax.vmap(learner.step, (0, None, None, None))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(step(states, learner.hyperparams, KEY, True))
    with pytest.raises(RuntimeError, match=REFUSED):
        learner.host.raise_if_failed()


def test_a_replay_and_fresh_windows():
    """What an agent keeps of a run is its own; `fresh` changes nothing of a stream."""
    pipeline = live(range(30), boundary=every_n_steps(2))
    learner = host(Shown(), pipeline, metrics=("rows",), fresh=True)
    state = learner.init(KEY)
    for n in range(3):
        state, report = learner.step(state, learner.hyperparams, KEY, True)
        assert report.metrics["rows"] == 2 * (n + 1)
        assert report.metrics["return"] == 10 * (4 * n + 3)


class Shown(Replayer):
    def act_batch(self, observations, explore=True):
        return np.zeros(1, int), {}
