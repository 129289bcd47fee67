"""A population in the loop: whose score counts, who is copied, what lanes share."""

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.loop.loop import loop
from optix.registry import TUNERS
from optix.tuners.adaptive import adaptive
from optix.tuners.pbt import pbt, stratified
from optix.types import Event, LearnerState, Policy, Signals
from tests.numpy_agent import NumpyAgent
from tests.toys import replay_learner, report, target_learner

RATE = {"rate": (0.0, 1.0)}
TINY = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 1}


def climbing_learner(fails_above=2.0):
    """A policy gains what its rate is near .8 by, each round; others are not finite."""

    def init(key):
        return LearnerState(Policy({"sum": 0.01 * jax.random.uniform(key)}))

    def step(state, hyperparams, key, active):
        del active
        rate = hyperparams["rate"]
        gained = 1 - jnp.abs(rate - 0.8) + 0.01 * jax.random.normal(key)
        params = {"sum": state.policy.params["sum"] + gained}
        finite = rate <= fails_above
        params = jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), params)
        return state._replace(policy=Policy(params)), report(finite=finite, rate=rate)

    return target_learner()._replace(
        init=init,
        begin=lambda policy, key: (),
        step=step,
        evaluate=lambda policy, hyperparams, key: policy.params["sum"],
    )


@pytest.fixture(scope="module")
def climb():
    """16 seeds from .1 for 40 rounds: (above which rate it fails) -> (state, reports)."""

    @jax.jit
    def run(fails_above):
        each = loop(climbing_learner(fails_above), pbt(RATE), max_rounds=1000)

        def one(key):
            state = each.init(key, {"rate": 0.1})
            return jax.lax.scan(lambda s, _: each.step(s), state, length=40)

        return jax.vmap(one)(jax.random.split(jax.random.key(0), 16))

    return run


def test_weights_are_copied_with_what_they_were_trained_by(climb):
    state, told = climb(2.0)
    rates = told.centre["rate"][:, -1]
    assert (np.abs(rates - 0.8) < 0.15).mean() > 0.9, rates
    # who began at .1 has gained .3 a round; none but copies come near what .8 gives
    sums = state.learner.policy.params["sum"]
    assert (sums.min(1) > 40 * 0.6).all(), sums
    # lane 0 is the run: its score, and its policy at the end
    np.testing.assert_array_equal(told.score, told.lane_scores[..., 0])
    np.testing.assert_allclose(told.best_score[:, -1], told.score.max(1))


def test_lanes_that_diverge_never_lead_and_are_never_copied(climb):
    state, told = climb(0.5)
    assert jnp.isfinite(state.learner.policy.params["sum"]).all()
    assert jnp.isfinite(told.score).all()  # lane 0 never diverged
    assert (told.centre["rate"] <= 0.5).all()
    assert ((told.events & Event.NON_FINITE) > 0).any()  # others did
    assert (np.abs(told.centre["rate"][:, -1] - 0.5) < 0.15).mean() > 0.8


def test_the_first_population_is_spread_over_the_box():
    tuner = pbt({"a": (0.0, 1.0), "b": (1e-4, 1.0)}, population=6)
    state = tuner.init({"a": 0.25, "b": 1e-2}, jax.random.key(0))
    np.testing.assert_allclose(state.position[0], [0.25, 0.5], atol=1e-6)
    for side in range(2):
        parts = np.floor(5 * np.asarray(state.position[1:, side])).astype(int)
        assert sorted(parts) == [0, 1, 2, 3, 4]
    seeds = jax.vmap(lambda key: stratified(key, 3, 1))(
        jax.random.split(jax.random.key(1), 2000)
    )
    np.testing.assert_allclose(seeds.mean((0, 1)), 0.5, atol=0.01)


def test_a_loser_goes_on_from_the_winner_with_other_settings():
    tuner = pbt(RATE, population=2, anew=0.0, ready=1)
    state = tuner.init({"rate": 0.5}, jax.random.key(0))
    scores = [(1.0, 3.0), (1.1, 3.1)]  # at first nobody knows what scores vary by
    for score in scores:
        before = state.position
        state, parents = tuner.tell(state, Signals(jnp.array(score)), jax.random.key(1))
    np.testing.assert_array_equal(parents, [1, 1])
    np.testing.assert_array_equal(state.position[0], before[1])
    distance = np.abs(state.position[1] - before[1])
    np.testing.assert_allclose(distance, np.log(2) / np.log(1000), rtol=1e-4)
    equal = tuner.init({"rate": 0.5}, jax.random.key(0))
    for key in jax.random.split(jax.random.key(2), 3):
        after, parents = tuner.tell(equal, Signals(jnp.ones(2)), key)
        np.testing.assert_array_equal(parents, [0, 1])  # of equals none is replaced
        np.testing.assert_array_equal(after.position, equal.position)
        equal = after


