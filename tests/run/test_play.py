"""Films of the best policy: what is in them, and that it is what evaluation plays."""

import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import optix
from optix.checks import OptionError
from optix.cli import main
from optix.envs.device import device
from optix.envs.pictures import image, pixels
from optix.envs.resets import with_resets
from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.loop.loop import loop as loop_of
from optix.tuners.fixed import fixed
from tests import probes
from tests.numpy_agent import NumpyAgent

TINY = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 1}
ENDS = {"max_rounds": 1, "final_scores": 1}
QUIET = {"progress": False}


class Drawn(probes.Endless):
    """Six steps, of which each has a picture of one colour."""

    default_params = probes.Params(max_steps_in_episode=6)

    def first_obs(self, key):
        return jax.random.uniform(key, (1,))

    def reward(self, state, action, params):
        return state.obs[0] * (1 + action)

    def render(self, state, params):
        assert params.max_steps_in_episode == 6
        first = 255 * np.clip(np.asarray(state.obs), 0, 1)
        return np.full((4, 6, 3), [10 * int(state.time), 7, int(first[0])], np.uint8)


def drawn_masks():
    class DrawnMasks(probes.Masks):
        def render(self, state, params):
            return np.asarray(state.mask, float)[None]

    return DrawnMasks()


def drawn_recall():
    class DrawnRecall(probes.Recall):
        def render(self, state, params):
            return np.full((3, 3), float(state.time) / 10)

    return DrawnRecall()


def trained(folder, env, agent="ppo", **options):
    loop = optix.make(env, agent, **TINY | ENDS | options)
    optix.train(loop, directory=folder, **QUIET)
    return folder, loop


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("play") / "run", Drawn(), num_minibatches=2)


def test_pictures_are_of_each_moment_of_what_evaluation_plays(run, tmp_path):
    folder, loop = run
    (tmp_path / "x-00099.png").write_bytes(b"of an earlier, longer film")
    (tmp_path / "x-1.png").write_bytes(b"a file of somebody's")
    film = optix.play(folder, tmp_path / "x.png", episodes=2, loop=loop, **QUIET)
    assert film.pictures == 2 * 7 and film.lengths.tolist() == [6, 6]
    paths = sorted(tmp_path.glob("x-?????.png"))
    assert film.path == paths[0] and len(paths) == 14
    assert (tmp_path / "x-1.png").exists()
    pictures = [np.asarray(Image.open(path)) for path in paths]
    assert {picture.shape for picture in pictures} == {(4, 6, 3)}
    assert [p[0, 0, 0] for p in pictures] == [0, 10, 20, 30, 40, 50, 60] * 2
    # the first is drawn at random, and told by the picture
    assert pictures[0][0, 0, 2] != pictures[7][0, 0, 2]
    scores = optix.evaluate(folder, 2, loop=loop).scores
    np.testing.assert_allclose(film.returns, scores, rtol=1e-6)
    assert "2 episodes of 6, 6 steps" in film.message


def test_the_same_seed_is_the_same_file(run, tmp_path):
    folder, loop = run
    found = []
    for name, seed in (("a.gif", 3), ("b.GIF", 3), ("c.gif", 4)):
        path = tmp_path / name
        optix.play(folder, path, seed=seed, fps=10, loop=loop, **QUIET)
        found.append(path.read_bytes())
    assert found[0] == found[1] != found[2]
    with Image.open(tmp_path / "a.gif") as film:
        assert film.size == (6, 4) and film.n_frames == 7 and film.info["loop"] == 0
        film.seek(6)
        assert film.info["duration"] == 100
        assert film.convert("RGB").getpixel((0, 0))[0] == 60


def test_by_default_it_lies_in_the_folder_of_the_run(run):
    folder, loop = run
    film = optix.play(folder, loop=loop, progress=True, ensemble=1)
    assert film.path == folder / "episode.gif" and film.path.exists()
    optix.play(folder, loop=loop, **QUIET)  # in place of the other


