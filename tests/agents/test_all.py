"""What holds for every algorithm of the table; a new one is tested by being in it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.envs.device import device
from optix.learners.off_policy import off_policy
from optix.make import build_agent, build_learner, make
from optix.registry import ALGORITHMS
from optix.types import Box
from tests import probes

REPLAYING = [name for name, row in ALGORITHMS.items() if row.learner is off_policy]
SMALL = {"num_envs": 4, "num_steps": 16, "hidden": (8,), "evaluation_episodes": 2}
SHORT = {"impala": {"sequence_length": 4}}
SMALL_REPLAY = {"batch_size": 8, "capacity": 256, "learning_starts": 16}


def environment(name):
    return "Pendulum-v1" if Box in ALGORITHMS[name].actions else "CartPole-v1"


def options(name, **more):
    replay = SMALL_REPLAY if name in REPLAYING else {}
    return {**SMALL, **replay, **SHORT.get(name, {}), **more}


def learner_of(name, env, **more):
    row = ALGORITHMS[name]
    settings = options(name, **more)
    agent = build_agent(row, env.observation_shape, env.action_space, None, settings)
    return build_learner(row, agent, env, settings)


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.fixture(params=ALGORITHMS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def learner(name):
    return learner_of(name, device(environment(name)))


@pytest.fixture(scope="module")
def windows(learner):
    """Three windows, jitted: (key, learning_rate, active) -> (first, last) policies."""
    traces = []

    @jit
    def run(key, rate, active):
        traces.append(1)
        assert len(traces) == 1, "a float that changes must not trace again"
        init_key, run_key = jax.random.split(key)
        hyperparams = {**learner.hyperparams, "learning_rate": rate}
        first = learner.init(init_key)

        def window(state, key):
            state, report = learner.step(state, hyperparams, key, active)
            return state, report

        last, reports = jax.lax.scan(window, first, jax.random.split(run_key, 3))
        return first, last, reports._replace(trajectory=())

    return run


def test_it_learns_and_the_same_key_gives_the_same_run(windows):
    key = jax.random.key(0)
    first, last, reports = windows(key, 1e-2, True)
    assert reports.finite.all() and (reports.env_steps == 64).all()
    # of episodes longer than the windows there is no return yet
    told = [x for name, x in reports.metrics.items() if name != "return"]
    assert all(jnp.isfinite(x).all() for x in told)
    assert np.any(flat(first.policy.params) != flat(last.policy.params))
    again = windows(key, 1e-2, True)[1]
    np.testing.assert_array_equal(flat(last.policy.params), flat(again.policy.params))
    other = windows(jax.random.key(1), 1e-2, True)[1]
    assert np.any(flat(other.policy.params) != flat(last.policy.params))


def test_a_learning_rate_of_zero_learns_nothing(windows):
    first, last, _ = windows(jax.random.key(0), 0.0, True)
    np.testing.assert_array_equal(flat(first.policy.params), flat(last.policy.params))


def test_a_stopped_seed_stores_nothing(windows):
    first, last, _ = windows(jax.random.key(0), 1e-2, False)
    chex.assert_trees_all_equal(first.memory, last.memory)


def test_seeds_and_hyperparams_are_mapped(learner):
    """Every float of the agent and of its replay differs between the two seeds."""

    def run(key, factor):
        init_key, step_key = jax.random.split(key)
        hyperparams = {n: factor * x for n, x in learner.hyperparams.items()}
        state = learner.init(init_key)
        state, _ = learner.step(state, hyperparams, step_key, True)
        return state.policy.params

    keys, factors = jax.random.split(jax.random.key(0), 2), jnp.array([1.0, 0.8])
    together = jit(jax.vmap(run))(keys, factors)
    alone = jit(run)
    for i in range(2):
        one = flat(alone(keys[i], factors[i]))
        many = flat(jax.tree.map(lambda x, i=i: x[i], together))
        np.testing.assert_allclose(many, one, atol=2e-3)


def test_evaluation_is_deterministic(learner):
    env_key, key = jax.random.split(jax.random.key(0))
    policy = learner.init(key).policy
    evaluate = jit(learner.evaluate)
    scores = [evaluate(policy, learner.hyperparams, env_key) for _ in range(2)]
    assert scores[0] == scores[1]


def test_outputs_are_what_an_action_is_made_from(name, learner):
    """The deterministic action follows from them; the carry is that of acting."""
    agent, env = learner.agent, device(environment(name))
    obs = jax.random.normal(jax.random.key(0), (5, *env.observation_shape))

    @jit
    def both(key):
        policy, carry = agent.init(key), agent.initial_carry(5)
        acted = agent.act(policy, carry, obs, agent.hyperparams, key, False)
        return acted[:2], agent.outputs(policy, carry, obs)

    (carry, action), (after, outputs) = both(jax.random.key(1))
    chex.assert_trees_all_equal(carry, after)
    if isinstance(env.action_space, Box):
        # the mean of a Gaussian, squashed by SAC; the action itself
        gaussian = dict.fromkeys(("ppo", "recurrent_ppo", "impala"), lambda o: o[0])
        chosen = gaussian.get(name, lambda o: jnp.tanh(o[0]) if name == "sac" else o)(
            outputs
        )
    else:
        chosen = jnp.argmax(outputs, -1)
        assert outputs.shape == (5, env.action_space.n)
    np.testing.assert_allclose(action, chosen, rtol=1e-6)


def test_the_agent_says_what_it_tells(learner):
    def told(key):
        return learner.step(learner.init(key), learner.hyperparams, key, True)[1]

    report = jax.eval_shape(told, jax.random.key(0))
    assert sorted((*learner.agent.metrics, "return")) == sorted(report.metrics)


def test_the_learner_knows_its_agent(name, learner):
    assert learner.agent.hyperparams.items() <= learner.hyperparams.items()
    split = learner_of(name, device(environment(name)), axis_name="device")
    assert split.agent.axis_name == "device" and learner.agent.axis_name is None


def test_it_runs_in_the_loop_on_two_tuned_lanes(name):
    run = make(environment(name), name, tuner="spsa", max_rounds=3, **options(name))
    state = jit(run.run)(run.init(jax.random.key(0)))
    assert int(state.round) == 3 and jnp.isfinite(state.best.score)
    if name in REPLAYING:  # both lanes fill one replay
        assert int(state.learner.memory.env_steps) == 3 * 2 * 64


@pytest.mark.parametrize("name", REPLAYING)
def test_what_is_not_finite_is_never_stored(name):
    env = environment(name)
    probe = probes.ActionIsTarget() if env == "Pendulum-v1" else probes.Probe()
    poisoned = device(probe, probes.Params(reward=float("nan")))
    learner = learner_of(name, poisoned, n_step=1)
    first = learner.init(jax.random.key(0))
    last, report = jit(learner.step)(
        first, learner.hyperparams, jax.random.key(1), True
    )
    assert not report.finite
    rows, empty = last.memory.replay, first.memory.replay
    chex.assert_trees_all_equal(rows, empty)
    np.testing.assert_array_equal(flat(first.policy.params), flat(last.policy.params))


@pytest.mark.parametrize("name", REPLAYING)
@pytest.mark.parametrize("normalized", [False, True])
def test_normalizers_see_what_was_collected(name, normalized):
    env = device(environment(name))
    learner = learner_of(
        name, env, normalize_observations=normalized, normalize_rewards=normalized
    )
    state = learner.init(jax.random.key(0))
    state, report = jit(learner.step)(
        state, learner.hyperparams, jax.random.key(1), True
    )
    extras = state.policy.extras
    assert int(extras.env_steps) == 64
    if not normalized:
        assert extras.observations.count == 0
        return
    obs = np.asarray(report.trajectory.obs).reshape(64, -1)
    np.testing.assert_allclose(extras.observations.mean, obs.mean(0), atol=1e-4)
    np.testing.assert_allclose(extras.observations.variance, obs.var(0), rtol=1e-3)
    returns = np.asarray(report.trajectory.extras["discounted_return"])
    np.testing.assert_allclose(extras.returns.variance, returns.var(), rtol=1e-3)


def test_images_are_seen(name):
    if environment(name) == "Pendulum-v1":
        pytest.skip("MinAtar's actions are discrete")
    more = {"learning_starts": 8} if name in REPLAYING else {}
    learner = learner_of(name, device("Breakout-MinAtar"), **more)
    state = learner.init(jax.random.key(0))
    _, report = jit(learner.step)(state, learner.hyperparams, jax.random.key(1), True)
    assert report.finite
