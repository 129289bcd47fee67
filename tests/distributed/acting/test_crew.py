"""Faults of actors, age of what they played, bounds, by engines made up and real ones."""

import functools
import gc
import importlib.util
import itertools
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest

from optix.checks import OptionError
from optix.distributed import ActorsFailedError
from optix.distributed.acting import actor as acting
from optix.distributed.acting import learner as learning
from optix.distributed.acting import roster
from optix.distributed.acting.actor import Rollout, fault
from optix.distributed.acting.crew import Crew
from optix.distributed.acting.roster import Settings
from tests.distributed.acting.playing import SAID, STEPS, Played, Telling

EXPECTED = Rollout(*(np.zeros((2, 1), np.float32) for _ in range(6)), {})
SETTINGS = Settings(2, None, 8, 60.0, 5, steps=2, name="made up")


class Slow:
    """An engine whose second actor plays one part where the first one plays `turns`."""

    def __init__(self, turns=1):
        self.turns, self.waits, self.jobs, self.most = turns, 0, [[], []], 0

    def share(self, tree):
        return tree

    def submit(self, actor, job, method, *arguments):
        self.jobs[actor].append((job, arguments[-1]))
        self.most = max(self.most, *map(len, self.jobs))

    def wait(self, seconds):
        self.waits += 1
        actor = int(self.waits % (self.turns + 1) == self.turns)
        if not self.jobs[actor]:
            return []
        job, version = self.jobs[actor].pop(0)
        filled = [np.full((2, 1), version, np.float32) for _ in range(6)]
        return [(job, Rollout(*filled, {}))]

    def restart(self, actor, generation):
        raise AssertionError("nobody has failed")

    def close(self):
        pass


def made_up(engine, **settings):
    return Crew(lambda: engine, SETTINGS._replace(**settings), EXPECTED)


def windows(crew, count):
    """Yield (version of the learner, versions that played it) of each window."""
    stream = np.zeros(2, np.int32)
    for version in range(count):
        stream, rollout, lag = crew.window(stream, 0, version)
        assert lag == version - rollout.obs[0].mean()
        crew.keep({"stream": learning.Stream(stream)})
        yield version, rollout.obs[0]


@pytest.mark.parametrize("behind", [0, 1, 8])
def test_in_lockstep_a_window_is_as_old_as_was_said_and_of_each_actor(behind):
    crew = made_up(Slow(turns=3), lockstep=behind)
    for version, played in windows(crew, 20):
        np.testing.assert_array_equal(played, max(version - behind, 0))
    np.testing.assert_array_equal(crew.told()["policy_lag"], behind)


def test_what_is_older_than_max_lag_is_dropped_and_counted():
    engine = Slow(turns=9)
    crew = made_up(engine, max_lag=1)
    lags = [version - played.min() for version, played in windows(crew, 40)]
    assert max(lags) == 1
    dropped = crew.told()["dropped"]
    assert dropped[0] == 0 and dropped[1] > 0
    patient = made_up(Slow(turns=3), max_lag=8)
    lags = [version - played.min() for version, played in windows(patient, 40)]
    assert 1 < max(lags) <= 8 and patient.told()["dropped"].sum() == 0


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_whoever_comes_with_an_old_stream_begins_fresh_episodes(engine):
    with Played(Telling, engine, lockstep=0) as played:
        steps = [played.window().obs[:, 0, 1]]
        left = played.stream
        steps += [played.window().obs[:, 0, 1]]
        played.stream = left  # as after a rollback
        steps += [played.window().obs[:, 0, 1], played.window().obs[:, 0, 1]]
    np.testing.assert_array_equal(steps, [[0, 1, 2, 3], [4, 0, 1, 2]] * 2)


def test_no_more_than_two_parts_of_an_actor_wait():
    engine = Slow(turns=9)
    crew = made_up(engine)
    for _ in windows(crew, 200):
        pass
    assert engine.most == 2


@pytest.mark.parametrize(
    ("engine", "way"),
    [
        *(("inline", way) for way in ("raises", "nan", "shape")),
        *(("threads", way) for way in ("raises", "nan", "shape", "hangs")),
    ],
)
def test_an_actor_that_fails_is_named_and_replaced(engine, way, tmp_path):
    env = functools.partial(Telling, tmp_path, [way])
    with Played(env, engine, deadline=5.0) as played:
        with pytest.warns(RuntimeWarning, match=SAID[way]) as told:
            window = played.until(restarts=1)
        assert "actor" in str(told[0].message) and "replaced (1 of" in str(told[0])
        figures = played.crew.told()
    assert figures["restarts"].sum() == 1
    assert figures["dropped"].sum() in (STEPS, 2 * STEPS)  # one part or two were asked
    assert np.isfinite(window.reward).all() and window.obs.shape == (STEPS, 2, 2)


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_nobody_is_silent_while_the_learner_is_busy(engine):
    with (
        warnings.catch_warnings(),
        Played(Telling, engine, deadline=0.3) as played,
    ):
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(3):
            played.window()
            time.sleep(0.4)
        assert played.crew.told()["restarts"].sum() == 0


class Broken(Telling):
    """What plays so many steps and no more."""

    def __init__(self, messages, good=0):
        super().__init__()
        self.messages, self.good = messages, good

    def step(self, action):
        if self.taken == self.good:
            raise RuntimeError(next(self.messages))
        return super().step(action)


