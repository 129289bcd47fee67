"""An environment of parts, of several choices and of masks, along the whole way."""

import gymnasium
import gymnasium.spaces as gym
import numpy as np
import pytest

import optix
from optix.cli import main

TINY = {"num_steps": 8, "hidden": (4,), "evaluation_episodes": 2, "final_scores": 1}
ALLOWED = np.array([0, 1, 0, 0, 1], np.int8)  # the second of 3, the second of 2


class Whole(gymnasium.Env):
    """Three steps; any other than the one action that is allowed raises."""

    observation_space = gym.Dict(
        {"where": gym.Discrete(3), "how": gym.Tuple((gym.Box(-1, 1, (2,)),))}
    )
    action_space = gym.MultiDiscrete([3, 2])

    def shown(self):
        how = (np.full(2, self.time / 3, np.float32),)
        return {"where": self.time % 3, "how": how}, {"action_mask": ALLOWED}

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.shown()

    def step(self, action):
        assert action.tolist() == [1, 1]
        self.time += 1
        obs, info = self.shown()
        return obs, 1.0, False, self.time == 3, info


@pytest.fixture(scope="module")
def name():
    gymnasium.register("WholeOfSpaces-v0", Whole)
    yield "gymnasium:WholeOfSpaces-v0"
    del gymnasium.registry["WholeOfSpaces-v0"]


def test_it_trains_by_name_goes_on_and_is_played(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPTIX_COMPILATION_CACHE", "0")
    folder = str(tmp_path / "run")
    settings = [f"--set={name}={value}" for name, value in TINY.items()]
    command = ["train", name, "--num-envs", "2", "--directory", folder, *settings]
    assert main([*command, "--max-rounds", "1", "--no-progress"]) == 0
    with pytest.warns(RuntimeWarning, match="goes on with fresh episodes"):
        assert main(["resume", folder, "--max-rounds", "2", "--no-progress"]) == 0
    assert main(["eval", folder, "--episodes", "2"]) == 0
    assert "interval [3, 3]" in capsys.readouterr().out
    player = optix.load(folder)
    obs, info = Whole.reset(env := Whole())
    mask = info["action_mask"].astype(bool)
    assert player.act(obs, action_mask=mask).tolist() == [1, 1]
    assert env.step(player.act(obs, True, action_mask=mask))[1] == 1.0


def test_actors_elsewhere_keep_to_the_masks():
    loop = optix.make(
        Whole,
        "impala",
        actors=2,
        engine="inline",
        num_envs=4,
        sequence_length=4,
        num_minibatches=2,
        max_rounds=1,
        **TINY,
    )
    result = optix.train(loop, progress=False)
    assert result.scores.tolist() == [3.0]