@pytest.mark.parametrize(
    ("make", "agent", "options"),
    [
        (drawn_recall, "recurrent_ppo", {"cell_size": 4, "sequence_length": 4}),
        (drawn_masks, "ppo", {"num_minibatches": 2}),
        (Drawn, "ppo", {"num_minibatches": 2, "policies": 2}),
    ],
    ids=["recurrent", "masks", "population"],
)
def test_other_runs(make, agent, options, tmp_path):
    folder, loop = trained(tmp_path / "run", make(), agent, **options)
    film = optix.play(folder, tmp_path / "x.gif", episodes=3, loop=loop, **QUIET)
    scores = optix.evaluate(folder, 3, loop=loop).scores
    np.testing.assert_allclose(film.returns, scores, rtol=1e-6)
    assert film.pictures == (film.lengths + 1).sum()


def test_by_name_and_by_command(tmp_path, monkeypatch, capsys):
    """MinAtar has no render: what the agent sees is shown."""
    monkeypatch.setenv("OPTIX_COMPILATION_CACHE", "0")
    options = {**TINY, **ENDS, "num_minibatches": 2, **QUIET}
    optix.train("Breakout-MinAtar", directory=tmp_path / "run", **options)
    command = [
        "play",
        str(tmp_path / "run"),
        str(tmp_path / "x.gif"),
        "--episodes",
        "2",
    ]
    assert main([*command, "--no-progress"]) == 0
    assert "x.gif: 2 episodes of" in capsys.readouterr().out
    with Image.open(tmp_path / "x.gif") as film:
        assert film.size == (160, 160)
        # the paddle is at the bottom, in the colour of the first channel
        assert film.convert("RGB").getpixel((4 * 16 + 8, 159)) != (0, 0, 0)
        assert film.convert("RGB").getpixel((8, 159)) == (0, 0, 0)
    bad = [*command[:2], str(tmp_path / "x.avi")]
    assert main(bad) == 2 and "must end in .gif" in capsys.readouterr().err


