"""From names to a loop."""

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

import optix
from optix.agents.ppo import TUNED
from optix.envs.device import device
from optix.tuners.spsa import spsa
from tests.devices import in_two_devices
from tests.numpy_agent import StillAgent

SMALL = {
    "num_envs": 4,
    "num_steps": 8,
    "num_epochs": 1,
    "num_minibatches": 2,
    "hidden": (8,),
    "evaluation_episodes": 2,
}


def test_options_reach_the_part_they_belong_to():
    loop = optix.make(
        "CartPole-v1",
        learning_rate=0.125,
        max_rounds=7,
        windows_per_round=3,
        tuner="spsa",
        **SMALL,
    )
    state = loop.init(jax.random.key(0), {"discount": 0.5})
    assert state.limits.max_rounds == 7
    assert loop.tuner.bounds == TUNED
    assert state.best.policy.params["actor"]["Dense_0"]["kernel"].shape == (4, 8)
    shapes = jax.eval_shape(loop.step, state)[1]
    assert shapes.hyperparams["discount"].shape == (2,)
    state, report = jit(loop.step)(state)
    assert state.env_steps == 2 * 3 * 4 * 8  # lanes, windows, environments, steps
    np.testing.assert_array_equal(report.hyperparams["discount"], 0.5)
    assert (report.hyperparams["learning_rate"] <= TUNED["learning_rate"][1]).all()


def test_an_instance_with_parameters_and_a_tuner_of_ones_own():
    import gymnax

    env, params = gymnax.make("Pendulum-v1")
    tuner = spsa({"learning_rate": (1e-4, 1e-2)}, lanes=1)
    loop = optix.make(env, "ppo", env_params=params, tuner=tuner, **SMALL)
    state, report = jit(loop.step)(loop.init(jax.random.key(0)))
    assert -2000 < report.score < 0
    assert state.best.policy.params["log_scale"].shape == (1,)


def test_a_validation_environment_alone_decides():
    params = device("CartPole-v1")
    short = params._replace(time_limit=3)  # three steps, three points
    loop = optix.make("CartPole-v1", validation=short, **SMALL)
    _, report = jit(loop.step)(loop.init(jax.random.key(0)))
    assert report.score == 3


def test_devices_share_one_policy_and_collect_their_own_experience():
    out = in_two_devices(
        f"""
        import jax, numpy as np, optix
        loop = optix.make(
            "CartPole-v1", axis_name="device", max_rounds=3, **{SMALL!r}
        )
        run = jax.pmap(lambda key: loop.run(loop.init(key)), axis_name="device")
        key = jax.random.key(0)
        state = run(jax.numpy.stack([key, key]))
        for leaf in jax.tree.leaves(state.learner.policy.params):
            np.testing.assert_array_equal(leaf[0], leaf[1])
        assert (state.round == 3).all()
        assert (state.env_steps == 2 * 3 * 4 * 8).all()
        assert state.best.score[0] == state.best.score[1]
        obs = state.learner.rollout.obs
        assert (np.asarray(obs[0]) != np.asarray(obs[1])).any()
        print("shared")
        """
    )
    assert "shared" in out


def test_one_cartpole_run_learns_and_stops_by_itself():
    loop = optix.make("CartPole-v1")
    state = jax.jit(loop.run)(loop.init(jax.random.key(0)))
    assert state.stop_reason == optix.StopReason.CONVERGED
    assert state.round < state.limits.max_rounds
    assert state.best.score >= 475


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent": "pppo"}, "unknown agent 'pppo'; did you mean 'ppo'"),
        (
            {"agent": StillAgent()},
            "agent must be the name of an algorithm, got a StillAgent; .* RLOptimizer",
        ),
        ({"tuner": "sspa"}, "unknown tuner 'sspa'; did you mean 'spsa'"),
        ({"learning_rat": 1}, "unknown option 'learning_rat'; did you mean 'learning_"),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(ValueError, match=message):
        optix.make("CartPole-v1", **options)


def test_a_record_with_the_actions_of_another_library():
    env = device("CartPole-v1")
    env = env._replace(action_space=gymnasium.spaces.Discrete(2))
    message = (
        "actions of CartPole-v1 must be .* of optix.types, got a gymnasium.*Discrete"
    )
    for agent in (None, "ppo"):
        with pytest.raises(ValueError, match=message):
            optix.make(env, agent=agent)


def test_rates_are_vmapped_and_nothing_is_traced_again():
    loop = optix.make("CartPole-v1", **SMALL)
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.vmap(loop.init)(keys, {"learning_rate": jnp.array([0.0, 1e-2])})
    before = states.learner.policy.params
    step = jit(jax.vmap(chex.assert_max_traces(loop.step, n=1)))
    states, _ = step(states)
    moved = jax.tree.map(
        lambda x, y: jnp.abs(x - y).max(axis=range(1, x.ndim)),
        before,
        states.learner.policy.params,
    )
    total = sum(jax.tree.leaves(moved))
    assert total[0] == 0 and total[1] > 0
    step(states)


def test_a_rate_that_nobody_gives_is_steered():
    sizes = {**SMALL, "num_steps": 16, "num_minibatches": 1}

    def names(agent, **options):
        return list(optix.make("CartPole-v1", agent, **sizes | options).tuner.bounds)

    assert names("ppo") == names("recurrent_ppo") == ["learning_rate"]
    assert names("impala") == names("ppo", tuner="fixed") == []
    assert names("ppo", learning_rate=1e-3) == names("ppo", decay_over=9) == []
    assert names("ppo", learning_rate=1e-3, tuner="trust") == ["learning_rate"]
    several = optix.make("CartPole-v1", "ppo", **SMALL, policies=2)
    assert list(several.tuner.bounds) == list(TUNED)


def test_a_rate_that_a_run_is_given_stays_as_it_is():
    loop = optix.make("CartPole-v1", "ppo", **SMALL)

    @jit
    def rates(state):
        return jax.lax.scan(
            lambda state, _: (loop.step(state)[0], loop.tuner.centre(state.tuner)),
            state,
            length=4,
        )[1]["learning_rate"]

    key = jax.random.key(0)
    assert len(set(rates(loop.init(key)).tolist())) > 1
    assert len(set(rates(loop.init(key, {"entropy_coefficient": 0.1})).tolist())) > 1
    given = loop.init(key, {"learning_rate": 0.5})  # beyond the bounds of `trust`
    np.testing.assert_array_equal(rates(given), np.full(4, 0.5, np.float32))
    policy = jax.tree.map(lambda x: x[0], given.learner.policy)
    again = loop.restart(given, policy, None, key)
    np.testing.assert_array_equal(rates(again), np.full(4, 0.5, np.float32))
