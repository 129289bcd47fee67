"""Action masks of Gymnasium's environments, from `info` to the agent."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.envs.hosted import hosted
from optix.types import Masked
from tests.telling import Boxed, Late, Method, Several, Silent, Stuck, Told, Wrong

SAME_STEP = gymnasium.vector.AutoresetMode.SAME_STEP


def sync(kind):
    return lambda count: gymnasium.vector.SyncVectorEnv(
        [kind] * count, autoreset_mode=SAME_STEP
    )


def made(kind, how):
    if how == "vector":
        return hosted(kind, vector=sync(kind))
    return hosted(kind, async_envs=how == "processes")


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (Told, "rows"),
        (Told, "vector"),
        (Told, "processes"),
        (Silent, "rows"),
        (Silent, "vector"),
        (Method, "rows"),
        (Method, "processes"),
        (Method, "vector"),
        (Several, "rows"),
        (Several, "vector"),
    ],
)
def test_masks_of_every_step_and_of_what_followed_an_end(kind, how):
    env = made(kind, how)
    assert env.masked
    number = 6 if kind is Several else 4
    silent = kind is Silent or (kind, how) == (Method, "vector")
    after = np.ones(4) if silent else np.eye(4)[3]
    start = env.reset(None, 2)
    assert start[1].action_mask.shape == (2, number)
    state, obs, fresh = env.claim(jax.random.key(0), *start, 6, jnp.bool_(True))
    assert bool(fresh)
    for time in (0, 1, 2, 0, 1, 2):
        assert isinstance(obs, Masked) and obs.action_mask.dtype == bool
        np.testing.assert_array_equal(obs.action_mask[:, :4], [np.eye(4)[time]] * 2)
        np.testing.assert_array_equal(obs.obs, [[time]] * 2)
        action = jnp.full(2, time)
        if kind is Several:
            action = jnp.stack([action, jnp.ones_like(action)], -1)
        state, step = env.step(None, state, action)
        expected = after if time == 2 else np.eye(4)[time + 1]
        found = step.next_obs.action_mask[:, :4]
        np.testing.assert_array_equal(found, [expected] * 2)
        np.testing.assert_array_equal(step.truncated, time == 2)
        obs = step.obs
    env.host.close()


REPLAY = {"learning_starts": 8, "batch_size": 4, "capacity": 64, "num_steps": 8}


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("ppo", Told), ("ppo", Several), ("dqn", Told), ("recurrent_ppo", Method)],
)
def test_agents_of_jax_keep_to_them_in_training_and_evaluation(algorithm, kind):
    options = {"num_steps": 8}
    if algorithm == "dqn":
        options = REPLAY
    if algorithm == "recurrent_ppo":
        options |= {"sequence_length": 4, "cell_size": 4}
    small = {"num_envs": 2, "hidden": (4,), "evaluation_episodes": 2, **options}
    loop = optix.make(kind, algorithm, **small)
    state = jax.jit(loop.init)(jax.random.key(0))
    for _ in range(2):  # any other action than the one that is allowed raises
        state, report = jax.jit(loop.step)(state)
        loop.learner.host.raise_if_failed()
    assert float(report.score) == 3 and bool(jnp.isfinite(report.score))


def test_taxi_tells_its_masks():
    taxi = max(name for name in gymnasium.registry if name.startswith("Taxi-"))
    assert hosted(taxi).masked and not hosted("CartPole-v1").masked


@pytest.mark.parametrize("how", ["rows", "vector"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Late, "info of .* must hold 'action_mask' at every step that does not end"),
        (Wrong, "must hold a 0 or a 1 for each of 4 actions"),
        (Stuck, "'action_mask' in info of .* must allow one action or more at every"),
    ],
)
def test_masks_that_are_none(kind, how, message):
    vector = sync(kind) if how == "vector" else None
    env = hosted(kind, vector=vector)
    with pytest.raises(Exception):  # noqa: B017
        state, *_ = env.claim(jax.random.key(0), *env.reset(None, 1), 2, True)
        jax.block_until_ready(env.step(None, state, jnp.zeros(1, jnp.int32)))
    with pytest.raises(ValueError, match=message):
        env.host.raise_if_failed()


def test_a_mask_beside_a_box_is_not_read():
    assert not hosted(Boxed).masked
