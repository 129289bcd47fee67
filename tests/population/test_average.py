"""The mean of several policies, beside NumPy; kept only where it plays no worse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.population.average import average, keep_if_not_worse, top
from optix.population.ensemble import stack
from optix.types import Agent, Policy
from tests import probes

KEY = jax.random.key(0)
AGENT = optix.make_agent("CartPole-v1", hidden=(2,))
POLICY = jax.tree.map(  # nothing in it matters
    lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(AGENT.init, KEY)
)


def trained(agent, seed):
    """A policy all of whose numbers are its own."""
    policy = jax.eval_shape(agent.init, jax.random.key(seed))
    rng = np.random.default_rng(seed)

    def other(x):
        return np.asarray(rng.integers(1, 9, x.shape), x.dtype)

    return policy._replace(
        params=jax.tree.map(other, policy.params),
        opt_state=jax.tree.map(other, policy.opt_state),
        extras=jax.tree.map(other, policy.extras),
    )


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_parameters_are_averaged_and_the_rest_is_the_newest_ones(name):
    environment = "CartPole-v1" if name == "ppo" else "Pendulum-v1"
    agent = optix.make_agent(environment, name, hidden=(2,))
    policies = [trained(agent, seed) for seed in range(3)]
    weights = [3.0, 0.0, 1.0]
    mean = average(agent, stack(policies), weights, newest=1)

    def same(found, *parts):
        rows = zip(*(jax.tree.leaves(part) for part in (found, *parts)), strict=True)
        for x, *own in rows:
            np.testing.assert_allclose(x, 0.75 * own[0] + 0.25 * own[-1], rtol=1e-6)

    same(mean.params, policies[0].params, policies[2].params)
    newest = policies[1].extras
    if name == "sac":
        same(mean.extras.target, policies[0].extras.target, policies[2].extras.target)
        newest = newest._replace(target=mean.extras.target)
    for found, fresh in (
        (mean.extras, newest),
        (mean.opt_state, jax.jit(agent.init)(jax.random.key(7)).opt_state),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(fresh)
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(fresh), strict=True):
            np.testing.assert_array_equal(x, y)


def test_who_has_no_weight_may_hold_nan_and_weights_may_be_traced():
    policies = [trained(AGENT, seed) for seed in range(2)]
    policies[0] = policies[0]._replace(
        params=jax.tree.map(lambda x: x * jnp.nan, policies[0].params)
    )
    both = stack(policies)
    found = jax.jit(lambda w: average(AGENT, both, w).params)(jnp.array([0.0, 2.0]))
    for x, y in zip(
        jax.tree.leaves(found), jax.tree.leaves(policies[1].params), strict=True
    ):
        np.testing.assert_array_equal(x, y)


def test_the_best_within_the_band():
    scores = [480.0, 500.0, 100.0, np.nan, 499.0]
    assert top(scores, 2).tolist() == [0, 1, 0, 0, 1]
    assert top(scores, 9).tolist() == [1, 1, 0, 0, 1]
    assert top(scores, 9, 0.0).tolist() == [0, 1, 0, 0, 0]
    assert top(scores, 9, np.inf).tolist() == [1, 1, 1, 0, 1]
    assert top(scores, 9, alive=[1, 0, 1, 1, 0]).tolist() == [1, 0, 0, 0, 0]
    assert top([-100.0, -109.0, -111.0], 3).tolist() == [1, 1, 0]
    assert top([np.nan, -np.inf], 2).tolist() == [0, 0]
    assert top([5.0, 5.0, 5.0], 2).tolist() == [1, 1, 0]
    many = jax.jit(jax.vmap(lambda x: top(x, 1)))(jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    assert many.tolist() == [[0, 1], [1, 0]]


@pytest.fixture(scope="module")
def target():
    """Scores of an agent whose parameter is its action, best at 0.5 and -0.5."""
    env = device(probes.ActionIsTarget())

    def act(policy, carry, obs, hyperparams, key, explore):
        return carry, policy.params * obs[:, :1] + policy.structure, {}

    def init(key):
        return Policy(jnp.float32(0), jnp.float32(0))

    agent = Agent(init, lambda batch: (), act, lambda *_: None, {"discount": 1.0})
    score = evaluator(agent, env, episodes=2)

    def meet(best, challenger):
        """Which of two parameters is kept, and how they compare."""
        given = [Policy(jnp.float32(x), jnp.float32(0)) for x in (best, challenger)]
        policy, comparison = keep_if_not_worse(score, *given, {}, KEY, scores=3)
        return policy.params, comparison

    return agent, jax.jit(meet)


def test_the_average_is_kept_where_it_plays_no_worse(target):
    agent, meet = target
    mean = average(
        agent, Policy(jnp.array([0.1, 0.7]), jnp.zeros(2))
    ).params  # 0.4, whose score is -0.01
    for best, kept in ((0.7, mean), (0.41, 0.41), (mean, mean)):
        found, comparison = meet(best, mean)
        assert found == jnp.float32(kept)
        assert bool(comparison.kept) == (kept == mean)
        assert comparison.best == pytest.approx(-(float(best - 0.5) ** 2), abs=1e-6)
        assert comparison.challenger == pytest.approx(-0.01, abs=1e-6)
        assert comparison.standard_error == pytest.approx(0, abs=1e-6)


def test_what_is_not_finite_is_never_kept_but_beats_what_has_no_score(target):
    _, meet = target
    assert meet(0.9, jnp.nan)[0] == jnp.float32(0.9)
    assert meet(0.9, jnp.inf)[0] == jnp.float32(0.9)
    assert meet(jnp.nan, 0.9)[0] == jnp.float32(0.9)


def remembering(key):
    """A policy whose optimizer starts from its parameters."""
    return POLICY._replace(opt_state=jax.random.normal(key))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average(AGENT, 3), "policies must be a Policy"),
        (lambda: average(3, stack([POLICY])), "agent must be a Agent"),
        (
            lambda: average(AGENT, stack([POLICY]), [1.0, 1.0]),
            "one for each of the 1 policies",
        ),
        (
            lambda: average(
                AGENT, stack([POLICY._replace(structure=x) for x in (1, 2)])
            ),
            "must be of one network to be averaged, but their structures differ",
        ),
        (
            lambda: average(
                AGENT._replace(init=remembering),
                stack([POLICY]),
            ),
            "must not keep parameters of its own",
        ),
        (
            lambda: average(
                optix.make_agent("CartPole-v1", hidden=(3,)), stack([POLICY])
            ),
            r"of the agent, whose .*Dense_0.*is \(3,\), got \(2,\)",
        ),
        (lambda: average(AGENT, stack([POLICY]), [0.0]), "must not all be zero"),
        (lambda: average(AGENT, stack([POLICY]), [np.nan]), "a weight must be in"),
        (lambda: average(AGENT, stack([POLICY]), [-1]), "a weight must be in"),
        (
            lambda: average(AGENT, stack([POLICY]), newest=1),
            "newest must be the number",
        ),
        (lambda: average(AGENT, stack([POLICY]), newest="x"), "newest must be the num"),
        (lambda: top([1.0], 0), "top_k must be an integer"),
        (lambda: top([[1.0, 2.0]], 1), r"scores must be \[M\], .* \(1, 2\)"),
        (lambda: top([1.0, 2.0], 1, alive=[True]), r"alive must be \[M\]"),
        (lambda: top([1.0], 1, -0.1), "score_band must be in"),
        (lambda: keep_if_not_worse(None, None, None, {}, KEY, 1), "scores must be an"),
    ],
)
def test_one_clear_error(call, message):
    with pytest.raises(OptionError, match=message):
        call()
