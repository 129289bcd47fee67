"""The driver: chunks, pauses, kills and resumes against the uninterrupted run."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.callbacks.base import LoopCallback
from optix.callbacks.jsonl import read_log
from optix.checkpoints.registry import CheckpointError
from optix.host.learner import host
from optix.loop.loop import loop
from optix.make import make
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolder, RunFolderError
from optix.run.programs import programs, rows, with_limits
from optix.run.train import resume, train
from optix.tuners.fixed import fixed
from optix.types import StopReason
from tests import probes
from tests.host.test_learner_in_loop import Climber, Hill
from tests.supervised import supervised
from tests.toys import replay_learner

QUIET = {"progress": False, "checkpoint_seconds": 0.0, "memory_every": 1}


@pytest.fixture(autouse=True, scope="module")
def compile_fast():
    """What runs for a moment only is not worth a long compilation."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def whole():
    """Two seeds of 60 rounds, uninterrupted."""
    return train(supervised(), seeds=2, progress=False)


def assert_same_bits(a, b):
    def plain(leaf):
        is_key = jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    assert jax.tree.structure(a) == jax.tree.structure(b)
    paths = jax.tree_util.tree_flatten_with_path(a)[0]
    for (path, x), y in zip(paths, jax.tree.leaves(b), strict=True):
        name = jax.tree_util.keystr(path)
        assert plain(x).tobytes() == plain(y).tobytes(), name


class PauseAt(LoopCallback):
    """Sends this process a signal after a round."""

    def __init__(self, round_, number=signal.SIGTERM):
        self.round, self.number = round_, number

    def on_episode_end(self, episode_id, eval_metrics):
        if episode_id == self.round:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def paused(tmp_path, capfd):
    """The folder of the same two seeds, paused by SIGTERM."""
    directory = tmp_path / "run"
    result = train(
        supervised(), seeds=2, directory=directory, callbacks=[PauseAt(20)], **QUIET
    )
    assert result.paused == "SIGTERM" and 20 < result.state.round[0] < 60
    assert f"continue with `optix resume {directory}`" in capfd.readouterr().err
    return directory


# ---------------------------------------------------------------- rounds on the device


@pytest.mark.parametrize("vectorize", [False, True])
def test_the_length_of_a_dispatch_does_not_matter(vectorize):
    run = programs(supervised(max_rounds=40), vectorize)
    keys = jax.random.split(jax.random.key(3), 2)
    ends, logs = [], []
    for counts in ([1] * 40, [7, 1, 64], [3] * 14):
        state, log = run.init(keys), []
        for count in counts:
            left = 40 - int(state.round[0])
            state, reports, rounds = run.advance(state, np.int32(count))
            assert rounds.tolist() == [min(count, left)] * 2
            log += list(rows(*jax.device_get((reports, rounds))))
        ends.append(state)
        logs.append(sorted(log, key=lambda row: (row[0], int(row[1].round))))
    for other, log in zip(ends[1:], logs[1:], strict=True):
        assert_same_bits(ends[0], other)
        assert_same_bits(logs[0], log)
    for seed in range(2):
        mine = [int(report.round) for s, report in logs[0] if s == seed]
        assert mine == list(range(40))
    scores = [float(report.score) for s, report in logs[0] if s == 1]
    np.testing.assert_array_equal(np.float32(scores), ends[0].curve[1, :40])


def test_seeds_stop_one_by_one_and_are_then_left_alone():
    for vectorize in (False, True):
        run = programs(supervised(), vectorize)
        state = run.init(jax.random.split(jax.random.key(0), 2))
        limits = state.limits._replace(max_rounds=jnp.int32([5, 60]))
        state = state._replace(limits=limits)
        state, _, rounds = run.advance(state, np.int32(20))
        assert rounds.tolist() == [5, 20]
        frozen = jax.tree.map(lambda x: np.asarray(x[0]), state.best)
        state, reports, rounds = run.advance(state, np.int32(100))
        assert rounds.tolist() == [0, 40]  # no more than the 64 that are kept
        assert_same_bits(frozen, jax.tree.map(lambda x: x[0], state.best))
        seeds = [seed for seed, _ in rows(*jax.device_get((reports, rounds)))]
        assert seeds == [1] * 40


