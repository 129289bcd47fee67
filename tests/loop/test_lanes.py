"""The lanes of a round: what each sees, which of them count, and how they differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.loop.loop import loop
from optix.make import make
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import LearnerState, Policy, Signals, Transform, Tuner
from tests.toys import replay_learner, report, target_learner

RATE = {"rate": (0.0, 1.0)}


def three(**options):
    """A tuner of three lanes with rates of their own, which all go on from the first."""
    rates = jnp.array([0.2, 0.5, 0.8])
    return Tuner(
        lanes=3,
        bounds=RATE,
        init=lambda base, key: (base, {"seen": jnp.zeros(3)}),
        ask=lambda state: (
            {**{n: jnp.full(3, v) for n, v in state[0].items()}} | {"rate": rates}
        ),
        tell=lambda state, signals, key: (
            (state[0], {"seen": signals.metrics.get("seen", jnp.zeros(3))}),
            jnp.zeros(3, jnp.int32),
        ),
        centre=lambda state: state[0],
        **options,
    )


def steps(run, count, seed=0):
    step = jit(run.step)
    state, told = run.init(jax.random.key(seed)), []
    for _ in range(count):
        state, each = step(state)
        told.append(each)
    return state, told


# ------------------------------------------------------------ transforms and forks


def acting_learner():
    """What was "collected" in a window is the rate of the policy that acted."""
    base = target_learner()

    def step(state, hyperparams, key, active):
        new, told = base.step(state, hyperparams, key, active)
        metrics = {"seen": new.policy.params["rate"]}
        told = told._replace(trajectory=new.policy.params["rate"], metrics=metrics)
        return new, told

    return base._replace(step=step)


def test_a_transform_sees_the_report_of_its_own_lane():
    """Whichever lane the others are forked from afterwards."""
    zero = jnp.float32(0)

    def init(policy):
        return {"policy": zero, "seen": zero, "score": zero, "rate": zero, "told": zero}

    def update(state, policy, rollout, told, signals):
        state = {
            "policy": policy.params["rate"],
            "seen": told.trajectory,
            "score": signals.score,
            "rate": signals.hyperparams["rate"],
            "told": signals.metrics["seen"],
        }
        return state, policy, rollout, {}

    run = loop(acting_learner(), spsa(RATE), transforms=Transform(init, update, {}))
    state, told = steps(run, 4)
    for name in ("seen", "rate", "told"):
        np.testing.assert_array_equal(
            state.transforms["policy"], state.transforms[name], err_msg=name
        )
    exact = 1 - (state.transforms["policy"] - 0.8) ** 2
    np.testing.assert_allclose(state.transforms["score"], exact, rtol=1e-6)
    # the lanes were apart in the round, and one of them went on in both
    assert np.ptp(told[-1].lane_scores) > 0
    assert np.ptp(state.transforms["policy"]) == 0


def test_structure_and_modulation_fork_with_the_policy_they_belong_to():
    """A rule on the score changes the lane that had it, and forks with it."""

    def init(key):
        policy = Policy({"rate": jnp.float32(0)}, structure=jnp.uint8(0))
        return LearnerState(policy, jnp.int32(0))

    def grow(state, policy, rollout, told, signals):
        good = signals.hyperparams["rate"] > 0.3
        structure = policy.structure + good.astype(jnp.uint8)
        factor = jnp.where(good, 0.5, 2.0)
        return state, policy._replace(structure=structure), rollout, {"rate": factor}

    learner = target_learner()._replace(init=init)
    run = loop(learner, three(), transforms=Transform(lambda p: (), grow, {}))
    state, _ = steps(run, 1)
    # all lanes go on from the first, whose rate is low
    assert state.learner.policy.structure.tolist() == [0, 0, 0]
    assert state.modulation["rate"].tolist() == [2.0, 2.0, 2.0]


def test_a_policy_that_a_transform_spoils_is_left_at_once():
    def spoil(state, policy, rollout, told, signals):
        params = jax.tree.map(lambda x: x * jnp.nan, policy.params)
        return state, policy._replace(params=params), rollout, {}

    spoiler = Transform(lambda policy: (), spoil, {})
    state, _ = steps(loop(target_learner(), fixed(), transforms=spoiler), 3)
    assert jnp.isfinite(state.learner.policy.params["rate"]).all()
    assert jnp.isfinite(state.best.policy.params["rate"])


# ----------------------------------------------------------- which lanes stand for it


@pytest.mark.parametrize(("judged", "lanes"), [(None, 3), (1, 1), (2, 2)])
def test_the_judged_lanes_are_the_score_and_compete_for_the_best(judged, lanes):
    _, told = steps(loop(target_learner(), three(judged=judged)), 1)
    scores = 1 - (np.array([0.2, 0.5, 0.8]) - 0.8) ** 2
    np.testing.assert_allclose(told[0].lane_scores, scores, rtol=1e-6)
    np.testing.assert_allclose(told[0].score, scores[:lanes].mean(), rtol=1e-6)
    np.testing.assert_allclose(told[0].best_score, scores[:lanes].max(), rtol=1e-6)


@pytest.mark.parametrize("judged", [0, 4])
def test_lanes_that_do_not_exist_are_not_judged(judged):
    with pytest.raises(ValueError, match=f"judged must be .*3, got {judged}"):
        loop(target_learner(), three(judged=judged))


@pytest.mark.parametrize("common", [True, False])
def test_lanes_share_their_random_numbers_or_do_not(common):
    def init(key):
        drawn = jax.random.uniform(key)
        return LearnerState(Policy({"rate": drawn}), drawn)

    def step(state, hyperparams, key, active):
        drawn = {"drawn": jax.random.uniform(key), "begun": state.policy.params["rate"]}
        return state, report(**drawn)

    def tell(state, signals, key):
        return (state[0], signals.metrics), jnp.arange(3)

    def first(base, key):
        return base, {"drawn": jnp.zeros(3), "begun": jnp.zeros(3)}

    tuner = three(common_random_numbers=common)._replace(tell=tell, init=first)
    learner = target_learner()._replace(init=init, step=step)
    run = loop(learner, tuner)
    state, _ = steps(run, 1)
    for name, values in state.tuner[1].items():
        assert len(set(values.tolist())) == (1 if common else 3), name
    begin = learner._replace(begin=lambda policy, key: jax.random.uniform(key))
    again = loop(begin, tuner).restart(
        state, state.best.policy, None, jax.random.key(3)
    )
    assert len(set(again.learner.rollout.tolist())) == (1 if common else 3)
    assert len(set(again.learner.policy.params["rate"].tolist())) == 1


def test_a_learner_for_other_lanes_is_refused():
    with pytest.raises(ValueError, match="lanes of the tuner, 2, .*lanes=2"):
        loop(replay_learner(64), spsa({"rate": (0.01, 0.1)}))


def test_a_map_over_seeds_merges_nothing_whatever_its_axis_is_called():
    run = make(
        "CartPole-v1",
        "dqn",
        num_envs=2,
        num_steps=8,
        learning_starts=10**6,
        batch_size=4,
        capacity=256,
        evaluation_episodes=1,
        hidden=(4,),
    )
    states = jax.vmap(run.init)(jax.random.split(jax.random.key(0)))
    after = jit(jax.vmap(lambda state: run.step(state)[0], axis_name="lane"))(states)
    memory = after.learner.memory
    assert memory.replay.size.tolist() == memory.env_steps.tolist() == [16, 16]
    assert (memory.replay.items.obs[0] != memory.replay.items.obs[1]).any()


def test_signals_name_every_field():
    """The axes of a lane's signals are written by position."""
    assert Signals._fields == (
        "score",
        "round",
        "phase",
        "verdict",
        "gain_limit",
        "autocorrelation",
        "improved",
        "hyperparams",
        "metrics",
        "key",
    )
