"""Populations of real agents: what a spawn takes over from the best one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.population.population import population
from optix.trees import take
from optix.types import Event, StopReason
from tests.population.members import played

SMALL = {
    **{"num_envs": 2, "num_steps": 4, "hidden": (4,), "evaluation_episodes": 1},
    **{"max_rounds": 1, "final_scores": 2},  # a member lives for a round
}
CASES = {
    "recurrent": {"agent": "recurrent_ppo", "normalize_observations": True},
    "replay": {"agent": "dqn", "capacity": 32, "batch_size": 4, "learning_starts": 4},
}
ROUNDS = 3


def of(name):
    loop = optix.make("CartPole-v1", **SMALL, **CASES[name])
    return population(
        loop,
        3,
        bounds={"learning_rate": (1e-4, 1e-2)},
        reach=((0.25, 0.1), (1, 1)),
        patience=9,
    )


@pytest.fixture(scope="module", params=CASES)
def course(request):
    """The states of three rounds: the beginning, and after each."""
    run = of(request.param)
    step = jax.jit(run.step)
    states, reports = [run.init(jax.random.key(1))], []
    for _ in range(ROUNDS):
        state, report = step(states[-1])
        states.append(state)
        reports.append(report)
    return request.param, run, states, reports


def test_each_round_ends_a_member_and_begins_another(course):
    _, _, states, reports = course
    for turn, report in enumerate(reports):
        assert report.events & Event.SPAWN
        assert np.asarray(report.members.trained).sum() == 1
        assert states[turn + 1].env_steps == 8 * (turn + 1)
        assert np.isfinite(report.score)
    assert states[-1].spawns == ROUNDS


def test_a_spawn_begins_near_the_best_policy(course):
    _, run, states, _ = course
    state = states[1]  # the first one was spawned near
    best, new = state.best.policy, take(take(state.learner.policy, 1), 0)
    assert (state.origins.reach[1], state.origins.parent[1]) == (0, 0)
    for x, y in zip(
        jax.tree.leaves(new.extras), jax.tree.leaves(best.extras), strict=True
    ):
        np.testing.assert_array_equal(x, y)  # normalisers, counters, target networks
    flat = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(p)])
        for p in (new.params, best.params)
    ]
    assert np.isfinite(flat[0]).all()
    assert 0.5 < np.corrcoef(*flat)[0, 1] < 0.999
    fresh = run.learner.init(jax.random.key(0)).policy
    for x, y in zip(
        jax.tree.leaves(new.opt_state), jax.tree.leaves(fresh.opt_state), strict=True
    ):
        np.testing.assert_array_equal(x, y)  # the optimizer starts afresh
    rate = state.members.tuner["learning_rate"][1]
    assert 0 < abs(np.log(rate / 5e-4)) <= 0.1 * np.log(100) + 1e-4 or rate != 5e-4


def test_each_place_has_a_replay_of_its_own(course):
    name, _, states, _ = course
    memories = [state.learner.memory for state in states]
    if name != "replay":
        assert memories[0] == ()
        return

    def rows(memory, place):
        return np.concatenate(
            [np.ravel(x).astype(float) for x in jax.tree.leaves(take(memory, place))]
        )

    empty = rows(memories[0], 2)
    assert (rows(memories[1], 0) != empty).any()
    # near the best one it goes on with the best one's replay
    np.testing.assert_array_equal(rows(memories[1], 1), rows(memories[1], 0))
    np.testing.assert_array_equal(rows(memories[1], 2), empty)
    assert (rows(memories[2], 1) != rows(memories[1], 1)).any()
    np.testing.assert_array_equal(rows(memories[2], 0), rows(memories[1], 0))
    reach = int(states[2].origins.reach[2])
    if reach == 1:  # with fresh weights an empty one
        np.testing.assert_array_equal(rows(memories[2], 2), empty)


def test_the_whole_is_one_jitted_function_that_ends(course):
    _, run, states, _ = course
    short = states[0]._replace(max_spawns=jnp.int32(2))
    ended = jax.jit(run.run)(short)
    assert ended.stop_reason == StopReason.SETTLED
    assert (ended.round, ended.spawns) == (3, 2)
    assert np.isfinite(ended.best.score)


def test_members_act_in_environments_of_gymnasium():
    run = population(
        optix.make("gymnasium:CartPole-v1", agent="ppo", **SMALL), 2, max_spawns=2
    )
    state, reports = jax.jit(played(run, 4))(run.init(jax.random.key(0)))
    assert (state.stop_reason, state.round) == (StopReason.SETTLED, 3)
    assert np.isfinite(np.asarray(reports.score[:3])).all()
    assert (np.asarray(reports.best_score) >= 1).all()
