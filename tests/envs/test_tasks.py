"""Several tasks in one run: who plays which, from one episode to the next."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.cli import main
from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.resets import with_resets
from optix.make import make
from tests import probes
from tests.devices import in_two_devices

TINY = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 2}
LENGTH = 3


class Told(probes.Probe):
    """Shows what its parameters say, which every step earns; the action 1 ends it."""

    default_params = probes.Params(max_steps_in_episode=LENGTH)

    def observation_space(self, params):
        return probes.spaces.Box(0.0, params.reward, (1,))

    def reset_env(self, key, params):
        obs = jnp.float32(params.reward)[None]
        return obs, probes.State(obs, jnp.int32(0))

    def step_env(self, key, state, action, params):
        state = probes.State(jnp.float32(params.reward)[None], state.time + 1)
        return state.obs, state, params.reward, action == 1, {}


def task(key):
    return probes.Params(LENGTH, jax.random.uniform(key, minval=1.0, maxval=2.0))


def stepped(env, steps, ends, envs=4, seed=0):
    """Observations [steps + 1, envs] and rewards [steps, envs]; `ends` says when."""
    key = jax.random.key(seed)
    state, obs = env.reset(key, envs)
    seen, rewards = [obs[:, 0]], []
    for number in range(steps):
        action = jnp.asarray(ends[number], jnp.int32)
        key = jax.random.fold_in(key, number)
        state, result = jax.jit(env.step)(key, state, action)
        seen.append(result.obs[:, 0])
        rewards.append(result.reward)
    return np.array(seen), np.array(rewards)


ENDS = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("resets", ["all", "shared"])
def test_each_episode_has_a_task_of_its_own_and_keeps_it(resets):
    env = with_resets(device(Told(), task=task), resets)
    seen, rewards = stepped(env, 4, ENDS)
    assert len(set(seen[0])) == 4 and (seen >= 1).all() and (seen < 2).all()
    np.testing.assert_array_equal(rewards, seen[:-1])  # the one that was being played
    # who ended, or was cut after three steps, plays another one; nobody else does
    ended = ENDS.astype(bool)
    ended[2] |= ~ended[:2].any(0)
    changed = seen[1:] != seen[:-1]
    np.testing.assert_array_equal(changed, ended)


def test_cached_episodes_begin_again_with_the_same_task():
    env = with_resets(device(Told(), task=task), "cached")
    seen, _ = stepped(env, 4, ENDS)
    assert (seen == seen[0]).all() and len(set(seen[0])) == 4


def test_tasks_are_distributed_as_they_are_drawn():
    from scipy.stats import kstest

    env = device(Told(), task=task)
    _, obs = env.reset(jax.random.key(1), 2000)
    assert kstest(np.asarray(obs)[:, 0] - 1, "uniform").pvalue > 0.01


def test_an_evaluation_draws_tasks_by_keys_of_its_own():
    loop = make(Told(), "ppo", task=task, num_minibatches=2, **TINY)
    policy = loop.init(jax.random.key(0)).best.policy
    keys = jax.random.split(jax.random.key(7), 20)
    evaluate = jax.jit(jax.vmap(loop.learner.evaluate, (None, None, 0)))
    scores = np.asarray(evaluate(policy, loop.learner.hyperparams, keys))
    # one step of whoever takes 1, LENGTH of whoever takes 0: by what was drawn
    assert len(set(scores.tolist())) == 20
    assert (scores >= 1).all() and (scores < 2 * LENGTH).all()
    again = evaluate(policy, loop.learner.hyperparams, keys)
    np.testing.assert_array_equal(scores, again)


def test_nothing_is_traced_again_and_seeds_are_mapped():
    env, traces = device(Told(), task=task), []

    @jax.jit
    def step(key, state, action):
        traces.append(1)
        return env.step(key, state, action)

    for seed in range(3):
        state, _ = env.reset(jax.random.key(seed), 4)
        state, _ = step(jax.random.key(seed), state, jnp.zeros(4, jnp.int32))
    assert len(traces) == 1
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(lambda key: env.reset(key, 4)[1])(keys)
    alone = jnp.stack([env.reset(key, 4)[1] for key in keys])
    np.testing.assert_array_equal(many, alone)


def test_a_run_is_resumed_bit_for_bit(tmp_path):
    def loop(rounds):
        options = {**TINY, "num_minibatches": 2, "final_scores": 1}
        return make(Told(), "ppo", task=task, max_rounds=rounds, **options)

    whole = optix.train(loop(4), directory=tmp_path / "a", progress=False)
    optix.train(loop(2), directory=tmp_path / "b", progress=False)
    ended = optix.resume(tmp_path / "b", loop(4), max_rounds=4, progress=False)
    for one, two in zip(
        *(jax.tree.leaves(x.state.learner) for x in (whole, ended)), strict=True
    ):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = map(jax.random.key_data, (one, two))
        np.testing.assert_array_equal(one, two)


def test_a_folder_says_that_a_task_is_no_name(tmp_path, capsys):
    options = {**TINY, "num_minibatches": 2, "max_rounds": 1, "final_scores": 1}

    def gravity(key):
        from gymnax.environments.classic_control.pendulum import EnvParams

        return EnvParams(g=jax.random.uniform(key, minval=5.0, maxval=15.0))

    with pytest.warns(UserWarning, match="task can not be written to run.json"):
        optix.train(
            "Pendulum-v1",
            agent="ppo",
            task=gravity,
            directory=tmp_path / "run",
            progress=False,
            **options,
        )
    missing = r"by name: task was .* make the same loop again .* loop=loop\)"
    for use in (optix.evaluate, optix.resume, optix.play, optix.load):
        with pytest.raises(optix.RunFolderError, match=missing):
            use(tmp_path / "run")
    for command in ("eval", "resume", "play"):
        assert main([command, str(tmp_path / "run")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(missing, line)
    same = make("Pendulum-v1", "ppo", task=gravity, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(optix.evaluate(tmp_path / "run", 2, loop=same).mean)


def test_masks_and_pictures_are_of_the_task():
    class Half(probes.Masks):
        """Which half of its actions is allowed is a parameter."""

        def action_mask(self, state, params):
            return (jnp.arange(4) < 2) == (params.reward < 1.5)

        def render(self, state, params):
            return np.full((2, 2), float(params.reward) / 2)

    def draw(key):
        return probes.Params(4, jax.random.uniform(key, minval=1.0, maxval=2.0))

    env = device(Half(), task=draw)
    state, obs = env.reset(jax.random.key(0), 16)
    rewards = np.asarray(state.params.reward)
    low = rewards < 1.5
    assert 0 < low.sum() < 16
    mask = np.asarray(obs.action_mask)
    np.testing.assert_array_equal(mask[:, 0], low)
    np.testing.assert_array_equal(mask[:, 3], ~low)
    one = jax.tree.map(lambda x: x[5], state)
    assert env.render(one)[0, 0, 0] == int(rewards[5] / 2 * 255)


def test_gravity_is_felt():
    from gymnax.environments.classic_control.pendulum import EnvParams

    def heavy(key):
        return EnvParams(g=jax.random.uniform(key, minval=5.0, maxval=15.0))

    env = environment("Pendulum-v1", task=heavy)
    state, _ = env.reset(jax.random.key(0), 8)
    after, result = env.step(jax.random.key(1), state, jnp.zeros((8, 1)))
    inner, g = state.state, np.asarray(state.params.g)
    assert len(set(g.tolist())) == 8
    wanted = np.asarray(inner.theta_dot) + 1.5 * g * np.sin(inner.theta) * 0.05
    np.testing.assert_allclose(np.asarray(result.obs)[:, 2], wanted, rtol=1e-4)


class Replacing(Told):
    def step(self, key, state, action, params):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("env", "task", "message"),
    [
        (Told(), 3, "task must be a function, got 3"),
        (Told(), lambda key: 1.0, r"task must give parameters of Told like Params"),
        (Told(), lambda key: key + 1, "task failed with"),
        (
            Told(),
            lambda key: probes.Params(jax.random.randint(key, (), 1, 9)),
            "max_steps_in_episode from 1 to that of Told, 3, .*got [4-8]",
        ),
        (
            Told(),
            lambda key: probes.Params(0),
            "max_steps_in_episode from 1 to .*got 0",
        ),
        (
            Told(),
            lambda key: probes.Params(3, np.random.default_rng().uniform()),
            "task must draw by its key alone, got other parameters of Told .*jax.random",
        ),
        (Replacing(), task, "Replacing replaces its ended episodes itself"),
        ("gymnasium:CartPole-v1", task, "task is for environments that are made here"),
        (device(Told()), task, "give it to optix.envs.device"),
    ],
)
def test_refusals(env, task, message):
    with pytest.raises(OptionError, match=message):
        make(env, "ppo", task=task)


def test_devices_of_one_run_draw_tasks_of_their_own():
    told = in_two_devices("""
        import jax
        from optix.agents.ppo import ppo
        from optix.envs.device import device
        from optix.learners.on_policy import on_policy
        from optix.networks.mlp import actor_critic
        from tests.envs.test_tasks import Told, task

        env = device(Told(), task=task)
        spaces = env.observation_shape, env.action_space
        agent = ppo(actor_critic(*spaces, hidden=(4,)), *spaces, axis_name="data")
        learner = on_policy(agent, env, num_envs=4)
        begin = jax.pmap(lambda key: learner.begin(None, key).obs, "data")
        obs = begin(jax.numpy.stack([jax.random.key(0)] * 2))
        print(len(set(obs.ravel().tolist())))
    """)
    assert told.split() == ["8"]
