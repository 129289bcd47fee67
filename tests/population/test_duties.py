"""What a population says of its policies; each row of its table of calls."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.population import (
    Policies,
    boost,
    join,
    meta_controller,
    policies,
    pruned,
    ranked,
    report,
    status,
    weights,
    with_regime,
)
from optix.population.ensemble import ensemble
from optix.population.population import population
from optix.trees import repeat, take
from optix.types import Loop, StopReason
from tests.population.members import BOX, rate_loop, regression

README = Path(optix.__file__).parent / "population" / "README.md"


@pytest.fixture(scope="module")
def state():
    """Three policies that count, the middle one the best."""
    run = population(rate_loop(), 4, bounds=BOX, first_policies=3)
    state = run.init(jax.random.key(0))
    best = state.members.best._replace(score=jnp.array([1.0, 4.0, 2.0, 9.0]))
    return state._replace(members=state.members._replace(best=best))


def by_numpy(scores, boosts):
    raw = np.exp((scores - scores.max()) / scores.std()) * boosts
    return raw / raw.sum()


def test_weights_are_those_of_numpy_and_have_no_units(state):
    truth = by_numpy(np.array([1.0, 4.0, 2.0]), np.ones(3))
    np.testing.assert_allclose(weights(state)[:3], truth, rtol=1e-5)
    assert weights(state)[3] == 0  # nobody is there
    for scores in (np.array([1, 4, 2, 9]) * 1e4 - 1e6, np.array([1, 4, 2, 9]) * 1e-3):
        np.testing.assert_allclose(weights(state, scores)[:3], truth, rtol=2e-3)


@pytest.mark.parametrize("score", [np.nan, -np.inf, np.inf])
def test_a_policy_without_a_finite_score_weighs_nothing(state, score):
    found = weights(state, jnp.array([1.0, score, 2.0, 0.0]))
    assert found[1] == 0
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)


def test_without_any_score_all_count_alike(state):
    np.testing.assert_allclose(
        weights(state, jnp.full(4, -jnp.inf)), [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6
    )
    np.testing.assert_allclose(weights(state, jnp.zeros(4))[:3], 1 / 3, rtol=1e-6)


def test_boosts_hold_in_their_regime(state):
    boosted = boost(state, 0, 3.0)
    truth = by_numpy(np.array([1.0, 4.0, 2.0]), np.array([3.0, 1.0, 1.0]))
    np.testing.assert_allclose(weights(boosted)[:3], truth, rtol=1e-5)
    other = with_regime(boosted, "volatile")
    np.testing.assert_array_equal(weights(other), weights(state))
    back = with_regime(boost(other, 1), "ranging")
    np.testing.assert_array_equal(weights(back), weights(boosted))
    assert status(other)["regime"] == "volatile"


def test_pruning_takes_the_lowest_and_leaves_the_best(state):
    one = pruned(state)
    assert one.alive.tolist() == [False, True, True, False]
    assert not one.members.active[0]
    assert ranked(one) == [1, 2]
    assert pruned(state, 9).alive.tolist() == [False, True, False, False]
    assert pruned(state, 0).alive.tolist() == state.alive.tolist()


def test_status_and_report_say_what_there_is(state):
    said = status(state)
    assert (said["policies"], said["max_policies"], said["training"]) == (3, 4, 3)
    assert (said["spawns"], said["spawns_remaining"]) == (0, 8)
    assert not said["budget_exhausted"]
    assert sorted(said["weights"]) == [0, 1, 2]
    lines = report(state).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "0"]
    assert "rate 0.5" in lines[1]
    assert "3 of 4 places" in lines[-1]


def test_what_an_ensemble_takes(state):
    found = policies(state)
    assert isinstance(found, Policies)
    assert found._fields == ("policies", "weights", "alive", "hyperparams")
    assert found.policies.params["weights"].shape == (4, 3)
    assert found.hyperparams["rate"].shape == found.alive.shape == (4,)
    np.testing.assert_array_equal(found.weights, weights(state))


def test_its_policies_act_as_one():
    sizes = {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "hidden": (4,)}
    loop = optix.make("CartPole-v1", **sizes)
    run, agent = population(loop, 3, first_policies=2), loop.learner.agent
    found = policies(run.init(jax.random.key(0)))
    policy = join(
        agent,
        found.policies,
        found.weights,
        alive=found.alive,
        hyperparams=found.hyperparams,
    )
    np.testing.assert_allclose(policy.extras.share, [0.5, 0.5, 0.0])
    both = ensemble(agent, loop.learner.env.action_space, members=3)
    obs = jnp.ones((5, 4))
    _, logits = both.outputs(policy, (), obs)
    each = [
        jax.nn.softmax(agent.outputs(take(found.policies, i), (), obs)[1])
        for i in range(2)
    ]
    np.testing.assert_allclose(jnp.exp(logits), (each[0] + each[1]) / 2, rtol=1e-4)


def test_duties_serve_seeds_by_vmap(state):
    both = repeat(state, 2)
    found = jax.vmap(lambda s: weights(boost(s, jnp.int32(0), 3.0)))(both)
    np.testing.assert_allclose(found[1], weights(boost(state, 0, 3.0)), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: boost(s, 4), "place must be at most 3"),
        (lambda s: boost(s, -1), "place"),
        (lambda s: boost(s, 0, -2.0), "factor must be in"),
        (lambda s: boost(s, 0, np.nan), "factor"),
        (lambda s: with_regime(s, "trendy"), "did you mean 'TRENDING'"),
        (lambda s: pruned(s, -1), "count"),
        (
            lambda s: weights(s, [1.0, 2.0]),
            r"scores must be one for each place, \(4,\)",
        ),
        (lambda s: status(repeat(s, 2)), "one seed, got 2"),
        (lambda s: report(repeat(s, 3)), "one seed, got 3"),
        (lambda s: ranked(repeat(s, 2)), "one seed"),
    ],
)
def test_wrong_calls_are_refused(state, call, words):
    with pytest.raises(OptionError, match=words):
        call(state)


def rows():
    table = README.read_text().split("## The calls of tensor-optix")[1]
    found = re.findall(r"^\| (.+) \| `([^`]+)`.* \|$", table, re.M)
    return [pytest.param(*row, id=row[0][:40]) for row in found if "---" not in row[0]]


@pytest.mark.parametrize(("theirs", "ours"), rows())
def test_each_row_of_the_table_runs(theirs, ours, state, tmp_path):
    assert "`" not in ours
    names = {
        **{"loop": rate_loop(), "state": state, "folder": tmp_path / "run"},
        **{"optix": optix, "population": population, "StopReason": StopReason},
        **{"meta_controller": meta_controller, "weights": weights, "boost": boost},
        **{"with_regime": with_regime, "pruned": pruned, "status": status},
        **{"report": report, "ranked": ranked, "policies": policies},
    }
    names["run"] = regression()
    exec(ours, names)
    name = ours.split(" = ")[0]
    value = names[name]
    match name:
        case "run":
            assert isinstance(value, Loop)
            places = jax.eval_shape(value.init, jax.random.key(0)).alive.shape[0]
            assert places == (3 if "max_ensemble_size=3" in theirs else 4)
        case "ended":
            assert value.stop_reasons == (StopReason.SETTLED,) * 2
            assert value.log.exists()
        case "shares":
            np.testing.assert_allclose(value.sum(), 1, rtol=1e-6)
        case "state":
            assert value is not state
        case "places":
            assert value == [1, 2, 0]
        case "found":
            assert value.alive.tolist() == [True, True, True, False]
        case _:
            assert value


def test_the_table_is_found():
    assert len(rows()) == 17
