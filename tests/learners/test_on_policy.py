"""A window of experience against a Python loop over gymnax's own steps."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.envs.device import device
from optix.learners.on_policy import on_policy
from optix.types import Agent, Learned, Policy
from tests import probes

NUM_ENVS, NUM_STEPS, LIMIT, DISCOUNT = 3, 25, 10, 0.9


def counting_agent():
    """Random actions, a memory that counts steps, and a report of what it saw.

    Learning adds one to the params, so that each window says which policy made it.
    """

    def act(policy, carry, obs, hyperparams, key, explore):
        del hyperparams
        chance = 0.8 if explore else 0.0
        action = jax.random.bernoulli(key, chance, obs.shape[:1]).astype(jnp.int32)
        params = jnp.broadcast_to(policy.params, action.shape)
        extras = {"carry": carry, "params": params, "seen": obs.sum(-1)}
        return {"steps": carry["steps"] + 1, "last": obs}, action, extras

    def initial_carry(batch):
        return {"steps": jnp.full((batch, 1), 100), "last": jnp.zeros((batch, 4))}

    def learn(policy, batch, hyperparams, key):
        del key
        info = {"reward": batch.reward.mean(), "discount": hyperparams["discount"]}
        return Learned(policy._replace(params=policy.params + 1), info)

    def init(key):
        del key
        return Policy(jnp.float32(0))

    return Agent(init, initial_carry, act, learn, {"discount": DISCOUNT})


@pytest.fixture(scope="module")
def run():
    """Two windows, one after the other: states before each and after, reports."""
    inner, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=LIMIT)
    learner = on_policy(
        counting_agent(),
        device(inner, params),
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        evaluation_episodes=2,
    )
    hyperparams = {"discount": jnp.float32(DISCOUNT)}
    step = jit(lambda state, key: learner.step(state, hyperparams, key, True))
    states, reports = [jit(learner.init)(jax.random.key(0))], []
    for seed in (1, 2):
        state, report = step(states[-1], jax.random.key(seed))
        states.append(state)
        reports.append(report)
    return learner, step, states, reports, jit(inner.step_env), params


def state_from(obs):
    """CartPole hides nothing: a fresh state is its observation."""
    fields = dict(zip(["x", "x_dot", "theta", "theta_dot"], obs, strict=True))
    template = gymnax.make("CartPole-v1")[0].reset(jax.random.key(0))[1]
    fields = {name: jnp.float32(value) for name, value in fields.items()}
    return template.replace(time=jnp.int32(0), **fields)


def test_windows_are_those_of_a_python_loop(run):
    _, _, states, reports, step_env, params = run
    ends = {"terminated": 0, "truncated": 0}
    for b in range(NUM_ENVS):
        obs = np.asarray(states[0].rollout.obs[b])
        env_state, total, steps, last = state_from(obs), 0.0, 100, np.zeros(4)
        for window, report in enumerate(reports):
            trajectory = jax.tree.map(np.asarray, report.trajectory)
            for t in range(NUM_STEPS):
                now = jax.tree.map(lambda x: x[t, b], trajectory)  # noqa: B023
                np.testing.assert_allclose(now.obs, obs, atol=1e-6)
                np.testing.assert_allclose(now.extras["seen"], obs.sum(), atol=1e-5)
                assert now.extras["params"] == window
                assert now.extras["carry"]["steps"] == steps
                np.testing.assert_allclose(now.extras["carry"]["last"], last, atol=1e-6)
                next_obs, env_state, reward, terminated, _ = step_env(
                    jax.random.key(0), env_state, now.action, params
                )
                truncated = int(env_state.time) >= LIMIT
                total = float(reward) + DISCOUNT * total
                np.testing.assert_allclose(now.next_obs, next_obs, atol=1e-5)
                assert now.reward == float(reward)
                assert now.terminated == bool(terminated)
                assert now.truncated == truncated
                np.testing.assert_allclose(
                    now.extras["discounted_return"], total, rtol=1e-5
                )
                steps, last, obs = steps + 1, obs, np.asarray(next_obs)
                if terminated or truncated:
                    ends["terminated"] += bool(terminated)
                    ends["truncated"] += truncated
                    rest = trajectory.obs[t + 1 :, b]
                    obs = rest[0] if len(rest) else states[window + 1].rollout.obs[b]
                    assert np.abs(obs).max() <= 0.05  # of a fresh episode
                    env_state = state_from(np.asarray(obs))
                    total, steps, last = 0.0, 100, np.zeros(4)
            after = states[window + 1].rollout
            np.testing.assert_allclose(after.obs[b], obs, atol=1e-5)
            np.testing.assert_allclose(after.discounted_return[b], total, rtol=1e-5)
            assert after.carry["steps"][b] == steps
            np.testing.assert_allclose(after.carry["last"][b], last, atol=1e-5)
    assert min(ends.values()) > 0, ends


def test_reports_and_policies(run):
    learner, _, states, reports, *_ = run
    assert [float(state.policy.params) for state in states] == [0, 1, 2]
    for report in reports:
        assert report.env_steps == NUM_ENVS * NUM_STEPS and report.finite
        assert report.metrics.keys() == {"reward", "discount", "return"}
        np.testing.assert_allclose(report.metrics["reward"], 1.0)
        np.testing.assert_allclose(report.metrics["discount"], DISCOUNT)
    assert learner.hyperparams == {"discount": DISCOUNT}
    assert learner.host is None and states[0].memory == ()


def test_the_key_decides_the_window(run):
    _, step, states, reports, *_ = run
    again = step(states[0], jax.random.key(1))[1].trajectory
    jax.tree.map(np.testing.assert_array_equal, again, reports[0].trajectory)
    other = step(states[0], jax.random.key(3))[1].trajectory
    assert (other.action != reports[0].trajectory.action).any()
    actions = np.asarray(reports[0].trajectory.action)
    for b in range(1, NUM_ENVS):  # no two environments play the same
        assert (actions[:, 0] != actions[:, b]).any()
    assert (actions[1:] != actions[:-1]).any()


def test_begin_is_fresh(run):
    learner, _, states, *_ = run
    rollout = jit(learner.begin)(states[2].policy, jax.random.key(5))
    assert np.abs(rollout.obs).max() <= 0.05
    assert (rollout.env_state.time == 0).all()
    assert (rollout.discounted_return == 0).all()
    np.testing.assert_array_equal(rollout.carry["steps"], 100)


class Spoilt(probes.Endless):
    """The third observation of an episode, or the third reward, is not finite."""

    def __init__(self, where, value):
        self.where, self.value = where, value

    def next_obs(self, state):
        spoilt = (self.where == "obs") & (state.time == 1)
        return jnp.where(spoilt, self.value, jnp.ones_like(state.obs))

    def reward(self, state, action, params):
        spoilt = (self.where == "reward") & (state.time == 2)
        return jnp.where(spoilt, self.value, super().reward(state, action, params))


@pytest.mark.parametrize(
    ("where", "value", "finite"),
    [
        ("obs", np.nan, False),
        ("obs", np.inf, False),
        ("reward", np.nan, False),
        ("reward", -np.inf, False),
        ("reward", 1e6, True),
    ],
)
def test_what_is_not_finite_is_reported(where, value, finite):
    # five steps to an episode, so that the spoilt step is none of the window's last
    agent = counting_agent()
    agent = agent._replace(initial_carry=lambda batch: {"steps": jnp.zeros((batch, 1))})

    def act(policy, carry, obs, hyperparams, key, explore):
        del policy, key, hyperparams, explore
        return carry, jnp.zeros(obs.shape[0], jnp.int32), {}

    learner = on_policy(
        agent._replace(act=act), device(Spoilt(where, value)), num_envs=2, num_steps=5
    )
    state = learner.init(jax.random.key(0))
    hyperparams = {"discount": jnp.float32(DISCOUNT)}
    state, report = jit(learner.step)(state, hyperparams, jax.random.key(1), True)
    assert report.finite == finite
    assert np.isfinite(state.rollout.obs).all()


def test_devices_are_counted_and_share_the_verdict():
    """One device of two meets a NaN: both must say so."""

    class SometimesSpoilt(probes.RewardIsObservation):
        def reward(self, state, action, params):
            return jnp.where(state.obs[0] > 0, jnp.nan, 1.0)

    def act(policy, carry, obs, hyperparams, key, explore):
        del policy, key, hyperparams, explore
        return carry, jnp.zeros(obs.shape[0], jnp.int32), {}

    agent = counting_agent()._replace(
        act=act, initial_carry=lambda batch: (), axis_name="device"
    )
    learner = on_policy(
        agent,
        device(SometimesSpoilt()),
        num_envs=1,
        num_steps=1,
        evaluation_episodes=1,
    )

    @jit
    def run(key):
        def one(_):
            init_key, step_key, score_key = jax.random.split(key, 3)
            state = learner.init(init_key)
            after, report = learner.step(state, agent.hyperparams, step_key, True)
            score = learner.evaluate(state.policy, learner.hyperparams, score_key)
            return state.rollout.obs[0, 0], report, score

        return jax.vmap(one, axis_name="device")(jnp.arange(2))

    seen = set()
    for seed in range(12):
        obs, report, score = run(jax.random.key(seed))
        assert (report.env_steps == 2).all()
        verdict = not bool((obs > 0).any())
        np.testing.assert_array_equal(report.finite, [verdict] * 2)
        np.testing.assert_array_equal(score[0], score[1])
        seen.add(tuple(np.sign(obs)))
    assert {(1, -1), (-1, 1), (-1, -1)} <= seen  # the devices differ
