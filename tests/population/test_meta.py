import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checks import OptionError
from optix.population.decisions import free_place, verdict
from optix.population.meta import (
    Figures,
    in_standard_errors,
    measure,
    meta_controller,
)
from optix.types import Decision, LearnerState, Policy, StopReason
from tests.population.members import rate_learner, rate_loop


@pytest.mark.parametrize(
    ("figures", "left", "decision"),
    [
        (Figures(0.0, 0.0, 0.5), 3, "SPAWN"),
        (Figures(2.5, 2.5, 0.5), 3, "PRUNE"),
        (Figures(2.5, 1.5, 0.5), 3, "SPAWN"),  # harder for the best one just as much
        (Figures(-9.0, 2.5, 0.5), 3, "SPAWN"),  # validation is the easier one
        (Figures(np.inf, np.inf, np.inf), 0, "PRUNE"),
        (Figures(0.0, 0.0, 0.5), 0, "STOP"),
        (Figures(0.0, 0.0, 1.5), 0, "STOP"),
        (Figures(0.0, 0.0, 1.5), 1, "GO_ON"),
        (Figures(0.0, 0.0, np.inf), 1, "GO_ON"),
    ],
)
def test_decides_as_by_hand(figures, left, decision):
    found = meta_controller().decide(figures, left)
    assert Decision(int(found)).name == decision


def test_thresholds_are_the_users():
    own = meta_controller(gap_threshold=-10, slope_threshold=-1, gain_threshold=9)
    assert own.decide(Figures(-9.0, 0.0, 8.0), 1) == Decision.PRUNE
    assert own.decide(Figures(-11.0, 0.0, 8.0), 1) == Decision.SPAWN


@pytest.mark.parametrize(
    ("figures", "left", "reason", "decision"),
    [
        (Figures(0.0, 0.0, 9.0), 1, "CONVERGED", "GO_ON"),
        (Figures(0.0, 0.0, 9.0), 1, "NO_SIGNAL", "GO_ON"),
        (Figures(0.0, 0.0, 9.0), 1, "MAX_ROUNDS", "SPAWN"),  # its budget is spent
        (Figures(0.0, 0.0, 9.0), 0, "MAX_ENV_STEPS", "STOP"),
        (Figures(0.0, 0.0, 0.5), 1, "NON_FINITE", "PRUNE"),
        (Figures(0.0, 0.0, 0.5), 0, "NON_FINITE_SCORE", "PRUNE"),
        (Figures(0.0, 0.0, 0.5), 5, "NON_FINITE_DATA", "PRUNE"),
    ],
)
def test_the_end_of_a_member_limits_what_can_be_decided(
    figures, left, reason, decision
):
    reason = jnp.int32(StopReason[reason])
    found = verdict(meta_controller(), figures, jnp.int32(left), reason)
    assert Decision(int(found)).name == decision


def test_a_decision_to_spawn_without_spawns_left_is_one_to_stop():
    always = meta_controller()._replace(decide=lambda figures, left: Decision.SPAWN)
    found = verdict(always, Figures(0, 0, 0), jnp.int32(0), jnp.int32(1))
    assert found == Decision.STOP


def test_standard_errors_are_those_of_numpy():
    values = np.random.default_rng(0).normal(3, 2, 9).astype(np.float32)
    truth = values.mean() / (values.std(ddof=1) / 3)
    np.testing.assert_allclose(in_standard_errors(jnp.array(values)), truth, rtol=1e-5)
    spoilt = jnp.append(jnp.array(values), jnp.array([jnp.nan, jnp.inf, -jnp.inf]))
    np.testing.assert_allclose(in_standard_errors(spoilt), truth, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "ratio"),
    [([2.0, 2.0, 2.0], np.inf), ([-1.0, -1.0], -np.inf), ([0.0, 0.0], 0.0), ([5.0], 0)],
)
def test_standard_errors_without_noise(values, ratio):
    assert in_standard_errors(jnp.array(values)) == ratio


def test_gap_and_slope_are_of_last_and_best_on_the_same_keys():
    # the training's score is 10 more than the validation's, for the last policy 13 more
    def shape(policy):
        return 10 + 3 * (policy.params["weights"][0] > 3)

    def train(policy, hyperparams, key):
        return shape(policy) + jax.random.normal(key) + 0.1 * jax.random.uniform(key)

    def validate(policy, hyperparams, key):
        return jax.random.normal(key)

    learner = rate_learner()._replace(evaluate=train)
    run = rate_loop(learner, score=validate)
    member = run.init(jax.random.key(0))
    last = Policy({"weights": jnp.full((1, 3), 5.0)}, (), jnp.zeros(1), ())
    member = member._replace(learner=LearnerState(last, jnp.zeros(1, jnp.int32)))
    key = jax.random.key(1)
    figures, deviation = measure(run, member, key, 8)

    noise = np.array([0.1 * jax.random.uniform(k) for k in jax.random.split(key, 8)])
    error = noise.std(ddof=1) / np.sqrt(8)
    np.testing.assert_allclose(figures.gap, (13 + noise.mean()) / error, rtol=1e-3)
    assert figures.gap_slope == np.inf  # 3 more on every key
    assert figures.gain_limit == np.inf  # no score yet
    assert deviation == 0


def test_without_validation_there_is_no_gap_and_nothing_is_played_for_it():
    calls = []

    def score(policy, hyperparams, key):
        calls.append(1)
        return hyperparams["rate"]

    run = rate_loop(rate_learner()._replace(evaluate=score))
    member = run.init(jax.random.key(0))
    figures, _ = measure(run, member, jax.random.key(1), 8)
    assert (figures.gap, figures.gap_slope, calls) == (0, 0, [])


def test_where_a_new_member_goes():
    members = jax.vmap(rate_loop().init)(jax.random.split(jax.random.key(0), 4))

    def place(alive, training, scores):
        reasons = jnp.where(jnp.array(training), 0, int(StopReason.CONVERGED))
        best = members.best._replace(score=jnp.array(scores))
        return int(
            free_place(
                jnp.array(alive, bool), members._replace(stop_reason=reasons, best=best)
            )
        )

    assert place([1, 0, 1, 0], [1, 0, 0, 0], [3.0, 2.0, 1.0, 9.0]) == 1  # free
    assert place([1, 1, 1, 1], [0, 0, 1, 0], [3.0, 2.0, 1.0, 9.0]) == 1  # lowest
    assert place([1, 1, 1, 1], [0, 1, 1, 1], [9.0, 2.0, 1.0, 3.0]) == 0  # the best
    assert place([1, 1, 1, 1], [0, 1, 0, 1], [-np.inf, 2.0, 1.0, 3.0]) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"gap_threshold": np.nan},
        {"slope_threshold": np.inf},
        {"gain_threshold": "1"},
        {"scores": 1},
        {"scores": True},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        meta_controller(**options)
