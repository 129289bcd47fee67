"""Families of environments, each beside its own stepping of one environment."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointRegistry
from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.families.table import FAMILIES
from optix.envs.pictures import quiet
from optix.envs.resets import with_resets
from optix.make import make_agent
from optix.types import Discrete, Masked


def need(family):
    quiet()  # before MuJoCo is imported
    if importlib.util.find_spec(FAMILIES[family]) is None:
        pytest.skip(f"{family} is not installed")


def need_opengl():
    import mujoco

    try:
        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>")).close()
    except Exception as error:  # whatever a library that is absent raises
        pytest.skip(f"MuJoCo finds no OpenGL to draw with: {error}")


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

    env = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})

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
    """All that is observed, as a vector; a mask is a part of Jumanji's own."""
    obs = obs.obs if isinstance(obs, Masked) else obs
    leaves = [np.ravel(np.asarray(x, np.float32)) for x in jax.tree.leaves(obs)]
    return np.concatenate(leaves)


@pytest.mark.parametrize("name", CASES)
def test_a_family_is_stepped_as_by_itself(name, tmp_path):
    """From a state that was saved and loaded, as a resumed run is."""
    need(name.partition(":")[0])
    params, own = CASES[name]
    env = device(name, params)
    assert env.name == name and env.time_limit == 3
    own_reset, own_step = (jax.jit(function) for function in own())
    play = jax.jit(env.play)  # what follows an end is of `device`, not of a family
    key = jax.random.key(3)
    state, obs = jax.jit(env.reset, static_argnums=1)(key, 1)
    registry = CheckpointRegistry(tmp_path)
    registry.save(0, state)
    state, _ = registry.load(0, jax.eval_shape(lambda: state))
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
        if env.masked:
            mask = result.next_obs.action_mask[0]
            np.testing.assert_array_equal(mask, seen.action_mask)
        np.testing.assert_allclose(result.reward[0], reward, rtol=1e-4, atol=1e-5)
        assert bool(result.terminated[0]) == bool(terminated)
        assert bool(result.truncated[0]) == bool(truncated)
        ended += bool(terminated) or bool(truncated)
        if ended:
            break
    assert ended


@pytest.mark.parametrize("name", ["Snake-v1", "Game2048-v1"])
def test_what_jumanji_forbids_is_not_done(name):
    need("jumanji")
    env = device(f"jumanji:{name}")
    assert env.masked
    agent = make_agent(env, "ppo", hidden=(4,))
    policy, hyperparams = agent.init(jax.random.key(0)), agent.hyperparams

    def step(at, key):
        state, obs = at
        act_key, step_key = jax.random.split(key)
        _, action, _ = agent.act(policy, (), obs, hyperparams, act_key, True)
        state, result = env.step(step_key, state, action)
        allowed = jnp.take_along_axis(obs.action_mask, action[:, None], 1)
        return (state, result.obs), (allowed, obs.action_mask)

    keys = jax.random.split(jax.random.key(1), 40)
    begun = env.reset(jax.random.key(2), 4)
    allowed, mask = jax.jit(lambda: jax.lax.scan(step, begun, keys)[1])()
    assert allowed.all() and mask.any(-1).all() and not mask.all()


def test_masks_of_several_actions_of_jumanji():
    need("jumanji")
    from jumanji.environments import Connector

    from optix.envs.families.jumanji import world

    own = Connector()
    made, key = world(own, None), jax.random.key(0)
    assert made.action_mask is not None
    _, state = made.reset(key)
    mask = own.reset(key)[1].observation.action_mask
    np.testing.assert_array_equal(made.action_mask(state), np.ravel(mask))
    # what is allowed of one number depends on the other
    assert world("Tetris-v0", None).action_mask is None


def test_a_run_in_a_family_goes_on_bit_for_bit(tmp_path):
    need("jumanji")
    from optix.run.evaluate import evaluate
    from optix.run.train import resume, train

    options = {
        # a snake of nine cells
        "env_params": {"num_rows": 3, "num_cols": 3, "time_limit": 9},
        "num_envs": 2,
        "num_steps": 4,
        "evaluation_episodes": 2,
        "final_scores": 2,
        "hidden": (4,),
        "num_minibatches": 2,
        "progress": False,
    }
    name = "jumanji:Snake-v1"
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


@pytest.mark.parametrize("resets", ["all", "shared"])
def test_goals_of_navix_are_where_its_own_resets_put_them(resets):
    from scipy.stats import chi2_contingency

    need("navix")
    import navix

    name = "Navix-Empty-Random-5x5-v0"
    env, own = device(f"navix:{name}", {"max_steps": 1}), navix.make(name)
    env = with_resets(env, resets)

    def begun(key):  # the first step ends all, by the limit
        state, _ = env.reset(key, 2)
        state, result = env.step(jax.random.fold_in(key, 1), state, jnp.full(2, 6))
        return state.world.state.get_goals().position[0, 0], result.truncated.all()

    def own_goal(key):
        return own.reset(key).state.get_goals().position[0]

    keys = jax.random.split(jax.random.key(0), (2, 1000))
    goals, ended = jax.jit(jax.vmap(begun))(keys[0])
    assert ended.all()
    places = np.stack([goals, jax.jit(jax.vmap(own_goal))(keys[1])])
    cells = places[..., 0] * 5 + places[..., 1]
    counts = np.stack([np.bincount(each, minlength=25) for each in cells])
    counts = counts[:, counts.sum(0) > 0]
    assert counts.shape[1] == 9  # all that is not a wall
    assert chi2_contingency(counts).pvalue > 1e-3


def test_a_bare_name_of_one_family_is_found():
    need("jumanji")
    assert environment("Snake-v1").name == "jumanji:Snake-v1"


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
        ("brax:inverted_pendulum", (240, 320, 3)),
        ("playground:CartpoleBalance", (240, 320, 3)),
    ],
)
def test_pictures(name, shape):
    family = name.partition(":")[0]
    need(family)
    if family in ("brax", "playground"):
        need_opengl()
    env = device(name)
    state, _ = jax.jit(env.reset, static_argnums=1)(jax.random.key(0), 2)
    first, second = (jax.tree.map(lambda x, i=i: x[i], state) for i in range(2))
    picture = env.render(first)
    assert picture.shape == shape and picture.dtype == np.uint8
    assert len(np.unique(picture)) > 2
    np.testing.assert_array_equal(env.render(first), picture)
    if "Empty-5x5" not in name:  # where it begins in one place
        assert (env.render(second) != picture).any()


def test_no_opengl_is_told_with_what_helps(monkeypatch):
    mujoco = pytest.importorskip("mujoco")
    from optix.envs.families.drawing import drawer

    def absent(*_, **__):
        raise mujoco.FatalError("no OpenGL\nand more")

    monkeypatch.setattr(mujoco, "Renderer", absent)
    draw = drawer("x", mujoco.MjModel.from_xml_string("<mujoco/>"), "; or so")
    with pytest.raises(
        ValueError, match="x failed .* OpenGL; .*MUJOCO_GL=egl .* or so"
    ):
        draw(qpos=[])


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