class Lamp(gymnasium.Env):
    """Three steps; what it shows is its seed, what it looks like is its time."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.first = 0, self.np_random.random()
        return np.float32([self.first]), {}

    def step(self, action):
        self.time += 1
        return np.float32([self.first]), self.first, self.time >= 3, False, {}

    def render(self):
        return np.full((5, 7, 3), 50 * self.time, np.uint8)


def colours(path):
    return [Image.open(p).getpixel((0, 0))[0] for p in sorted(path.glob("x-*.png"))]


def test_environments_of_gymnasium(tmp_path):
    folder, loop = trained(tmp_path / "run", Lamp, num_minibatches=2)
    film = optix.play(folder, tmp_path / "x.png", episodes=2, loop=loop, **QUIET)
    assert film.lengths.tolist() == [3, 3]
    assert colours(tmp_path) == [0, 50, 100, 150] * 2
    assert film.returns[0] != film.returns[1]
    again = optix.play(folder, tmp_path / "x.png", loop=loop, **QUIET)
    assert again.returns[0] == film.returns[0] and len(colours(tmp_path)) == 4
    with pytest.raises(
        OptionError, match="render_mode='rgb_array' to be seen, got None"
    ):
        blind = lambda: Lamp(None)  # noqa: E731
        optix.play(folder, tmp_path / "y.gif", env=blind, loop=loop, **QUIET)
    assert not (tmp_path / "y.gif").exists()


def test_an_agent_outside_jax_is_told_where_to_play(tmp_path):
    def loop():
        pipeline = BatchPipeline(Lamp, window_size=6)
        learner = host(NumpyAgent(), pipeline, evaluation_episodes=1)
        return loop_of(learner, fixed(), **ENDS)

    optix.train(loop(), directory=tmp_path / "run", **QUIET)
    given = {"loop": loop(), **QUIET}
    film = optix.play(tmp_path / "run", tmp_path / "x.png", env=Lamp, **given)
    assert film.lengths.tolist() == [3] and colours(tmp_path) == [0, 50, 100, 150]
    for env in (None, Drawn()):
        with pytest.raises(OptionError, match="env must be a function that makes"):
            optix.play(tmp_path / "run", tmp_path / "x.gif", env=env, **given)


def test_where_it_can_not_be_played(run, tmp_path, monkeypatch):
    folder, loop = run
    with pytest.raises(optix.RunFolderError, match="holds no run"):
        optix.play(tmp_path, **QUIET)
    for path, message in {
        "x.avi": r"must end in \.gif, \.mp4, \.png, \.html.*got .*x\.avi",
        "x": "must end in",
        "none/x.gif": "folder that is there.*make .*none first",
        ".": "must name a file, got the folder",
        "x.html": r"must end in \.gif, \.mp4 or \.png, for Drawn has no page",
    }.items():
        with pytest.raises(OptionError, match=message):
            optix.play(folder, tmp_path / path, loop=loop, **QUIET)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(OptionError, match=r"imageio-ffmpeg; pip install '.*\[play\]'"):
        optix.play(folder, tmp_path / "x.mp4", loop=loop, **QUIET)
    for name, value in {"episodes": 0, "seed": -1, "fps": 0, "ensemble": 0}.items():
        with pytest.raises(OptionError, match=f"{name} must be an integer"):
            optix.play(folder, tmp_path / "x.gif", loop=loop, **{name: value})
    with pytest.raises(OptionError, match="env must have the spaces of Drawn"):
        optix.play(folder, tmp_path / "x.gif", env="CartPole-v1", loop=loop, **QUIET)
    with pytest.raises(OptionError, match=r"Endless can not be rendered: it has no"):
        optix.play(folder, tmp_path / "x.gif", env=probes.Endless(), loop=loop, **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_what_a_render_gives_wrong(run, tmp_path):
    class Wrong(Drawn):
        def render(self, state, params):
            return "a picture"

    folder, loop = run
    with pytest.raises(OptionError, match="render of Wrong must give pixels.*got str"):
        optix.play(folder, tmp_path / "x.gif", env=Wrong(), loop=loop, **QUIET)
    Wrong.render = lambda self, state, params: state.nothing
    with pytest.raises(OptionError, match="render of Wrong failed with AttributeError"):
        optix.play(folder, tmp_path / "x.gif", env=Wrong(), loop=loop, **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_mp4(run, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    folder, loop = run
    film = optix.play(folder, tmp_path / "x.mp4", loop=loop, **QUIET)
    assert film.path.read_bytes()[4:8] == b"ftyp"


def test_environments_that_keep_a_state_of_their_own_are_seen_too():
    plain = device(Drawn())
    cached = with_resets(plain, "cached")
    for env in (plain, cached):
        state, _ = env.reset(jax.random.key(0), 2)
        action = jnp.zeros(2, jnp.int32)
        state, _ = env.play(jax.random.key(1), state, action)
        picture = env.render(jax.tree.map(lambda x: x[1], state))
        assert picture.shape == (4, 6, 3) and picture[0, 0, 0] == 10


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0"]
)
def test_classic_control_is_drawn_as_gymnasium_draws_it(name):
    pytest.importorskip("pygame")
    env = device(name)
    state, _ = env.reset(jax.random.key(0), 1)
    one = jax.tree.map(lambda x: x[0], state)
    theirs = gymnasium.make(name, render_mode="rgb_array").unwrapped
    theirs.reset()
    count = len(theirs.observation_space.low) if "Cart" in name else 2
    count = 4 if name == "Acrobot-v1" else count
    theirs.state = np.array(jax.tree.leaves(one)[1 : 1 + count], float)  # time is first
    np.testing.assert_array_equal(env.render(one), theirs.render())


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
def test_pixels(dtype):
    given = np.zeros((2, 3), dtype)
    given[1, 2] = 1 if dtype in (bool, np.float32) else 255
    for picture in (given, given[..., None], np.stack([given] * 4, -1)):
        found = pixels("x", picture)
        assert found.shape == (2, 3, 3) and found.dtype == np.uint8
        assert (found[1, 2] == 255).all() and found.sum() == 3 * 255


def test_images_that_agents_see():
    frames = np.zeros((84, 84, 4), np.uint8)
    frames[..., -1] = 200
    assert (image(frames) == 200).all() and image(frames).shape == (84, 84, 3)
    marks = np.zeros((10, 10, 3 + 2), np.float32)
    marks[0, 0, 1] = marks[0, 1, 4] = marks[0, 2, 4] = 1
    drawn = image(marks)[::16, ::16]
    assert (drawn[0, 1] == drawn[0, 2]).all() and (drawn[0, 0] != drawn[0, 1]).any()
    assert drawn[1:].sum() == 0
