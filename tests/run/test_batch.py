"""Stopped seeds leave a vmapped batch: when, which ones, and that nothing changes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix import Pause, resume, train
from optix.callbacks.base import LoopCallback
from optix.callbacks.jsonl import read_log
from optix.loop.loop import loop
from optix.run import session
from optix.run.batch import Batch, alike
from optix.run.pace import Pace, next_count
from optix.run.pause import Watch
from optix.run.programs import programs
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

SEEDS, ROUNDS = 5, 12
TARGETS = np.float32([3, 9, 4, 10, 2])  # scores
STOPS = [4, 10, 5, 11, 3]  # rounds that each seed plays then


def same_bits(a, b):
    def plain(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert plain(x).dtype == plain(y).dtype
        assert plain(x).tobytes() == plain(y).tobytes()


@pytest.fixture(scope="module")
def toy():
    """The score of a seed is the number of its windows; it stops at its target."""
    return loop(
        scripted_learner(lambda windows, key: windows),
        fixed(),
        max_rounds=ROUNDS,
        final_scores=2,
    )


@pytest.fixture(scope="module")
def compiled(toy):
    """The programs, with the target of each seed; every size is compiled once."""
    run = programs(toy, True)

    def init(keys):
        state = run.init(keys)
        limits = state.limits._replace(target_score=jnp.asarray(TARGETS))
        return state._replace(limits=limits)

    return run._replace(init=init)


@pytest.fixture
def sizes(compiled, monkeypatch):
    """Batch sizes of all dispatches of at most two rounds; compiling costs nothing."""
    seen = []

    def advance(state, count):
        if not isinstance(count, jax.core.Tracer):  # it is traced before it is played
            seen.append(len(state.round))
            count = np.int32(min(count, 2))
        return compiled.advance(state, count)

    monkeypatch.setattr(
        "optix.run.train.programs", lambda *_: compiled._replace(advance=advance)
    )
    monkeypatch.setattr(Pace, "pays", lambda self, share, left: share > 0)
    return seen


QUIET = {"progress": False, "checkpoint_seconds": 0.0}


def test_a_run_is_the_same_with_and_without_dropping(tmp_path, toy, sizes):
    def play(name, **options):
        del sizes[:]
        directory = tmp_path / name
        result = train(toy, seeds=SEEDS, directory=directory, **options, **QUIET)
        log = [{**record, "time": 0} for record in read_log(result.log)]
        order = sorted(log, key=lambda record: (record["round"], record["seed"]))
        assert log == order  # dispatches are of equal length for all seeds
        return result, log, list(sizes)

    whole, log, always = play("whole", drop_stopped=False)
    assert set(always) == {5}
    assert whole.state.round.tolist() == STOPS
    halved, halved_log, cut = play("halved", drop_stopped=True)
    assert cut == sorted(cut, reverse=True)
    assert set(cut) >= {5, 3, 1}
    tried, tried_log, _ = play("tried")
    for result, lines in ((halved, halved_log), (tried, tried_log)):
        same_bits(result.state, whole.state)
        assert lines == log and result.stop_reasons == whole.stop_reasons
        np.testing.assert_array_equal(result.scores, whole.scores)


def test_a_pause_while_some_seeds_are_dropped(tmp_path, toy, sizes):
    class Stop(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            if episode_id == 6:
                pause.stop()

    pause, directory = Pause(), tmp_path / "run"
    first = train(
        toy,
        seeds=SEEDS,
        directory=directory,
        callbacks=[Stop()],
        pause=pause,
        drop_stopped=True,
        **QUIET,
    )
    assert min(sizes) < SEEDS and first.paused
    assert len(first.state.round) == SEEDS and first.scores.shape == (SEEDS,)
    assert isinstance(first.state.round, jax.Array)
    result = resume(directory, toy, target_score=100, **QUIET)  # all seeds go on
    assert result.state.round.tolist() == [ROUNDS] * SEEDS
    records = [(r["seed"], r["round"]) for r in read_log(result.log)]
    assert sorted(records) == [(s, r) for s in range(SEEDS) for r in range(ROUNDS)]
    whole = train(toy, seeds=SEEDS, progress=False, drop_stopped=False)
    same_bits(result.state.key, whole.state.key)


def test_a_batch_that_rounds_otherwise_is_not_taken(toy, compiled):
    """The trial: the same state before and after, and a difference is seen."""

    def rounding(state, count):
        state, *outcome = compiled.advance(state, count)
        if len(state.round) < SEEDS:
            lower = jnp.nextafter(state.curve, jnp.float32(-1))
            state = state._replace(curve=lower)
        return state, *outcome

    keys = jax.random.split(jax.random.key(0), SEEDS)
    state = compiled.init(keys)
    reason = state.stop_reason.at[jnp.array([0, 2, 4])].set(1)
    batch = Batch(state._replace(stop_reason=reason), np.arange(SEEDS))
    assert batch.smaller() == 3
    before = batch._replace(state=jax.tree.map(jnp.copy, batch.state))
    small = batch.cut(3)
    assert small.seeds.tolist() == [0, 1, 3]  # the two that run, in their order
    batch, small, same = alike(batch, small, compiled.advance)
    assert same
    same_bits(batch.state, before.state)
    same_bits(small.whole(), before.state)
    same_bits(small.on_host().round, before.state.round)
    batch, small, same = alike(batch, small, rounding)
    assert not same
    same_bits(batch.state, before.state)


def test_after_a_trial_that_failed_no_other_is_made(toy, sizes, compiled, monkeypatch):
    monkeypatch.setattr(session, "alike", lambda *parts: (*parts[:2], False))
    refused = []
    monkeypatch.setattr(Pace, "refuse", lambda self: refused.append(1))
    train(toy, seeds=SEEDS, progress=False)
    assert set(sizes) == {SEEDS} and refused


def test_only_vmapped_seeds_on_the_device_are_dropped(toy):
    assert not programs(toy, False).shrinks and programs(toy, True).shrinks
    on_host = toy._replace(learner=toy.learner._replace(host=object()))
    assert not programs(on_host, True).shrinks
    with pytest.raises(ValueError, match="drop_stopped must be True or False, got 2"):
        train(toy, drop_stopped=2)


# ------------------------------------------------------------------ what a run waits for


@pytest.mark.parametrize(
    ("size", "running", "smaller"),
    [(8, 5, 8), (8, 4, 4), (8, 3, 4), (8, 1, 1), (5, 3, 5), (5, 2, 3), (5, 1, 1)]
    + [(3, 1, 1), (2, 1, 1), (1, 1, 1), (4, 0, 4)],
)
def test_sizes_halve_as_often_as_they_fit(size, running, smaller):
    class State:
        stop_reason = np.arange(size) >= running

    batch = Batch(State(), np.arange(size))
    assert batch.smaller() == smaller >= running


def after(pace, rounds, seconds=0.1, share=0.5):
    for _ in range(rounds):
        pace.count = 1
        pace.took(seconds, 10, share)
    return pace


def test_a_cut_pays_once_waiting_has_cost_what_compiling_does():
    pace = after(Pace(), 1, seconds=1.1)  # a second of compiling
    assert not pace.pays(0.5, 10**6)  # nothing is known of a round yet
    after(pace, 19)
    assert not pace.pays(0.5, 10**6)  # 0.95 s
    after(pace, 2)
    assert pace.pays(0.5, 10**6) and not pace.pays(0.0, 10**6)
    assert not pace.pays(0.5, 19) and pace.pays(0.5, 21)  # what is left to earn
    assert pace.steps == 210 and math.isclose(pace.steps_per_second, 100)


def test_a_cut_that_gained_nothing_is_the_last():
    pace = after(Pace(), 50)
    pace.cut(0.5, 1.0)
    after(pace, 50, seconds=0.1)  # as slow as with all seeds
    assert not pace.pays(0.5, 10**6)
    pace = after(Pace(), 50)
    pace.cut(0.5, 1.0)
    after(pace, 50, seconds=0.05)
    assert pace.pays(0.5, 10**6)
    pace.refuse()
    assert not pace.pays(0.5, 10**6)


def test_what_was_never_compiled_is_cut_for_nothing():
    assert Pace(exact=False).pays(0.5, 1) and not Pace(exact=True).pays(0.5, 10**6)


def test_the_next_dispatch_takes_half_a_second():
    assert next_count(1, 1e-9) == 2 and next_count(64, 1e-3) == 64
    assert next_count(8, 1.0) == 4 and next_count(1, 100.0) == 1


def test_a_clock_starts_with_the_run(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("optix.run.pause.time.monotonic", lambda: now[0])
    watch, shared = Watch(10.0, pause := Pause()), Watch(None, pause)
    now[0] = 100.0
    with watch:
        assert watch.reason is watch.asked is None
        now[0] = 110.0
        assert watch.reason == "max_seconds" and watch.asked is None
        pause.stop("why")
        assert watch.reason == watch.asked == shared.reason == "why"
