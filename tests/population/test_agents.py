"""A population of real agents: recurrent, with normalisers, on Gymnasium."""

import jax
import numpy as np
import pytest

import optix
from optix.population.population import population
from optix.trees import take
from optix.types import Event, StopReason

SMALL = {
    **{"num_envs": 2, "num_steps": 4, "sequence_length": 4, "num_minibatches": 1},
    **{"hidden": (4,), "evaluation_episodes": 1, "final_scores": 2},
    "max_rounds": 1,  # a member lives for a round
}
ROUNDS = 3


@pytest.fixture(scope="module")
def course():
    """The population, its states before and after each round, and the reports."""
    options = {"agent": "recurrent_ppo", "tuner": "fixed", **SMALL}
    loop = optix.make("gymnasium:CartPole-v1", **options)
    run = population(
        loop,
        2,
        bounds={"learning_rate": (1e-4, 1e-2)},
        reach=((0.25, 0.1), (1, 1)),
        max_spawns=ROUNDS - 1,
    )
    step = jax.jit(run.step)
    states, reports = [run.init(jax.random.key(1))], []
    for _ in range(ROUNDS):
        state, report = step(states[-1])
        states.append(state)
        reports.append(report)
    return run, states, reports


def test_each_round_ends_a_member_and_begins_another(course):
    _, states, reports = course
    for turn, report in enumerate(reports):
        assert bool(report.events & Event.SPAWN) == (turn < ROUNDS - 1)
        assert np.asarray(report.members.trained).sum() == 1
        assert states[turn + 1].env_steps == 8 * (turn + 1)
        assert report.score >= 1
    assert states[-1].stop_reason == StopReason.SETTLED


def test_a_spawn_begins_near_the_best_policy(course):
    run, states, _ = course
    state = states[1]
    best, new = state.best.policy, take(take(state.learner.policy, 1), 0)
    assert (state.origins.reach[1], state.origins.parent[1]) == (0, 0)
    extras = jax.tree.leaves(best.extras)  # normalisers
    assert any(np.asarray(x).any() for x in extras)
    for x, y in zip(jax.tree.leaves(new.extras), extras, strict=True):
        np.testing.assert_array_equal(x, y)
    flat = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(p)])
        for p in (new.params, best.params)
    ]
    assert np.isfinite(flat[0]).all()
    assert 0.5 < np.corrcoef(*flat)[0, 1] < 0.999
    fresh = take(states[0].learner.policy.opt_state, 0)
    for x, y in zip(
        jax.tree.leaves(new.opt_state), jax.tree.leaves(take(fresh, 0)), strict=True
    ):
        np.testing.assert_array_equal(x, y)  # the optimizer starts afresh
    rate = float(state.members.tuner["learning_rate"][1])
    default = run.learner.hyperparams["learning_rate"]
    assert 0 < abs(np.log(rate / default)) <= 0.1 * np.log(100) + 1e-4


def test_what_a_member_remembers_is_its_own(course):
    _, states, _ = course
    carries = [
        np.concatenate(
            [
                np.ravel(x)
                for x in jax.tree.leaves(take(states[2].learner.rollout.carry, place))
            ]
        )
        for place in range(2)
    ]
    assert carries[0].any()
    assert (carries[0] != carries[1]).any()
