"""Neuromodulation in a loop whose scores, and so regimes, are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix import RegimeDetector
from optix.agents.recurrent_ppo import recurrent_ppo
from optix.envs.device import device
from optix.learners.on_policy import on_policy
from optix.loop.loop import loop
from optix.loop.modulation import FACTORS, neuromodulation
from optix.loop.transforms import chain
from optix.math.regime import BLOCKS, Regime, classify
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.network import graph_actor_critic
from optix.neuroevo.growth.controller import topology_controller
from optix.neuroevo.growth.hebbian import hebbian
from optix.tuners.fixed import fixed
from optix.types import Discrete
from tests.toys import scripted_learner

WINDOW = 10


def rates(score_of_window, transform, rounds):
    """The rate that each round of a run used; 1 is what the tuner asks for."""
    run_loop = loop(scripted_learner(score_of_window), fixed(), transforms=transform)

    def step(state, _):
        state, report = run_loop.step(state)
        return state, report.hyperparams["rate"][0]

    return np.asarray(
        jit(lambda key: jax.lax.scan(step, run_loop.init(key), None, length=rounds)[1])(
            jax.random.key(0)
        )
    )


def test_the_regime_sets_the_factor_of_the_next_round():
    factors = {"rate": {"trending": 3.0, "volatile": 0.25}}

    def score(windows, key):
        noise = jax.random.normal(key)
        return jnp.select(
            [windows <= 40, windows <= 60],
            [noise, noise + 2 * (windows - 40)],
            40 + 8 * noise,
        )

    used = rates(score, neuromodulation(factors, window=WINDOW), 70)
    assert used[0] == 1.0
    assert np.mean(used[:41] == 1.0) > 0.9
    assert np.mean(used[51:61] == 3.0) > 0.9
    assert np.mean(used[65:] == 0.25) > 0.5


def test_names_are_the_loops_own():
    with pytest.raises(ValueError, match="unknown modulated hyperparameter 'rat'"):
        rates(lambda *_: 0.0, neuromodulation({"rat": {"trending": 2.0}}), 1)
    with pytest.raises(ValueError, match="needs a loop with one of hebbian/rate"):
        rates(lambda *_: 0.0, neuromodulation(), 1)


def test_default_factors_are_on_names_that_exist():
    graph = layered(4, (3,), 3, capacity=12)
    spaces = (4,), Discrete(2)
    agent = recurrent_ppo(graph_actor_critic(*spaces, graph=graph), *spaces)
    transforms = chain(hebbian(graph), topology_controller(graph))
    assert set(FACTORS) <= set(transforms.hyperparams) | set(agent.hyperparams)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": {"rate": {"trendy": 1.0}}}, "did you mean 'trending'"),
        ({"factors": {"rate": {"ranging": 0.0}}}, "factor of rate when ranging must"),
        ({"window": 3}, "window must be an integer >= 5"),
        ({"thresholds": 2.0}, "thresholds must be a Thresholds"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        neuromodulation(**options)


def test_a_graph_learns_by_gradients_and_activity_under_modulation():
    """Seeds with other rates in one program; only where there is a rate, activity."""
    env = device("CartPole-v1")
    spaces = env.observation_shape, env.action_space
    graph = layered(4, (3,), 3, recurrent_delay=1)
    agent = recurrent_ppo(
        graph_actor_critic(*spaces, graph=graph),
        *spaces,
        num_epochs=1,
        num_minibatches=1,
        sequence_length=4,
    )
    transforms = chain(hebbian(graph, decay=0.0), neuromodulation(window=WINDOW))
    run_loop = loop(
        on_policy(agent, env, num_envs=2, num_steps=4),
        fixed(),
        transforms=transforms,
        score=lambda policy, hyperparams, key: policy.params.bias.sum(),
    )
    keys = jnp.stack([jax.random.key(0)] * 2)
    settings = {"hebbian/rate": jnp.array([0.0, 0.01])}

    @jit
    def run(keys, settings):
        states = jax.vmap(run_loop.init)(keys, settings)
        states, first = jax.vmap(run_loop.step)(states)
        once = states.learner.policy.params.edge
        states, second = jax.vmap(run_loop.step)(states)
        return once, first.hyperparams, second.hyperparams

    edge, first, second = run(keys, settings)
    assert np.isfinite(edge).all()
    assert np.any(edge[0] != edge[1])
    for name, rate in {
        "hebbian/rate": [0.0, 0.01],
        "entropy_coefficient": 0.01,
    }.items():
        np.testing.assert_allclose(first[name][:, 0], rate)
        expected = np.multiply(rate, FACTORS[name]["ranging"])
        np.testing.assert_allclose(second[name][:, 0], expected)
    np.testing.assert_array_equal(first["learning_rate"], second["learning_rate"])


def test_a_regime_is_the_same_in_any_unit():
    noise = np.random.default_rng(0).normal(size=BLOCKS * 10)
    calm, wild = noise, noise * np.where(np.arange(noise.size) < 50, 1.0, 20.0)
    one = jit(classify)
    for scores, expected in ((calm, Regime.RANGING), (wild, Regime.VOLATILE)):
        for unit in (1e-30, 1.0, 1e30):
            assert int(one(jnp.float32(unit * scores), scores.size, 0)) == expected
        for unit in (1e-200, 1.0, 1e200):
            found = RegimeDetector(window=10).detect(unit * scores)
            assert found == expected.name.lower()
