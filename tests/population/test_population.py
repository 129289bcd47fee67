"""Whole populations, of members that live for sixty rounds and cost nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checks import OptionError
from optix.population.meta import meta_controller
from optix.population.population import population
from optix.population.spawning import distance, mixed, reach_of
from optix.population.state import joined
from optix.run.programs import with_limits
from optix.trees import take
from optix.types import Decision, Event, Phase, Policy, StopReason
from tests.numpy_agent import StillAgent
from tests.population.members import BOX, LIFE, STEPS, played, rate_learner, rate_loop

PLACES, SPAWNS = 3, 5
ROUNDS = (1 + SPAWNS) * LIFE + 2  # the last ones find a run that has stopped


@pytest.fixture(scope="module")
def run():
    return population(rate_loop(), PLACES, bounds=BOX, max_spawns=SPAWNS)


@pytest.fixture(scope="module")
def play(run):
    return jax.jit(played(run, ROUNDS))


@pytest.fixture(scope="module")
def course(run, play):
    """A whole run: the states before and after, and its reports as NumPy arrays."""
    before = run.init(jax.random.key(3))
    after, reports = play(before)
    return before, after, jax.device_get(reports)


def births(reports):
    """Return (round, place, rate) of every member that began after the first round."""
    found = []
    for round_, place in zip(*np.nonzero(reports.members.child >= 0), strict=True):
        child = reports.members.child[round_, place]
        rate = reports.hyperparams["rate"][round_ + 1, child]
        found.append((round_, child, rate))
    return found


def test_a_member_is_a_run_of_the_loop_to_the_bit(course):
    before, _, reports = course
    alone = rate_loop()
    key = jax.random.key(3)
    state = alone.init(key)
    assert jax.tree.all(
        jax.tree.map(lambda x, y: bool((x == y).all()), take(joined(before), 0), state)
    )
    state, own = jax.jit(played(alone, LIFE))(state)
    assert StopReason(int(state.stop_reason)) == StopReason.NO_SIGNAL
    members = reports.members
    np.testing.assert_array_equal(members.score[:LIFE, 0], own.score)
    np.testing.assert_array_equal(members.verdict[:LIFE, 0], own.verdict)
    assert members.trained[:LIFE, 0].all()
    assert not members.trained[LIFE:].all(1).any()


def test_one_begins_where_one_ends_and_the_budget_of_spawns_holds(course):
    _, after, reports = course
    ends = np.arange(1, SPAWNS + 2) * LIFE - 1
    spawned = reports.events & Event.SPAWN > 0
    assert np.flatnonzero(spawned).tolist() == ends[:-1].tolist()
    assert after.spawns == SPAWNS
    decisions = reports.members.decision
    assert (decisions[ends[:-1]].max(1) == Decision.SPAWN).all()
    assert decisions[ends[-1]].max() == Decision.STOP
    assert (decisions != Decision.NONE).sum() == SPAWNS + 1
    assert after.stop_reason == StopReason.SETTLED
    assert after.round == (1 + SPAWNS) * LIFE
    assert after.env_steps == (1 + SPAWNS) * LIFE * STEPS
    assert after.phase == Phase.STOPPED
    stopped = reports.events & Event.STOPPED > 0
    assert np.flatnonzero(stopped).tolist() == [ends[-1]]


def test_places_hold(course):
    _, after, reports = course
    members = reports.members
    assert members.alive.shape == (ROUNDS, PLACES)
    assert (members.trained.sum(1)[: (1 + SPAWNS) * LIFE] == 1).all()
    # two free places, then somebody has to leave each time
    pruned = np.flatnonzero(reports.events & Event.PRUNE > 0)
    ends = np.arange(1, SPAWNS + 1) * LIFE - 1
    assert pruned.tolist() == ends[PLACES - 1 :].tolist()
    assert after.alive.all()


def test_who_leaves_is_the_lowest_and_never_the_best(course):
    _, _, reports = course
    rates = [0.5]
    places = {0: 0.5}
    for _, place, rate in births(reports):
        if len(places) == PLACES:
            assert place == min(places, key=lambda p: places[p])
        places[int(place)] = rate
        rates.append(rate)
    np.testing.assert_allclose(reports.best_score[-1], max(rates))


def test_the_best_of_all_is_kept(course):
    _, after, reports = course
    scores = np.where(reports.members.trained, reports.lane_scores, -np.inf).max(1)
    running = np.maximum.accumulate(scores[: (1 + SPAWNS) * LIFE])
    np.testing.assert_array_equal(reports.best_score[: len(running)], running)
    np.testing.assert_array_equal(reports.score[: len(running)], scores[: len(running)])
    better = np.flatnonzero(np.diff(running, prepend=-np.inf) > 0)
    improved = np.flatnonzero(reports.events & Event.IMPROVEMENT > 0)
    assert improved.tolist() == better.tolist()
    assert after.best.hyperparams["rate"] == after.best.score == running[-1]
    assert reports.centre["rate"][-1] == after.best.score
    # of equals the newest, as in a loop: the round in which it last had that score
    last = np.flatnonzero(scores[: len(running)] == running[-1])[-1]
    assert after.best.round == last


def test_spawns_begin_near_the_best_and_further_out_after_failures(course):
    _, _, reports = course
    best, barren, seen = 0.5, 0, set()
    for round_, place, rate in births(reports):
        reach = reports.members.reach[round_ + 1, place]
        parent = reports.members.parent[round_ + 1, place]
        assert reach == min(barren, 2)
        width = (0.25, 0.5, 1.0)[reach]
        assert max(0.0, best - width) <= rate <= min(1.0, best + width)
        assert (parent == -1) == (reach == 2)
        if parent >= 0:  # the place of the best one by then
            assert reports.members.best_score[round_, parent] == best
        barren = 0 if rate > best else barren + 1
        best, _ = max(best, rate), seen.add(int(reach))
    assert len(seen) > 1


def test_weights_of_a_spawn_are_drawn_towards_fresh_ones():
    old = Policy(
        {"w": jnp.array([1.0, 2.0])}, jnp.int32(5), jnp.float32(1), jnp.int32(8)
    )
    new = Policy(
        {"w": jnp.array([3.0, 0.0])}, jnp.int32(6), jnp.float32(0), jnp.int32(9)
    )
    near = mixed(old, new, jnp.float32(0.25))
    np.testing.assert_allclose(near.params["w"], [1.5, 1.5])
    assert (near.structure, near.opt_state, near.extras) == (5, 0, 8)
    far = mixed(old, new, jnp.float32(1.0))
    assert (far.structure, far.opt_state, far.extras) == (6, 0, 9)
    np.testing.assert_array_equal(far.params["w"], new.params["w"])
    broken = Policy({"w": jnp.full(2, jnp.nan)}, old.structure, 1.0, jnp.int32(8))
    assert jnp.isfinite(mixed(broken, new, jnp.float32(1.0)).params["w"]).all()
    assert [float(x) for x in distance(reach_of(((0, 0.5), (1, 1))), jnp.int32(7))] == [
        1.0,
        1.0,
        1.0,
    ]


def test_seeds_side_by_side_are_those_one_by_one(run, play):
    keys = jax.random.split(jax.random.key(8), 2)
    together = jax.jit(jax.vmap(played(run, ROUNDS)))(jax.lax.map(run.init, keys))
    finish = jax.jit(run.finish)
    finished = jax.jit(jax.vmap(run.finish))(together[0])
    for seed in range(2):
        alone = play(run.init(keys[seed]))
        same(take(together[0], seed), alone[0], rtol=1e-6)  # a batch rounds otherwise
        trained = np.asarray(alone[1].members.trained)
        for name in ("trained", "alive", "decision", "child", "weight", "reach"):
            a, b = (
                getattr(r.members, name) for r in (take(together[1], seed), alone[1])
            )
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(together[1].events[seed], alone[1].events)
        np.testing.assert_array_equal(
            np.where(trained, together[1].lane_scores[seed], 0),
            np.where(trained, alone[1].lane_scores, 0),
        )
        same(take(finished, seed), finish(alone[0]), rtol=1e-6)


def same(a, b, rtol=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=rtol)


def test_a_state_that_has_stopped_stays_as_it_is(run, play, course):
    _, after, _ = course
    again, reports = play(after)
    same(again, after)
    assert not np.asarray(reports.events).any()


def test_finish_scores_all_on_the_same_unseen_keys(course):
    # noise that depends on the key alone: only common keys find the better one
    def score(policy, hyperparams, key):
        return hyperparams["rate"] + 100 * jax.random.normal(key)

    _, after, _ = course
    noisy = population(rate_loop(score=score), PLACES, bounds=BOX)
    lucky = after.members.best._replace(
        score=jnp.array([1e3, 2e3, 3e3]), round=jnp.zeros(3, jnp.int32)
    )
    state = after._replace(members=after.members._replace(best=lucky))
    ended = jax.jit(noisy.finish)(state)
    rates = np.asarray(after.members.best.hyperparams["rate"])
    assert ended.best.hyperparams["rate"] == rates.max()
    assert ended.tuner["rate"] == rates.max()
    gaps = np.asarray(ended.members.best.choice_score)
    np.testing.assert_allclose(gaps - gaps[0], rates - rates[0], atol=1e-4)
    assert ended.best.score != ended.best.choice_score  # of other keys
    born = np.asarray(after.origins.round)
    best = int(np.argmax(rates))
    assert ended.best.round in (born[best], born[best] + LIFE - 1, after.best.round)


def test_the_budget_of_steps_is_of_all_members_together(play):
    two = population(
        rate_loop(), 3, bounds=BOX, first_policies=2, max_env_steps=7 * 2 * STEPS - 1
    )
    after, reports = play(two.init(jax.random.key(0)))
    assert after.stop_reason == StopReason.MAX_ENV_STEPS
    assert after.env_steps == 7 * 2 * STEPS == reports.env_steps[-1]
    assert np.asarray(reports.members.trained).sum() == 7 * 2


def test_first_members_have_weights_of_their_own_and_end_together(play):
    several = population(rate_loop(), 3, bounds=BOX, first_policies=2, max_spawns=3)
    before = several.init(jax.random.key(0), {"rate": 0.25})
    weights = np.asarray(before.learner.policy.params["weights"])
    assert len({row.tobytes() for row in weights[:2]}) == 2
    assert before.members.best.hyperparams["rate"][:2].tolist() == [0.25, 0.25]
    after, reports = play(before)
    decisions = np.asarray(reports.members.decision)
    assert decisions[LIFE - 1].tolist() == [Decision.SPAWN, Decision.SPAWN, 0]
    children = np.asarray(reports.members.child)[LIFE - 1]
    assert sorted(children[:2]) == [1, 2]  # the free one, then the one that is not best
    assert np.asarray(reports.members.trained)[LIFE].tolist() == [False, True, True]
    assert after.spawns == 3


def test_a_member_that_is_not_finite_never_wins_and_is_no_parent(run, play):
    after, reports = play(run.init(jax.random.key(5), {"sound": 0.6}))
    reports = jax.device_get(reports)
    broken = np.isin(
        reports.members.stop_reason, [StopReason.NON_FINITE, StopReason.NON_FINITE_DATA]
    )
    ended = reports.members.trained & broken
    assert ended.any()
    assert (reports.members.decision[ended] == Decision.PRUNE).all()
    assert (reports.events[ended.any(1)] & Event.PRUNE > 0).all()
    assert np.isfinite(reports.best_score).all()
    assert 0 < float(after.best.hyperparams["rate"]) <= 0.6
    for round_, place in zip(*np.nonzero(ended), strict=True):
        child = reports.members.child[round_, place]
        if child >= 0:
            assert reports.members.parent[round_ + 1, child] != place
        assert child >= 0 or not reports.members.alive[round_, place]
    np.testing.assert_allclose(reports.members.weight.sum(1), 1, rtol=1e-5)
    for leaf in jax.tree.leaves(after.best):
        assert np.isfinite(leaf).all()
    assert after.stop_reason == StopReason.SETTLED


def test_where_nothing_is_ever_finite_the_run_says_so(run, play):
    state, _ = play(run.init(jax.random.key(0), {"sound": -1.0}))
    assert state.stop_reason == StopReason.NON_FINITE
    assert (state.best.score, state.spawns) == (-np.inf, SPAWNS)
    assert not np.asarray(state.alive).any()


@pytest.fixture(scope="module")
def odd():
    """A single place, patience, and a meta-controller that mostly lets go on."""

    def decide(figures, left):
        usual = meta_controller().decide(figures, left)
        return jnp.where(left == 9, Decision.GO_ON, usual)

    return population(
        rate_loop(),
        1,
        meta=meta_controller()._replace(decide=decide),
        bounds={},
        max_spawns=9,
        patience=2,
        max_rounds=4 * LIFE,
    )


def test_going_on_patience_and_a_single_place(odd):
    run = jax.jit(odd.run)
    state = run(odd.init(jax.random.key(0)))
    assert (state.stop_reason, state.spawns) == (StopReason.MAX_ROUNDS, 0)
    assert (state.round, state.members.round[0]) == (4 * LIFE, 4 * LIFE)

    fewer = odd.init(jax.random.key(0))._replace(max_spawns=jnp.int32(8))
    state = run(fewer)
    assert (state.spawns, state.barren) == (2, 2)  # all of the same score
    assert state.stop_reason == StopReason.SETTLED
    assert (state.round, state.alive.tolist()) == (3 * LIFE, [True])

    none = fewer._replace(max_spawns=jnp.int32(0))
    state = run(none)
    assert (state.stop_reason, state.round) == (StopReason.NO_SIGNAL, LIFE)


def test_a_target_ends_all_and_a_higher_one_goes_on(run, play):
    state = run.init(jax.random.key(3))
    state = state._replace(limits=state.limits._replace(target_score=jnp.float32(0.5)))
    ended, reports = play(state)
    assert (ended.stop_reason, ended.round) == (StopReason.TARGET_REACHED, 3)
    assert not (np.asarray(reports.members.decision) != 0).any()
    lifted = take(
        with_limits(jax.tree.map(lambda x: x[None], ended), {"target_score": 2.0}), 0
    )
    assert lifted.active
    on, _ = play(lifted)
    assert on.stop_reason == StopReason.SETTLED
    assert on.spawns == SPAWNS


def test_at_once_is_in_turn(run, course):
    before, after, _ = course
    at_once = population(
        rate_loop(), PLACES, bounds=BOX, max_spawns=SPAWNS, in_turn=False
    )
    ended = jax.jit(played(at_once, ROUNDS))(before)[0]
    same(ended, after, rtol=1e-6)  # a batch rounds otherwise


def test_restart_begins_a_population_from_a_policy(run, course):
    _, after, _ = course
    policy = after.best.policy._replace(params={"weights": jnp.full(3, 40.0)})
    state = run.restart(after, policy, {"rate": 0.75}, jax.random.key(1))
    assert (state.round, state.spawns, state.alive.sum()) == (0, 0, 1)
    assert state.max_spawns == SPAWNS
    assert state.learner.policy.params["weights"][0].tolist() == [[40.0] * 3]
    assert state.members.tuner["rate"][0] == 0.75
    assert state.members.active.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_policies": 0}, "max_policies must be an integer >= 1, got 0"),
        ({"max_policies": True}, "max_policies"),
        ({"first_policies": 4}, "first_policies must be at most 3"),
        ({"first_policies": 0}, "first_policies"),
        ({"max_spawns": -1}, "max_spawns"),
        ({"patience": 0}, "patience"),
        ({"max_rounds": 0}, "max_rounds"),
        ({"max_env_steps": 1.5}, "max_env_steps"),
        ({"target_score": "high"}, "target_score"),
        ({"in_turn": 1}, "in_turn must be True or False"),
        ({"meta": "strict"}, "meta must be a MetaController"),
        ({"bounds": {"ratee": (0, 1)}}, "did you mean 'rate'"),
        ({"bounds": {"rate": (1, 0)}}, "low < high"),
        ({"bounds": [1]}, "bounds"),
        ({"reach": ()}, "reach"),
        ({"reach": ((2, 0.5),)}, "a share of reach"),
        ({"reach": ((0.5, -1),)}, "a width of reach"),
        ({"reach": ((0.5, 0.5), (0.2, 0.5))}, "nearer"),
        ({"reach": 3}, "reach"),
        ({"reach": ((0.5,),)}, "reach"),
    ],
)
def test_wrong_options_are_refused(options, words):
    options = {"max_policies": 3, **options}
    with pytest.raises(OptionError, match=words):
        population(rate_loop(), **options)


def test_what_is_no_loop_is_refused():
    with pytest.raises(OptionError, match="loop must be a Loop"):
        population(rate_learner())


class Outside(StillAgent):
    """An agent of no framework that a population knows."""


def test_an_agent_outside_jax_is_refused():
    loop = rate_loop()
    outside = loop._replace(learner=loop.learner._replace(host=Outside()))
    with pytest.raises(OptionError, match="whose agent is outside .Outside.; take an"):
        population(outside)
