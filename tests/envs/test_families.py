"""Families of environments, each beside its own stepping of one environment."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.families.table import FAMILIES
from optix.make import make
from optix.types import Discrete


def need(family):
    if importlib.util.find_spec(FAMILIES[family]) is None:
        pytest.skip(f"{family} is not installed")


def own_jumanji():
    import jumanji

    env = jumanji.make("Snake-v1", time_limit=3)

    def step(key, state, action):
        state, timestep = env.step(state, action)
        last = timestep.step_type == 2
        ended = last & (timestep.discount == 0)
        return state, timestep.observation, timestep.reward, ended, last & ~ended

    def reset(key):
        state, timestep = env.reset(key)
        return state, timestep.observation

    return reset, step


def own_navix():
    import navix

    env = navix.make("Navix-Empty-5x5-v0", max_steps=3)

    def step(key, timestep, action):
        timestep = env.step(timestep, action)
        kind = timestep.step_type
        return timestep, timestep.observation, timestep.reward, kind == 2, kind == 1

    def reset(key):
        timestep = env.reset(key)
        return timestep, timestep.observation

    return reset, step


def own_xminigrid():
    import xminigrid

    env, params = xminigrid.make("MiniGrid-EmptyRandom-5x5", max_steps=3)

    def step(key, timestep, action):
        timestep = env.step(params, timestep, action)
        ended = timestep.last() & (timestep.discount == 0)
        cut = timestep.last() & ~ended
        return timestep, timestep.observation, timestep.reward, ended, cut

    def reset(key):
        timestep = env.reset(params, key)
        return timestep, timestep.observation

    return reset, step


def own_craftax():
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name("Craftax-Classic-Symbolic-v1", auto_reset=False)
    params = env.default_params.replace(max_timesteps=3)

    def step(key, state, action):
        obs, state, reward, done, _ = env.step(key, state, action, params)
        dead = state.player_health <= 0
        return state, obs, reward, done & dead, done & (state.timestep >= 3)

    def reset(key):
        obs, state = env.reset(key, params)
        return state, obs

    return reset, step


def own_brax():
    from brax import envs

    env = envs.get_environment("inverted_pendulum")

    def step(key, state, action):
        state, time = state
        state = env.step(state, action)
        ended, cut = state.done > 0, time + 1 >= 3
        return (state, time + 1), state.obs, state.reward, ended, cut

    def reset(key):
        state = env.reset(key)
        return (state, 0), state.obs

    return reset, step


def own_playground():
    from mujoco_playground import registry

    env = registry.load("CartpoleBalance")

    def step(key, state, action):
        state, time = state
        state = env.step(state, action)
        ended, cut = state.done > 0, time + 1 >= 3
        return (state, time + 1), state.obs, state.reward, ended, cut

    def reset(key):
        state = env.reset(key)
        return (state, 0), state.obs

    return reset, step


CASES = {
    "jumanji:Snake-v1": ({"time_limit": 3}, own_jumanji),
    "navix:Navix-Empty-5x5-v0": ({"max_steps": 3}, own_navix),
    "xminigrid:MiniGrid-EmptyRandom-5x5": ({"max_steps": 3}, own_xminigrid),
    "craftax:Craftax-Classic-Symbolic-v1": ({"max_timesteps": 3}, own_craftax),
    "brax:inverted_pendulum": ({"episode_length": 3}, own_brax),
    "playground:CartpoleBalance": ({"episode_length": 3}, own_playground),
}


def numbers(obs):
    leaves = [np.ravel(np.asarray(x, np.float32)) for x in jax.tree.leaves(obs)]
    return np.concatenate(leaves)


@pytest.mark.parametrize("name", CASES)
def test_a_family_is_stepped_as_by_itself(name):
    need(name.partition(":")[0])
    params, own = CASES[name]
    env = device(name, params)
    assert env.name == name and env.time_limit == 3
    own_reset, own_step = (jax.jit(function) for function in own())
    play = jax.jit(env.play)  # what follows an end is of `device`, not of a family
    key = jax.random.key(3)
    state, obs = jax.jit(env.reset, static_argnums=1)(key, 1)
    theirs, seen = own_reset(jax.random.split(key, 1)[0])
    np.testing.assert_allclose(numbers(obs), numbers(seen), rtol=1e-5, atol=1e-6)
    rng, ended = np.random.default_rng(0), 0
    for t in range(3):
        if isinstance(env.action_space, Discrete):
            action = jnp.asarray(rng.integers(env.action_space.n, size=1), jnp.int32)
        else:
            size = (1, *env.action_space.shape)
            action = jnp.asarray(rng.uniform(-1, 1, size), jnp.float32)
        key = jax.random.fold_in(key, t)
        inner = jax.random.split(key, 1)[0]
        state, result = play(key, state, action)
        theirs, seen, reward, terminated, truncated = own_step(inner, theirs, action[0])
        np.testing.assert_allclose(
            numbers(result.next_obs), numbers(seen), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(result.reward[0], reward, rtol=1e-4, atol=1e-5)
        assert bool(result.terminated[0]) == bool(terminated)
        assert bool(result.truncated[0]) == bool(truncated)
        ended += bool(terminated) or bool(truncated)
        if ended:
            break
    assert ended


@pytest.mark.parametrize(
    "name", ["navix:Navix-Empty-5x5-v0", "xminigrid:MiniGrid-Empty-5x5"]
)
def test_a_run_in_a_family(name, tmp_path):
    need(name.partition(":")[0])
    from optix.run.evaluate import evaluate
    from optix.run.train import resume, train

    options = {
        "num_envs": 2,
        "num_steps": 8,
        "evaluation_episodes": 2,
        "final_scores": 2,
        "hidden": (4,),
        "num_minibatches": 2,
        "progress": False,
    }
    whole = train(name, agent="ppo", max_rounds=2, **options)
    train(name, agent="ppo", max_rounds=1, directory=tmp_path / "run", **options)
    result = resume(tmp_path / "run", progress=False, max_rounds=2)
    for a, b in zip(
        jax.tree.leaves(whole.state.learner.policy.params),
        jax.tree.leaves(result.state.learner.policy.params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert len(evaluate(tmp_path / "run", episodes=2).scores) == 2


def test_a_family_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(FAMILIES, "navix", "no_such_package")
    with pytest.raises(
        ValueError, match=r"navix is not installed; pip install .*\[navix\]"
    ):
        make("navix:Navix-Empty-5x5-v0")


@pytest.mark.parametrize("name", ["crafax:Craftax-Symbolic-v1", "jumanij:Snake-v1"])
def test_a_family_with_a_typing_error(name):
    with pytest.raises(ValueError, match="did you mean the family"):
        environment(name)


def test_a_name_with_a_typing_error():
    need("jumanji")
    with pytest.raises(ValueError, match="did you mean 'jumanji:Snake-v1'"):
        environment("jumanji:Snak-v1")


def test_a_bare_name_of_one_family_is_found():
    need("jumanji")
    assert environment("Snake-v1").name == "jumanji:Snake-v1"


@pytest.mark.parametrize("name", CASES)
def test_parameters_of_another_environment(name):
    need(name.partition(":")[0])
    for params in (3, {"no_such_parameter": 1}):
        with pytest.raises(ValueError, match="parameter|env_params"):
            environment(name, params)


def test_environments_are_listed(capsys):
    from optix.cli import main

    assert main(["envs", "cartpole-v1"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split() == [
        "CartPole-v1",
        "[4]",
        "float32",
        "2",
        "actions",
        "500",
        "steps",
    ]
    assert main(["envs", "no such word"]) == 2
    assert "no environment has" in capsys.readouterr().err


def test_a_family_is_listed(capsys):
    need("jumanji")
    from optix.cli import main

    assert main(["envs", "jumanji:"]) == 0
    names = capsys.readouterr().out.split()
    assert "jumanji:Snake-v1" in names and "CartPole-v1" not in names


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("navix:Navix-Empty-5x5-v0", (40, 40, 3)),
        ("xminigrid:MiniGrid-EmptyRandom-5x5", (160, 160, 3)),
        ("jumanji:Snake-v1", (400, 400, 3)),
    ],
)
def test_pictures(name, shape):
    need(name.partition(":")[0])
    env = device(name)
    state, _ = env.reset(jax.random.key(0), 2)
    first, second = (jax.tree.map(lambda x, i=i: x[i], state) for i in range(2))
    picture = env.render(first)
    assert picture.shape == shape and picture.dtype == np.uint8
    assert len(np.unique(picture)) > 2
    np.testing.assert_array_equal(env.render(first), picture)
    if "Empty-5x5" not in name:  # where it begins in one place
        assert (env.render(second) != picture).any()


def test_the_page_of_brax():
    need("brax")
    env = device("brax:inverted_pendulum")
    state, _ = env.reset(jax.random.key(0), 1)
    one = jax.tree.map(lambda x: x[0], state)
    assert "Brax visualizer" in env.html([one, one])


def test_a_task_is_of_families_that_are_told_their_parameters():
    need("navix")
    with pytest.raises(ValueError, match="task is for environments that are told"):
        device("navix:Navix-Empty-5x5-v0", task=lambda key: None)
    need("xminigrid")
    import xminigrid

    name = "XLand-MiniGrid-R1-9x9"
    _, params = xminigrid.make(name)

    def draw(key):
        goal = jax.random.randint(key, params.ruleset.goal.shape, 0, 3, jnp.uint8)
        return params.replace(ruleset=params.ruleset.replace(goal=goal))

    env = device(f"xminigrid:{name}", task=draw)
    state, _ = env.reset(jax.random.key(0), 8)
    goals = np.asarray(state.state.world.state.goal_encoding)
    np.testing.assert_array_equal(goals, state.params.world.ruleset.goal)
    assert len(np.unique(goals[:, 0])) > 1
