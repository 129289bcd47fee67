"""Learners, lanes and seeds in environments of Gymnasium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.envs.hosted import hosted
from tests.envs.counting import Counting, Pictures, Scaled

TINY = {
    "num_envs": 2,
    "num_steps": 8,
    "hidden": (4,),
    "evaluation_episodes": 3,
    "final_scores": 2,
    "max_rounds": 2,
}
WINDOWS = {**TINY, "num_epochs": 1, "num_minibatches": 2}
REPLAY = {**TINY, "batch_size": 4, "capacity": 96, "learning_starts": 8}
AGENTS = {
    "ppo": (Counting, WINDOWS),
    "recurrent_ppo": (Counting, {**WINDOWS, "sequence_length": 4, "cell_size": 4}),
    "dqn": (Pictures, REPLAY),
    "rainbow": (Counting, {**REPLAY, "num_atoms": 5}),
    "sac": (Scaled, {**REPLAY, "gradient_steps": 1, "n_step": 3}),
    "td3": (Scaled, {**REPLAY, "gradient_steps": 1}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_learns_from_gymnasium(name):
    kind, options = AGENTS[name]
    learner = optix.make(kind, name, **options).learner

    def train(state, key):
        after, report = learner.step(state, learner.hyperparams, key, True)
        score = learner.evaluate(after.policy, learner.hyperparams, key)
        return after, report, score

    state = learner.init(jax.random.key(0))
    after, report, score = jax.jit(train)(state, jax.random.key(1))
    assert report.env_steps == 16 and report.finite
    # 3 or 4 steps of an episode, each earns its action
    low, high = (2, 6) if kind is Scaled else (0, 2)
    for value in (score, report.metrics["return"]):
        assert 3 * low <= value <= 4 * high
    changed = jax.tree.map(
        lambda x, y: (x != y).any(), after.policy.params, state.policy.params
    )
    assert any(jax.tree.leaves(changed))
    if kind is Pictures:
        assert after.rollout.envs.obs.dtype == np.uint8
        assert after.memory.replay.items.obs.dtype == np.uint8


def test_the_second_fork_begins_with_nothing_remembered():
    kind, options = AGENTS["recurrent_ppo"]
    learner = optix.make(kind, "recurrent_ppo", **options).learner
    key = jax.random.key(0)
    state = learner.init(key)
    step = jax.jit(
        lambda state, key: learner.step(state, learner.hyperparams, key, True)
    )
    middle, _ = step(state, key)
    windows = [step(middle, key)[1].trajectory for _ in range(2)]
    went_on, fresh = (jax.tree.map(lambda x: x[0], window) for window in windows)
    rollout = middle.rollout
    np.testing.assert_array_equal(went_on.obs, rollout.obs)
    assert (rollout.obs[:, 1] > 0).all() and (fresh.obs[:, 1] == 0).all()
    carry = jax.tree.leaves(went_on.extras["carry"])[0]
    np.testing.assert_array_equal(carry, jax.tree.leaves(rollout.carry)[0])
    assert carry.any() and not jax.tree.leaves(fresh.extras["carry"])[0].any()
    total = rollout.episode_return + went_on.reward
    np.testing.assert_array_equal(went_on.extras["episode_return"], total)
    for name in ("episode_return", "discounted_return"):
        np.testing.assert_array_equal(fresh.extras[name], fresh.reward)
    assert rollout.episode_return.any()


def test_no_row_of_the_replay_joins_two_forks():
    options = {**REPLAY, "num_steps": 5, "learning_starts": 64, "n_step": 3}
    learner = optix.make(Counting, "dqn", **options).learner
    key = jax.random.key(0)
    step = jax.jit(
        lambda state, key: learner.step(state, learner.hyperparams, key, True)
    )
    middle, _ = step(learner.init(key), key)
    went_on, fresh = (step(middle, key)[0].memory.replay for _ in range(2))
    # of 2 environments: 3 of 5 steps, then all 5, or 3 more of fresh episodes
    assert (went_on.size, fresh.size) == (2 * 3 + 2 * 5, 2 * 3 + 2 * 3)
    for ring in (went_on, fresh):
        rows = jax.tree.map(lambda x, size=ring.size: np.asarray(x)[:size], ring.items)
        np.testing.assert_array_equal(rows.obs[:, 0], rows.next_obs[:, 0])
        steps = rows.next_obs[:, 1] - rows.obs[:, 1]
        assert steps.min() >= 1 and steps.max() == 3
        left = np.where(rows.obs[:, 0] % 2 == 0, 3, 4) - rows.obs[:, 1]
        np.testing.assert_array_equal(steps, np.minimum(left, 3))
        ends = (rows.obs[:, 0] % 2 == 0) & (steps == left)
        powers = np.float32(0.99) ** steps
        np.testing.assert_allclose(rows.discount, np.where(ends, 0, powers), 1e-6)


def test_seeds_and_lanes_are_played_in_turn():
    """Two vmapped seeds of two lanes each: their order makes no difference."""
    options = {**REPLAY, "tuner": "spsa", "max_rounds": 3}
    loop = optix.make(Counting, "dqn", **options)
    keys = jax.random.split(jax.random.key(3), 2)
    program = jax.jit(jax.vmap(lambda key: loop.run(loop.init(key))))
    one, two = program(keys), program(keys[::-1])
    assert (one.round == 3).all() and (one.env_steps == 3 * 2 * 16).all()
    assert one.best.score[0] != one.best.score[1]
    for mine, yours in zip(
        jax.tree.leaves((one.curve, one.best)),
        jax.tree.leaves((two.curve, two.best)),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, yours[::-1])


def test_bytes_are_shares_of_255_for_every_agent_and_stay_bytes_in_a_replay():
    env = hosted(Pictures)
    agent = optix.make_agent(env, "dqn", hidden=(4,))
    policy = agent.init(jax.random.key(0))
    _, obs, _ = env.claim(jax.random.key(0), *env.reset(None, 2), 1, True)
    assert obs.dtype == np.uint8
    _, values = agent.outputs(policy, (), obs)
    _, expected = agent.outputs(policy, (), np.asarray(obs) / np.float32(255))
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="observation_dtype must be uint8 or None"):
        optix.make(env, "dqn", **REPLAY, observation_dtype="float16")
    optix.make(env, "dqn", **REPLAY, observation_dtype="uint8")


def test_the_callbacks_of_images_carry_bytes():
    env = hosted(Pictures)
    loop = optix.make(env, "ppo", **WINDOWS)
    state = jax.eval_shape(loop.init, jax.random.key(0))
    program = str(
        jax.make_jaxpr(loop.learner.step)(
            jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), state.learner),
            loop.learner.hyperparams,
            jax.random.key(0),
            True,
        )
    )
    lines = [line for line in program.splitlines() if "u8[2,3,8,6]" in line]
    assert lines and "f32[2,3,8,6]" not in program
    assert "u8[8,2,8,6,3]" in program  # the window