def failing(engine, env, **options):
    """Return what the run ends with, and how often actors were replaced before."""
    with (
        warnings.catch_warnings(record=True) as told,
        Played(env, engine, **options) as played,
        pytest.raises(ActorsFailedError) as ended,
    ):
        warnings.simplefilter("always")
        for _ in range(100):
            played.window()
    replaced = [str(w.message) for w in told if "it is replaced" in str(w.message)]
    return str(ended.value), len(replaced)


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_after_so_many_replacements_the_last_traceback_is_raised(engine):
    others = functools.partial(Broken, (f"fault {n}" for n in itertools.count()))
    said, replaced = failing(engine, others, max_restarts=2)
    assert "failed 3 times, and max_restarts is 2" in said and replaced == 2
    assert "RuntimeError: fault " in said and "in step" in said


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_what_fails_alike_before_anything_was_played_is_not_tried_again(engine):
    said, replaced = failing(engine, functools.partial(Broken, itertools.repeat("no")))
    assert "so did the one in whose place it was" in said
    assert "RuntimeError: no" in said and "in step" in said
    assert replaced <= 2  # each of the two actors once

    later = functools.partial(Broken, itertools.repeat("no"), good=STEPS)
    said, replaced = failing(engine, later, max_restarts=4)
    assert "failed 5 times" in said and replaced == 4  # it has played


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_messages_that_differ_before_their_last_line_are_not_the_same(engine):
    ports = (f"port {n} is in use\nsee the log" for n in itertools.count())
    said, replaced = failing(engine, functools.partial(Broken, ports), max_restarts=3)
    assert "failed 4 times" in said and replaced == 3


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_environments_are_closed_with_their_actors(engine):
    closed = threading.Semaphore(0)

    class Closing(Telling):
        def close(self):
            closed.release()

    with Played(Closing, engine, lockstep=1) as played:
        played.window()
        while closed.acquire(blocking=False):
            pass  # the one that showed its spaces
    for _ in range(2):
        assert closed.acquire(timeout=60)


@pytest.mark.parametrize("engine", ["inline", "threads"])
@pytest.mark.parametrize("where", ["reset", "step"])
def test_environments_of_actors_that_fail_are_closed(engine, where):
    made, closed, fails = [], [], threading.Semaphore(0)

    class Once(Telling):
        def __init__(self):
            super().__init__()
            made.append(self)

        def reset(self, **options):
            self.fail("reset")
            return super().reset(**options)

        def step(self, action):
            self.fail("step")
            return super().step(action)

        def fail(self, now):
            if now == where and fails.acquire(blocking=False):
                raise RuntimeError("once")

        def close(self):
            closed.append(self)

    with Played(Once, engine) as played:
        fails.release()
        with pytest.warns(RuntimeWarning, match="once"):
            played.until(restarts=1)
    assert not fails.acquire(blocking=False)
    for _ in range(600):  # a thread that was replaced ends when it can
        if set(closed) == set(made):
            break
        time.sleep(0.1)
    assert set(closed) == set(made)


class Leaving(Telling):
    """What would end its process, or its thread, the first time it is stepped."""

    def __init__(self, how, first):
        super().__init__()
        self.how, self.first = how, first

    def step(self, action):
        if self.first.acquire(blocking=False):
            raise self.how
        return super().step(action)


@pytest.mark.parametrize(
    ("engine", "how"),
    [("inline", SystemExit), ("threads", SystemExit), ("threads", KeyboardInterrupt)],
)
def test_an_environment_that_leaves_is_replaced_at_once(engine, how, monkeypatch):
    monkeypatch.setattr(roster, "_START", 1e9)
    env = functools.partial(Leaving, how, threading.Semaphore(1))
    with (
        Played(env, engine) as played,
        pytest.warns(RuntimeWarning, match=how.__name__),
    ):
        window = played.until(restarts=1)
    assert np.isfinite(window.reward).all()


def test_threads_have_ended_when_their_actors_have():
    """Python aborts where one of them computes while it exits."""

    class Waiting(Telling):
        def step(self, action):
            time.sleep(0.1)
            return super().step(action)

    before = set(threading.enumerate())
    with Played(Waiting, "threads") as played:
        played.window()
        begun = set(threading.enumerate()) - before
    assert [thread.name[:11] for thread in begun].count("optix-actor") == 2
    assert not any(thread.is_alive() for thread in begun)


def test_actors_of_another_version_are_refused(monkeypatch):
    played = Played(Telling, "inline", max_restarts=0)
    monkeypatch.setattr(acting, "versions", lambda: ("1.16.0", "0.4.0"))
    with played, pytest.raises(ActorsFailedError, match="the same versions"):
        played.window()


def test_what_is_not_a_part_of_a_window_is_named():
    assert fault(EXPECTED, EXPECTED) is None
    assert "a NoneType in place of" in (fault(None, EXPECTED) or "")
    wide = EXPECTED._replace(action=np.zeros((2, 3), np.float32))
    assert fault(wide, EXPECTED) == ".action of shape (2, 3), expected (2, 1)"


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'tensor-optix-jax\[ray\]'"):
        Played(Telling, "ray")


def test_lockstep_beyond_max_lag_is_refused():
    with pytest.raises(OptionError, match="lockstep must be at most max_lag"):
        Played(Telling, "inline", lockstep=9, max_lag=8)


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_memory_is_flat_over_many_windows(engine):
    with Played(Telling, engine) as played:

        def grown():
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(200):
                played.window()
                played.crew.keep({"stream": learning.Stream(played.stream)})
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before

        grown()
        tracemalloc.start()
        try:
            # JAX's caches come and go, what is kept for ever grows each time
            least = min(grown() for _ in range(4))
        finally:
            tracemalloc.stop()
    assert least < 4_000, least  # twenty bytes a window
