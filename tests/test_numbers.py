"""Numbers at the ends of their types: 64 bits, NaN as an error, counters, odd units."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.ppo import ppo
from optix.agents.updates import apply_update, update_rule
from optix.agents.view import replay_view
from optix.make import make
from optix.networks.mlp import actor_critic
from optix.trees import next_turn, saturating_add
from optix.types import MAX_INT32, Discrete, Policy, Trajectory
from tests import probes


def under(flag, *arguments):
    """Run `tests.numbers_script` with a flag of JAX set from the start."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.numbers_script", *arguments],
        env={**os.environ, flag: "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_agent_tuner_and_graph_makes_a_round_with_64_bit_numbers():
    assert under("JAX_ENABLE_X64", "traced").count(": right") >= 10


def test_a_whole_run_has_no_nan_where_nothing_is_wrong():
    assert under("JAX_DEBUG_NANS", "played", "ppo", "dqn").count(": right") == 2


def test_a_count_stays_at_its_end():
    near = jnp.int32(MAX_INT32 - 40)
    assert saturating_add(near, 40) == MAX_INT32
    assert saturating_add(near, 41) == MAX_INT32
    assert saturating_add(jnp.int32(MAX_INT32), MAX_INT32) == MAX_INT32
    assert saturating_add(jnp.int32(7), jnp.int32(5)) == 12
    assert saturating_add(near, 41).dtype == jnp.int32


@pytest.mark.parametrize("period", [1, 2, 50, 999, 2**31 - 1])
def test_what_is_due_now_and_then_stays_so_for_ever(period):
    count = jnp.int32(MAX_INT32 - min(3 * period, 2000))
    before, due = int(count), []
    for _ in range(40 if period < 999 else 3):
        before, count = before + 1, next_turn(count, period)
        assert 0 < int(count) <= MAX_INT32
        if period > 1 or before <= MAX_INT32:
            assert int(count) % period == before % period
        due.append(int(count) % period == 0)
    if 1 < period < 40:
        assert sum(due) == 40 // period
    last = jnp.int32(MAX_INT32 - MAX_INT32 % period)
    assert int(next_turn(last, period)) % period == 1 % period


def window(steps):
    shape = (steps,)
    row, no = jnp.zeros(shape), jnp.zeros(shape, bool)
    return Trajectory(jnp.zeros((steps, 1)), row, row, no, no, jnp.zeros((steps, 1)))


def test_the_counters_of_a_policy_stay_at_their_end():
    view = replay_view((1,), False, False, None)
    extras = view.init({"w": jnp.zeros(1)})._replace(
        env_steps=jnp.int32(MAX_INT32 - 2), updates=jnp.int32(MAX_INT32)
    )
    params = {"w": jnp.ones(1)}
    rule = update_rule(None, {"learning_rate": 0.1, "max_grad_norm": 1.0})
    policy = Policy(params, (), rule.init(params), extras)
    policy = view.observe(policy, window(8))
    assert policy.extras.env_steps == MAX_INT32
    moved = []
    for _ in range(10):
        before = policy.extras.target["w"]
        policy = apply_update(policy, params, rule, 1.0, target_period=5)
        moved.append(bool(before != policy.extras.target["w"]))
        assert policy.extras.updates > 0
    assert sum(moved) == 2  # targets move at every fifth update as ever


def test_a_replay_learns_beyond_the_end_of_its_counter():
    run = make(
        probes.Probe(),
        "dqn",
        num_envs=2,
        num_steps=4,
        hidden=(2,),
        evaluation_episodes=1,
        learning_starts=4,
        capacity=32,
        batch_size=4,
    )
    learner = run.learner

    @jit
    def step(near):
        state = learner.init(jax.random.key(0))
        memory = state.memory._replace(env_steps=near)
        extras = state.policy.extras._replace(env_steps=near)
        policy = state.policy._replace(extras=extras)
        state = state._replace(memory=memory, policy=policy)
        for key in jax.random.split(jax.random.key(1), 2):
            state, _ = learner.step(state, learner.hyperparams, key, True)
        return state.memory.env_steps, state.policy.extras

    steps, extras = step(jnp.int32(MAX_INT32 - 3))
    assert steps == MAX_INT32 and extras.env_steps == MAX_INT32
    assert extras.updates == step(jnp.int32(1000))[1].updates > 0


def test_rewards_of_any_size_are_learned_from():
    """The first window of huge rewards is not thrown away, nor their scale with it."""
    network = actor_critic((1,), Discrete(2), hidden=(2,))
    agent = ppo(network, (1,), Discrete(2))
    policy = agent.init(jax.random.key(0))
    draw = np.random.default_rng(0).normal
    obs = jnp.asarray(draw(size=(8, 2, 1)), jnp.float32)
    action, extras = agent.act(policy, (), obs, {}, jax.random.key(1), True)[1:]
    reward = draw(size=(8, 2))
    no = jnp.zeros((8, 2), bool)
    learn = jit(agent.learn)

    def learned(unit):
        rewards = jnp.asarray(unit * reward, jnp.float32)
        seen = {**extras, "discounted_return": 3 * rewards}
        window = Trajectory(obs, action, rewards, no, no, obs, seen)
        learned = learn(policy, window, agent.hyperparams, jax.random.key(2))
        new = learned.policy
        assert learned.finite and new.extras.returns.count == 16
        return new.params

    usual = learned(1.0)
    for unit in (1e-12, 1e-6, 1e6, 1e18):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3),
            learned(unit),
            usual,
        )
    learned(1e19), learned(1e25)  # beyond what float32 holds the square of