def test_seeds_in_turn_and_at_once_give_the_same_run():
    ends = []
    for vectorize in (False, True):
        run = programs(supervised(), vectorize)
        state = run.init(jax.random.split(jax.random.key(0), 2))
        state, _, _ = run.advance(state, np.int32(64))
        ends.append(run.finish(state))
    for pick in (lambda s: s.curve[:, :60], lambda s: s.best, lambda s: s.learner):
        chex.assert_trees_all_close(*map(pick, ends), rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------ the run as a whole


def test_a_run_ends_with_scores_on_unseen_keys_and_a_log(tmp_path, whole):
    seen = []

    class Count(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            seen.append((eval_metrics.seed, episode_id))

    directory = tmp_path / "run"
    result = train(
        supervised(), seeds=2, directory=directory, callbacks=[Count()], **QUIET
    )
    assert_same_bits(result.state, whole.state)  # looking does not change it
    assert result.stop_reasons == (StopReason.MAX_ROUNDS,) * 2
    assert result.message == "the budget of rounds is spent" and result.paused is None
    assert sorted(seen) == [(seed, round_) for seed in range(2) for round_ in range(60)]
    log = list(read_log(result.log))
    assert len(log) == 120 and result.curve.stat().st_size > 10_000
    best = [max(r["score"] for r in log if r["seed"] == seed) for seed in range(2)]
    final = [[r for r in log if r["seed"] == s][-1]["best_score"] for s in range(2)]
    assert result.best_seed == int(np.argmax(final))
    assert (result.scores != np.float32(final)).all()  # scored again
    assert max(best) > 10 * min(r["score"] for r in log)  # it has learned: both < 0
    with open(directory / "run.json") as file:
        assert json.load(file)["seeds"] == 2


def test_seed_and_number_of_seeds_decide_the_keys(whole):
    first = train(supervised(), seeds=1, progress=False)
    alone = jax.tree.map(lambda x: x[:1], whole.state)
    assert_same_bits(first.state.curve, alone.curve)
    other = train(supervised(), seeds=1, seed=1, progress=False)
    assert (other.state.curve[0, :60] != alone.curve[0, :60]).all()


def test_an_exception_in_a_callback_does_not_lose_the_run(whole, caplog):
    class Broken(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            raise RuntimeError("no space in the callback")

    result = train(supervised(), seeds=2, callbacks=[Broken()], progress=False)
    assert_same_bits(result.state, whole.state)
    first, last = caplog.records
    assert "no space in the callback" in first.exc_text
    assert last.message.endswith("raised 120 times in this run")


def test_bad_arguments_are_refused_before_anything_is_made(tmp_path):
    directory = tmp_path / "run"
    for words, arguments in [
        ("seeds must be an integer >= 1", {"seeds": 0}),
        ("seed must be an integer >= 0", {"seed": -1}),
        ("max_seconds must be > 0", {"max_seconds": 0}),
        ("unknown option beside a loop 'rate'; give it to what makes", {"rate": 1.0}),
        ("agent is that of the loop, got 'dqn'; leave it out", {"agent": "dqn"}),
        (
            "unknown hook of Odd 'on_end'",
            {"callbacks": [type("Odd", (), {"on_end": 0})()]},
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            train(supervised(), directory=directory, progress=False, **arguments)
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        train("CartPole-v2", directory=directory)
    assert list(tmp_path.iterdir()) in ([], [directory])


# ------------------------------------------------------------------- pauses and resumes


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(paused, whole):
    log = list(read_log(paused / "log.jsonl"))
    done = len(log) // 2
    second = resume(paused, supervised(), callbacks=[PauseAt(done + 9)], **QUIET)
    assert second.paused == "SIGTERM"
    result = resume(paused, supervised(), **QUIET)
    assert_same_bits(result.state, whole.state)
    again = resume(paused, supervised(), **QUIET)  # nothing is left to do
    assert_same_bits(again.state, whole.state)
    log = sorted((r["seed"], r["round"]) for r in read_log(paused / "log.jsonl"))
    assert log == [(seed, round_) for seed in range(2) for round_ in range(60)]


def test_a_larger_budget_continues_as_if_it_had_been_given_at_once(tmp_path, whole):
    short = supervised(max_rounds=25)
    train(short, seeds=2, directory=tmp_path / "run", **QUIET)
    first = resume(tmp_path / "run", short, max_rounds=40, **QUIET)
    assert first.state.round.tolist() == [40, 40]
    result = resume(tmp_path / "run", short, max_rounds=60, **QUIET)
    assert_same_bits(result.state, whole.state)
    with pytest.raises(ValueError, match="max_round'.*did you mean 'max_rounds'"):
        resume(tmp_path / "run", short, max_round=3)


def test_a_kill_right_after_a_new_budget_does_not_forget_it(tmp_path, monkeypatch):
    train(supervised(max_rounds=5), directory=tmp_path / "run", **QUIET)

    class Killed(BaseException):
        pass

    def play(*args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("optix.run.session.Session.play", play)
        resume(tmp_path / "run", supervised(), max_rounds=9, **QUIET)
    result = resume(tmp_path / "run", supervised(), **QUIET)
    assert result.state.round.tolist() == [9]


def test_only_a_spent_budget_is_lifted():
    run = programs(supervised(), False)
    state = run.init(jax.random.split(jax.random.key(0), 6))
    reasons = jnp.int32(
        [
            StopReason.RUNNING,
            StopReason.MAX_ROUNDS,
            StopReason.MAX_ENV_STEPS,
            StopReason.TARGET_REACHED,
            StopReason.CONVERGED,
            StopReason.NON_FINITE,
        ]
    )
    state = state._replace(
        stop_reason=reasons, round=jnp.full(6, 60), env_steps=jnp.full(6, 600)
    )
    cases = [
        ({"max_rounds": 61}, [True, True, True, False, False, False]),
        ({"max_rounds": 60}, [False] * 6),
        (
            {"max_rounds": 70, "target_score": 9.0},
            [True, True, True, False, False, False],
        ),
        ({"max_rounds": 70, "max_env_steps": 600}, [False] * 6),
    ]
    for budgets, active in cases:
        changed = with_limits(state, budgets)
        assert changed.active.tolist() == active, budgets
    assert changed.stop_reason[0] == StopReason.MAX_ENV_STEPS
    aimed = with_limits(state, {"max_rounds": 70, "target_score": 1.0})
    aimed = aimed._replace(stop_reason=reasons)
    raised = with_limits(aimed, {"target_score": 2.0})
    assert raised.active.tolist() == [True, True, True, True, False, False]


def test_max_seconds_pauses(tmp_path, capfd):
    endless = supervised(max_rounds=10**6)
    begin = time.monotonic()
    result = train(endless, directory=tmp_path / "run", max_seconds=0.5, progress=False)
    assert result.paused == "max_seconds" and result.state.active.all()
    assert time.monotonic() - begin < 60
    assert "paused by max_seconds; continue with" in capfd.readouterr().err
    more = resume(tmp_path / "run", endless, max_seconds=3, progress=False)
    assert more.state.round[0] > result.state.round[0]
    nowhere = train(endless, max_seconds=0.1, progress=False)
    assert "nothing was saved" in nowhere.message


def test_signals_belong_to_the_caller_again(paused, monkeypatch):
    caught = []
    before = signal.signal(signal.SIGINT, lambda *a: caught.append(a))
    try:
        result = train(
            supervised(),
            callbacks=[PauseAt(1, signal.SIGINT), PauseAt(2, signal.SIGINT)],
            progress=False,
        )
        assert result.paused == "SIGINT"
        assert signal.getsignal(signal.SIGINT)(1, 2) is None and (1, 2) in caught
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_interrupt_stops_at_once():
    class Twice(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        train(supervised(), callbacks=[Twice()], progress=False)


def test_other_threads_train_without_signals(whole):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(train(supervised(), seeds=2, progress=False))
    )
    thread.start()
    thread.join(timeout=120)
    assert_same_bits(results[0].state, whole.state)


# ------------------------------------------------------------------------- the folder


def test_a_damaged_checkpoint_falls_back_to_the_one_before(paused, whole):
    steps = sorted(int(p.name) for p in (paused / "checkpoints").iterdir())
    assert len(steps) == 3
    for file in (paused / "checkpoints" / str(steps[-1]) / "arrays" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match=f"{steps[-1]} is damaged.*the one before"):
        result = resume(paused, supervised(), callbacks=[PauseAt(22)], **QUIET)
    assert result.paused
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")  # it is gone for good
        result = resume(paused, supervised(), **QUIET)
    assert_same_bits(result.state, whole.state)


def test_another_loop_is_refused(paused):
    other = loop(replay_learner(32), fixed(), max_rounds=60)
    with pytest.raises(CheckpointError, match="saved by another configuration.*memory"):
        resume(paused, other, **QUIET)
    with pytest.raises(RunFolderError, match="pass it, as in .*loop=loop"):
        resume(paused, **QUIET)


def test_a_moved_folder_goes_on(paused, whole, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    paused.rename(tmp_path / "elsewhere" / "moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = resume("moved", supervised(), **QUIET)
    assert_same_bits(result.state, whole.state)


def test_a_failing_disk_is_a_warning_until_the_end(tmp_path, monkeypatch):
    from optix.checkpoints.registry import CheckpointRegistry

    original, calls = CheckpointRegistry.save, []

    def save(self, step, *args, **kwargs):
        calls.append(step)
        if 0 < step < 60:
            raise CheckpointError("the disk is full")
        return original(self, step, *args, **kwargs)

    monkeypatch.setattr(CheckpointRegistry, "save", save)
    with pytest.warns(UserWarning, match="the disk is full; the run goes on"):
        result = train(supervised(), directory=tmp_path / "run", **QUIET)
    assert len(calls) > 4 and result.paused is None
    assert (tmp_path / "run" / "checkpoints" / "60").is_dir()


def test_other_versions_are_named(paused):
    config = json.loads((paused / "run.json").read_text())
    config["platform"]["jax"] = "0.0.1"
    config.pop("checksum")
    (paused / "run.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="began with jax 0.0.1 and goes on with"):
        resume(paused, supervised(), **QUIET)


def test_the_best_policy_plays_on_fresh_keys(paused):
    played = evaluate(paused, 50, loop=supervised())
    states = resume(paused, supervised(), max_rounds=1, **QUIET).state  # nothing more
    policy = jax.tree.map(lambda x: x[played.seed], states.best.policy)
    assert played.round == int(states.best.round[played.seed])
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 2**31 - 1), 50)
    score = jax.vmap(supervised().learner.evaluate, (None, None, 0))
    truth = score(policy, supervised().learner.hyperparams, keys)
    np.testing.assert_allclose(played.scores, truth, rtol=1e-6)
    from scipy.stats import bootstrap

    interval = bootstrap([played.scores], np.mean, rng=0).confidence_interval
    np.testing.assert_allclose(played.low, interval.low, atol=0.3 * played.sd)
    np.testing.assert_allclose(played.high, interval.high, atol=0.3 * played.sd)
    assert played.low < played.mean < played.high
    assert "mean of 50 episodes" in played.message


# ---------------------------------------------------------------------- the replay


def a_run(max_rounds=200):
    """A replay of 4 MB, of which a compressed checkpoint keeps the random rows."""
    return loop(replay_learner(2**16), fixed(), max_rounds=max_rounds, final_scores=2)


def size_of(snapshot):
    return sum(f.stat().st_size for f in snapshot.path.rglob("*") if f.is_file())


class Killed(BaseException):
    pass


def killed_between(directory, run, monkeypatch, saves=5):
    """Train until so many checkpoints are written; the last ones hold no replay."""
    original, written = RunFolder.save, []

    def save(self, *args):
        original(self, *args)
        written.append(self.states.latest)
        if len(written) == saves:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "save", save)
        train(run, directory=directory, **{**QUIET, "memory_every": 10**6})
    return written


def test_a_replay_that_was_not_saved_is_empty_and_said_to_be(tmp_path, monkeypatch):
    directory = tmp_path / "run"
    written = killed_between(directory, a_run(), monkeypatch)
    assert [s.metadata["memory"] for s in written] == [True, *[False] * 4]
    # the latest with a replay is kept as long as no later one has it
    kept = RunFolder.open(directory, write=False).states.steps()
    assert kept == [written[0].step, *[s.step for s in written[-2:]]]
    assert size_of(written[-1]) < 100_000
    assert evaluate(directory, 4, loop=a_run()).round < 200  # needs no replay
    rounds = written[-1].step
    with pytest.warns(RuntimeWarning, match="holds no replay.*with an empty one"):
        # the budget is spent: what came back is what there was
        back = resume(directory, a_run(), max_rounds=rounds, **QUIET)
    fresh = a_run().init(jax.random.key(0)).learner.memory
    assert_same_bits(jax.tree.map(lambda x: x[0], back.state.learner.memory), fresh)
    assert back.state.round.tolist() == [rounds]
    assert json.loads((directory / "run.json").read_text())["memory_lost"] == [rounds]
    with pytest.warns(RuntimeWarning):
        result = resume(directory, a_run(), max_rounds=rounds + 20, **QUIET)
    assert result.state.round.tolist() == [rounds + 20]
    assert result.state.learner.memory.cursor.tolist() == [200]  # 20 rounds of 10 rows
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # now it has been saved
        again = resume(directory, a_run(), **QUIET)
    assert_same_bits(again.state, result.state)


def test_the_last_checkpoint_of_a_session_holds_the_replay(tmp_path):
    seldom = {**QUIET, "memory_every": 10**6}
    directory = tmp_path / "run"
    train(a_run(), directory=directory, callbacks=[PauseAt(30)], **seldom)
    latest = RunFolder.open(directory, write=False).states.latest
    assert latest.metadata["memory"] and size_of(latest) > 10_000
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = resume(directory, a_run(), **seldom)
    assert_same_bits(result.state, train(a_run(), progress=False).state)


def replaying(max_rounds=24):
    """Rainbow's kind of replay on two tuned lanes: n steps, priorities, normalisers."""
    return make(
        probes.ActionIsSign(),
        "dqn",
        tuner="spsa",
        prioritised=True,
        n_step=3,
        normalize_observations=True,
        num_envs=2,
        num_steps=8,
        batch_size=8,
        capacity=256,
        learning_starts=16,
        hidden=(4,),
        evaluation_episodes=2,
        max_rounds=max_rounds,
        final_scores=2,
    )


def test_an_agent_with_a_replay_resumes_bit_for_bit(tmp_path, monkeypatch):
    whole = train(replaying(), progress=False)
    directory, seldom = tmp_path / "run", {**QUIET, "memory_every": 10**6}
    first = train(replaying(), directory=directory, callbacks=[PauseAt(8)], **seldom)
    assert first.paused and first.state.learner.memory.replay.ring.size[0] == 256
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = resume(directory, replaying(), **seldom)
    assert_same_bits(result.state, whole.state)

    # killed where no checkpoint but the first one holds the replay
    written = killed_between(tmp_path / "killed", replaying(), monkeypatch, saves=3)
    rounds = written[-1].step
    with pytest.warns(RuntimeWarning, match="holds no replay.*with an empty one"):
        back = resume(tmp_path / "killed", replaying(), max_rounds=rounds, **QUIET)
    assert back.state.learner.memory.replay.ring.size[0] == 0
    assert back.state.learner.memory.env_steps[0] == 0
    with pytest.warns(RuntimeWarning):
        on = resume(tmp_path / "killed", replaying(), max_rounds=rounds + 1, **QUIET)
    assert on.state.learner.memory.env_steps[0] == 2 * 2 * 8


# --------------------------------------------------------------------- host learners


class PaperJamError(Exception):
    pass


class Printer(Climber):
    """Breaks once its weight is above a limit."""

    limit = 1000.0

    def learn(self, episode_data):
        if self.weights.max() > self.limit:
            raise PaperJamError("tray 2")
        return super().learn(episode_data)


def test_an_error_of_the_users_own_arrives_and_the_run_can_go_on(tmp_path):
    def make(limit=1000.0):
        agent = Printer(learning_rate=1.0)
        agent.limit = limit
        return loop(host(agent, Hill()), fixed(), max_rounds=20, final_scores=2)

    whole = train(make(), progress=False)
    with pytest.raises(PaperJamError, match="tray 2") as error:
        train(make(limit=9.5), directory=tmp_path / "run", progress=False)
    assert any(entry.name == "learn" for entry in error.traceback)
    rounds = len(list(read_log(tmp_path / "run" / "log.jsonl")))
    assert (tmp_path / "run" / "checkpoints" / str(rounds)).is_dir()  # not the rest
    mended = make()
    result = resume(tmp_path / "run", mended, progress=False)
    assert 0 < rounds <= 10 and result.state.round[0] == 20
    np.testing.assert_array_equal(result.state.curve, whole.state.curve)
    np.testing.assert_array_equal(result.scores, whole.scores)
    best = jax.tree.map(lambda x: x[0], result.state.best.policy)
    assert mended.learner.host.agent_of(best).weights.max() == 20
    assert len(mended.learner.host.slots) <= 3  # the first, the best, the current
    played = evaluate(tmp_path / "run", 4, loop=make())
    np.testing.assert_allclose(played.mean, -100, atol=1)  # (20 - 30) ** 2


# ------------------------------------------------------------------------------ kills

KILLED = """
import sys
from optix.run.train import resume, train
from tests.supervised import supervised
directory, first = sys.argv[1], sys.argv[2] == "train"
endless, often = supervised(max_rounds=10**9), dict(checkpoint_seconds=0.0, memory_every=1)
if first:
    train(endless, directory=directory, progress=False, **often)
else:
    resume(directory, endless, progress=False, **often)
"""


def test_kill_at_any_moment_loses_no_checkpoint(tmp_path):
    """20 kills at random times, then the rest: the bits of the uninterrupted run."""
    directory, rng = tmp_path / "run", random.Random(0)
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.getcwd(),
    }

    def last_saved():
        steps = (directory / "checkpoints").glob("[0-9]*")
        return max((int(p.name) for p in steps if p.name.isdigit()), default=-1)

    saved, kills_between_saves = -1, 0
    for kill in range(20):
        command = "resume" if (directory / "run.json").exists() else "train"
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(directory), command],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kill % 2:  # while rounds and saves alternate, ten times a second
            deadline = time.monotonic() + 100
            while last_saved() <= max(saved, 0) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5))
            kills_between_saves += last_saved() > saved
        else:  # while it starts, reads and cuts the log
            time.sleep(rng.uniform(0, 3))
        process.kill()
        _, complaints = process.communicate()
        assert process.returncode == -signal.SIGKILL, complaints
        assert "damaged" not in complaints
        assert last_saved() >= saved
        saved = last_saved()
    assert kills_between_saves == 10
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")
        result = resume(directory, supervised(), max_rounds=saved + 100, **QUIET)
    whole = train(supervised(max_rounds=saved + 100), progress=False)
    assert_same_bits(result.state, whole.state)
    rounds = [record["round"] for record in read_log(directory / "log.jsonl")]
    assert rounds == list(range(saved + 100))