def test_alone_it_goes_back_to_the_best_policy_with_other_settings():
    tuner = pbt(RATE, population=1, anew=0.0)
    state, back = tuner.init({"rate": 0.5}, jax.random.key(0)), []
    for score in (1.0, 1.1, 2.0, 2.1, 0.5, 0.4):  # trials of two rounds
        state, parents = tuner.tell(
            state, Signals(jnp.array([score])), jax.random.key(1)
        )
        back.append(int(parents[0]))
    assert back == [0, 0, 0, 0, 0, 1]
    assert tuner.centre(state)["rate"] == 0.5 != tuner.ask(state)["rate"][0]


@pytest.mark.parametrize("name", sorted(set(TUNERS) - {"fixed", "trust"}))
def test_every_name_tunes_an_agent_with_a_replay(name):
    """Traced only: one memory for all lanes, whichever they are."""
    sizes = {"batch_size": 4, "capacity": 256, "learning_starts": 4, **TINY}
    run = optix.make("CartPole-v1", "dqn", tuner=name, one_copy=True, **sizes)
    state, told = jax.eval_shape(lambda key: run.step(run.init(key)), jax.random.key(0))
    assert told.lane_scores.shape == (run.tuner.lanes,)
    assert state.learner.memory.replay.size.shape == ()


def test_a_population_shares_one_replay_and_goes_on_bit_for_bit():
    run = loop(replay_learner(90, lanes=3), pbt({"rate": (1e-3, 0.1)}, population=3))
    step, states = jax.jit(lambda state: run.step(state)[0]), []
    state = run.init(jax.random.key(0))
    for _ in range(6):
        states.append(state := step(state))
    rows, cursor = state.learner.memory
    assert int(cursor) == 6 * 3 * 10
    # each lane has seen what no other has
    assert len(np.unique(np.asarray(rows), axis=0)) == 90
    again = jax.device_put(jax.device_get(states[2]))
    chex.assert_trees_all_equal(step(step(step(again))), state)


def test_a_population_of_host_agents():
    pipeline = BatchPipeline(lambda: gymnasium.make("CartPole-v1"), window_size=40)
    learner = host(NumpyAgent(), pipeline, evaluation_episodes=1)
    tuner = pbt({"learning_rate": (0.1, 10.0)}, population=3)
    run = loop(learner, tuner, windows_per_round=1)
    step = jax.jit(run.step)
    state = run.init(jax.random.key(0))
    for _ in range(4):
        state, told = step(state)
    assert jnp.isfinite(told.lane_scores).all() and int(state.env_steps) == 4 * 3 * 40
    assert len(set(told.hyperparams["learning_rate"].tolist())) == 3


def test_adaptive_leaves_the_rate_to_the_divergence_where_it_is_told():
    tuner = adaptive({"learning_rate": (1e-6, 1e-1), "clip_ratio": (0.05, 0.5)})
    state = tuner.init({"learning_rate": 1e-6, "clip_ratio": 0.2}, jax.random.key(0))
    asked = tuner.ask(state)
    for name, apart in (("learning_rate", False), ("clip_ratio", True)):
        assert (asked[name][0] != asked[name][1]) == apart
    metrics = {"kl": jnp.array([1e-9, 1e-9])}
    told = Signals(jnp.array([1.0, 2.0]), hyperparams=asked, metrics=metrics)
    after, parents = tuner.tell(state, told, jax.random.key(1))
    np.testing.assert_allclose(tuner.ask(after)["learning_rate"], 8e-6, rtol=1e-4)
    np.testing.assert_array_equal(parents, [1, 1])
    # and probes it like any other where it is not
    other, _ = tuner.tell(state, told._replace(metrics={}), jax.random.key(1))
    assert len(set(tuner.ask(other)["learning_rate"].tolist())) == 2
