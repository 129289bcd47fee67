"""Windows that go on, a replay for each run, weights in memory: the seam as a whole."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.host.streams import Stream
from optix.loop import round as rounds
from optix.loop.loop import loop
from optix.run.load import load
from optix.run.loaded_agent import LoadedAgent
from optix.run.train import resume, train
from optix.trees import select
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import LearnerState, StopReason
from tests.host.agents import Counter, Replayer, Steps

KEY = jax.random.key(0)
BOTH = jnp.array([0.5, 2.0])


def counting(agent=None, copies=8, **options):
    """A learner whose windows are eight steps of a Counter."""
    pipeline = BatchPipeline(Counter, window_size=8)
    return host(
        agent or Replayer(), pipeline, evaluation_episodes=1, copies=copies, **options
    )


def windows(learner, number, state=None):
    """Return the states after some windows of one lane."""
    step = jax.jit(learner.step)
    states = [learner.init(KEY) if state is None else state]
    for n in range(number):
        key = jax.random.fold_in(KEY, n)
        states.append(step(states[-1], learner.hyperparams, key, True)[0])
    return states


def forked(state):
    """Two lanes that go on from one state, which share its replay."""
    axes = type(state)(0, 0, None)
    doubled = jax.tree.map(lambda x: jnp.stack([x, x]), state._replace(memory=()))
    return doubled._replace(memory=state.memory), axes


# ------------------------------------------------------------------------ streams


def test_windows_go_on_and_evaluations_do_not_disturb():
    pipeline = Steps()
    learner = host(Replayer(), pipeline, metrics=("rows",))
    state, totals = learner.init(KEY), []
    for n in range(3):
        key = jax.random.fold_in(KEY, n)
        state, report = learner.step(state, learner.hyperparams, key, True)
        learner.evaluate(state.policy, learner.hyperparams, key)
        totals.append(float(report.metrics["window_return"]))
    assert totals == [0 + 1, 2 + 3, 4 + 5]
    assert len(pipeline.begun) == pipeline.opened == 1
    # begun once more: fresh episodes, in the copy that nobody needs any more
    learner.host.keep(state._replace(rollout=learner.begin(state.policy, KEY)))
    state = state._replace(rollout=learner.begin(state.policy, KEY))
    _, report = learner.step(state, learner.hyperparams, KEY, True)
    assert report.metrics["window_return"] == 0 + 1
    assert len(pipeline.begun) == 2 and pipeline.opened == 1


def test_a_stream_is_used_once():
    pipeline = Steps()
    learner = host(Replayer(), pipeline)
    (_, state) = windows(learner, 1)
    for expected in (2 + 3, 0 + 1):  # the second time it is gone
        _, report = learner.step(state, learner.hyperparams, KEY, True)
        assert report.metrics["window_return"] == expected


def test_the_second_lane_of_a_fork_begins_fresh_episodes():
    pipeline = Steps()
    learner = host(Replayer(), pipeline)
    (*_, state) = windows(learner, 2)
    lanes, axes = forked(state)
    step = jax.vmap(learner.step, (axes, 0, None, None), (axes, 0))
    after, report = jax.jit(step)(lanes, {"rate": BOTH}, KEY, True)
    assert report.metrics["window_return"].tolist() == [4 + 5, 0 + 1]
    assert len(set(after.rollout.number.tolist())) == 2
    _, report = step(after, {"rate": BOTH}, KEY, True)
    assert report.metrics["window_return"].tolist() == [6 + 7, 2 + 3]


def test_copies_are_bounded_and_it_is_said_where_one_is_lent(recwarn):
    pipeline = Steps()
    learner = host(Replayer(), pipeline, copies=2)
    states = jax.vmap(learner.init)(jax.random.split(KEY, 3))
    step = jax.jit(jax.vmap(learner.step, (0, None, None, None)))
    for _ in range(4):
        states, report = step(states, learner.hyperparams, KEY, True)
        jax.block_until_ready(report)
    assert pipeline.opened == 2 and learner.host.streams.opened == 2
    told = [str(w.message) for w in recwarn if "more seeds and lanes" in str(w.message)]
    assert len(told) == 1 and "copies of the environments (2)" in told[0]


def test_what_nobody_needs_is_closed():
    """Of two seeds with two lanes; then one seed stops, and then a lane is a fork."""
    pipeline = Steps()
    learner = host(Replayer(), pipeline)
    run = loop(learner, spsa({"rate": (0.1, 1.0)}, lanes=2))
    states = jax.vmap(run.init)(jax.random.split(KEY, 2))
    axes = LearnerState(0, 0, None)
    lanes = jax.vmap(learner.step, (axes, 0, None, None), (axes, 0))
    step = jax.jit(jax.vmap(lanes, (0, None, None, None)))
    for number in range(30):
        if number == 10:
            reasons = states.stop_reason.at[1].set(StopReason.CONVERGED)
            states = states._replace(stop_reason=reasons)
        active = states.stop_reason == StopReason.RUNNING
        after = step(states.learner, {"rate": BOTH}, KEY, True)[0]
        after = select(active, after, states.learner)
        if number > 20:
            numbers = after.rollout.number.at[:, 1].set(0)
            after = after._replace(rollout=Stream(numbers))
        states = states._replace(learner=after)
        learner.host.keep(states)
        opened = pipeline.opened - pipeline.closed
        assert opened == learner.host.streams.opened == (4 if number < 10 else 2)
        assert len(learner.host.slots) <= 1 + 2 * 3 and len(learner.host.memories) == 2


def test_the_return_is_that_of_episodes_over_several_windows():
    """Episodes of five steps in windows of eight, against a sum by hand."""
    agent = Replayer()
    seen = []
    agent.learn = lambda data: seen.append(data) or {}
    learner = counting(agent)
    state, told = learner.init(KEY), []
    for n in range(4):
        state, report = learner.step(
            state, {"rate": 0.5}, jax.random.fold_in(KEY, n), 1
        )
        told.append(float(report.metrics["return"]))
    rewards = np.concatenate([data.rewards for data in seen]).astype(np.float64)
    sums = rewards[:30].reshape(6, 5).sum(1)
    ended = [[0], [1, 2], [3], [4, 5]]  # by step 8, 16, 24, 32
    expected = [sums[which].mean() for which in ended]
    np.testing.assert_allclose(told, expected, rtol=1e-6)


# ----------------------------------------------------------------- seeds and memories


@pytest.fixture(scope="module")
def seeds():
    """Two seeds in one program with one agent object, and each of them by itself."""
    learner = counting()
    runs = loop(learner, fixed(), max_rounds=3, final_scores=1, windows_per_round=2)
    program = jax.jit(jax.vmap(runs.run))
    keys = jax.random.split(jax.random.key(5), 2)

    def run(*stopped):
        states = jax.vmap(runs.init)(keys)
        reasons = states.stop_reason.at[jnp.array(stopped, int)].set(
            StopReason.CONVERGED
        )
        return jax.block_until_ready(program(states._replace(stop_reason=reasons)))

    return learner, run(), [run(1), run(0)]


def weights(learner, state, seed):
    policy = jax.tree.map(lambda x: x[seed], state.learner.policy)
    return learner.host.agent_of(policy).weight.tobytes()


def test_two_seeds_of_one_agent_are_two_runs_apart(seeds):
    learner, both, apart = seeds
    assert np.isfinite(both.curve[:, :3]).all()
    for seed, alone in enumerate(apart):
        assert both.curve[seed].tobytes() == alone.curve[seed].tobytes()
        assert both.best.score[seed] == alone.best.score[seed]
        assert weights(learner, both, seed) == weights(learner, alone, seed)
    assert weights(learner, both, 0) != weights(learner, both, 1)


def test_each_run_has_a_replay_of_its_own_also_where_a_key_begins_two(seeds):
    learner, *_ = seeds
    assert sorted(learner.host.agent.seen) == sorted([8 * n for n in range(1, 7)] * 4)
    assert len(learner.host.memories) == 4


def test_first_weights_differ_by_seed_where_the_agent_can_be_reset(seeds):
    learner = counting()
    slots = jax.vmap(learner.init)(jax.random.split(KEY, 2)).policy.extras.slot
    assert slots.tolist() == [1, 2]

    class Plain(Replayer):
        reset = Replayer.__mro__[1].reset

    assert counting(Plain()).init(KEY).policy.extras.slot == 0


def test_lanes_share_the_replay_and_a_rollback_keeps_it():
    learner = counting(metrics=("rows",))
    first, state = windows(learner, 1)
    lanes, axes = forked(state)
    step = jax.vmap(learner.step, (axes, 0, None, None), (axes, 0))
    after, report = step(lanes, {"rate": BOTH}, KEY, True)
    assert report.metrics["rows"].tolist() == [16, 24]
    back = first._replace(memory=after.memory)  # weights and episodes of the beginning
    _, report = learner.step(back, {"rate": 0.5}, KEY, True)
    assert report.metrics["rows"] == 32
    learner.host.keep(learner.init(jax.random.key(1)))
    assert len(learner.host.memories) == 0


def test_an_agent_without_a_replay_has_no_memory_to_save():
    class Plain(Replayer):
        make_memory = Replayer.__mro__[1].make_memory

        def learn(self, episode_data):
            return {}

    learner = counting(Plain())
    states = windows(learner, 1)
    assert states[-1].memory == () and learner.host.agent.memory is None


def test_what_acting_remembers_is_kept_beside_the_episodes():
    """A carry that counts steps, with evaluations and another lane in between."""

    class Remembers(Replayer):
        def begin_episode(self, which):
            old = np.zeros(len(which)) if which.all() else self.carry
            self.carry = np.where(which, 0.0, old)

        def act_batch(self, observations, explore=True):
            carry = self.carry
            self.carry = carry + 1
            assert carry.tolist() == observations[:, 0].tolist()
            return np.zeros(len(carry), int), {"carry": carry}

        def learn(self, episode_data):
            seen.append(episode_data.extras["carry"].tolist())
            return {}

    seen = []
    learner = counting(Remembers())
    states = jax.vmap(learner.init)(jax.random.split(KEY, 2))
    for _ in range(2):
        states, _ = jax.vmap(learner.step, (0, None, None, None))(
            states, {"rate": 0.5}, KEY, True
        )
        jax.vmap(learner.evaluate, (0, None, None))(states.policy, {"rate": 0.5}, KEY)
    assert seen[0] == seen[1] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert seen[2] == seen[3] == [3, 4, 0, 1, 2, 3, 4, 0]


def test_an_evaluation_is_of_the_hyperparameters_it_is_asked_for():
    learner = host(Replayer(), Steps())
    state = learner.init(KEY)
    learner.step(state, {"rate": 2.0}, KEY, True)
    learner.evaluate(state.policy, {"rate": 0.25}, KEY)
    assert learner.host.agent.rate == 0.25


def test_a_loaded_agent_acts_on_one_or_many():
    class Remembers(Replayer):
        def begin_episode(self, which):
            old = np.zeros(len(which)) if which.all() else self.carry
            self.carry = np.where(which, 0, old)

        def act_batch(self, observations, explore=True):
            self.carry = self.carry + 1
            observations[:] = -1  # its own copy
            return self.carry + 10 * explore, {}

    player, shown = LoadedAgent(Remembers(), {"rate": 0.25}, 1.0), np.zeros((2, 1))
    assert player.agent.rate == 0.25
    assert [player.act_batch(shown).tolist() for _ in range(2)] == [[1, 1], [2, 2]]
    player.reset([True, False])
    assert player.act_batch(shown, explore=True).tolist() == [11, 13]
    with pytest.raises(ValueError, match=r"which must be \[B\] for the B=2 rows"):
        player.reset([True])
    with pytest.raises(ValueError, match="remembers 2 rows, got 1; call reset"):
        player.act(shown[0])
    player.reset()
    assert (player.act(shown[0]), player.act(shown[0])) == (1, 2) and not shown.any()


# -------------------------------------------------------------------- save and resume


def test_a_resume_is_exact_where_windows_are_fresh():
    """Weights, episodes and replay, in another process."""
    learner, other = counting(fresh=True), counting(fresh=True)
    *_, halfway = windows(learner, 3)
    saved = learner.host.save(halfway)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.host.load(saved)
    ends = []
    for each in (learner, other):
        *_, last = windows(each, 2, halfway)
        ends.append(each.host.agent_of(last.policy).weight.tobytes())
        assert each.host.agent.seen[-2:] == [32, 40]
    assert ends[0] == ends[1]


def test_a_resume_elsewhere_begins_fresh_episodes():
    learner, other = counting(), counting()
    *_, state = windows(learner, 2)
    saved = learner.host.save(state)
    with pytest.warns(RuntimeWarning, match="can not be resumed.*fresh=True") as told:
        other.host.load(saved)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.host.load(saved)  # in this process they are still there
        other.host.load({n: a for n, a in saved.items() if n != "streams"})
    for each, expected in ((learner, 1), (other, 0)):  # after two windows of 8, or none
        seen = []
        each.host.agent.learn = lambda data, seen=seen: seen.append(data) or {}
        after, _ = each.step(state, {"rate": 0.5}, KEY, True)
        assert seen[0].observations[0, 0] == expected
        assert after.rollout.number > state.rollout.number


def test_a_checkpoint_without_the_replay_leaves_it_out():
    learner = counting()
    *_, state = windows(learner, 2)
    names = [name.split("/")[0] for name in learner.host.save(state)]
    assert names == ["agent", "arrays", "memory", "masked", "streams"]
    names = [
        name.split("/")[0] for name in learner.host.save(state._replace(memory=()))
    ]
    assert names == ["agent", "arrays", "masked", "streams"]


def test_a_run_in_a_folder_goes_on_with_its_replay(tmp_path):
    quiet = {"progress": False, "checkpoint_seconds": 0.0}
    budget = {"max_rounds": 4, "final_scores": 1, "windows_per_round": 1}
    learner, other = counting(), counting()
    first = loop(learner, fixed(), **budget)
    result = train(first, directory=tmp_path / "run", max_seconds=1e-9, **quiet)
    played = int(result.state.round[0])
    assert result.paused and 0 < played < 4
    with pytest.warns(RuntimeWarning, match="can not be resumed"):
        last = resume(tmp_path / "run", loop(other, fixed(), **budget), **quiet)
    assert last.state.round[0] == 4 and np.isfinite(last.scores).all()
    assert other.host.agent.seen == [8 * (n + 1) for n in range(played, 4)]
    player = load(tmp_path / "run", loop=loop(counting(), fixed(), **budget))
    best = jax.tree.map(lambda x: x[0], last.state.best)
    agent = other.host.agent_of(best.policy)
    assert isinstance(player, LoadedAgent) and player.score == last.scores[0]
    np.testing.assert_array_equal(player.agent.weight, agent.weight)
    assert player.act(np.zeros(1)) == agent.act(np.zeros(1), explore=False)


# ------------------------------------------------------------------- windows per round


class Sized(Steps):
    window_steps, time_limit = 100, 50


@pytest.mark.parametrize(
    ("episodes", "options", "expected"),
    [
        (8, {}, 23),  # 8 * 50 of 8 * 50 + 2300 are 14.8 %
        (1, {}, 3),
        (8, {"time_limit": None}, 1),
        (8, {"window_steps": 10_000}, 1),
    ],
)
def test_evaluation_takes_at_most_its_share(episodes, options, expected):
    pipeline = Sized()
    for name, value in options.items():
        setattr(pipeline, name, value)
    learner = host(Replayer(), pipeline, evaluation_episodes=episodes)
    assert learner.windows_per_round == expected
    if options == {}:
        played = episodes * 50
        assert played / (played + expected * 100) <= 0.15
        assert played / (played + (expected - 1) * 100) > 0.15


def test_a_round_has_the_windows_that_the_learner_says(monkeypatch):
    monkeypatch.setattr(rounds, "step", lambda parts, _: parts.windows_per_round)
    learner = host(Replayer(), Sized(), evaluation_episodes=1)
    state: Any = None
    assert loop(learner, fixed()).step(state) == 3
    assert loop(learner, fixed(), windows_per_round=1).step(state) == 1


def test_a_source_for_one_lane_says_so():
    pipeline = Steps(copies=1)
    pipeline.lanes = 1
    learner = host(Replayer(), pipeline)
    loop(learner, fixed())
    with pytest.raises(
        ValueError, match="2 lanes.*can serve only 1: it can not be cop"
    ):
        loop(learner, spsa({"rate": (0.1, 1.0)}, lanes=2))
