import numpy as np
import pytest

from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.window import EpisodeData
from tests.numpy_agent import NumpyAgent


def window(**changes):
    fields = {
        "observations": [np.zeros(2), np.ones(2), np.ones(2)],
        "actions": [0, 1, 0],
        "rewards": [1.0, 2.0, 4.0],
        "terminated": [False, True, False],
        "truncated": [True, False, False],
        "next_observations": np.ones((3, 2)),
    }
    return EpisodeData(**(fields | changes))


def test_lists_of_steps_are_stacked():
    data = window(observations=[{"x": np.full(2, i), "y": i} for i in range(3)])
    assert data.observations["x"].shape == (3, 2)
    assert data.observations["y"].tolist() == [0, 1, 2]
    assert data.rewards.dtype == np.float32 and data.terminated.dtype == bool


def test_sums_and_flags():
    data = window()
    assert data.dones.tolist() == [True, True, False]
    assert data.total_reward == 7.0
    assert data.length == 3


def test_a_window_of_several_environments():
    data = window(**pair(3, 2), extras={"carry": (np.ones((3, 2, 5)),)})
    assert (data.length, data.num_envs) == (6, 2)
    assert data.batched() is data
    with pytest.raises(ValueError, match="actions must have one entry .* 2 environ"):
        window(**pair(3, 2) | {"actions": np.ones(3)})
    with pytest.raises(ValueError, match=r"rewards must be \[T\], or \[T, B\]"):
        window(**pair(3, 2) | {"rewards": np.ones((3, 2, 1))})


def test_a_window_of_one_environment_as_of_several():
    data = window(extras={"value": [0.0, 1.0, 2.0]}, infos=[{}] * 3)
    batched = data.batched()
    assert data.num_envs == batched.num_envs == 1
    assert batched.observations.shape == (3, 1, 2)
    assert batched.extras["value"].tolist() == [[0.0], [1.0], [2.0]]
    assert batched.dones.tolist() == [[True], [True], [False]]


def pair(*axes):
    return {
        name: np.ones(axes)
        for name in (
            *("rewards", "terminated", "truncated"),
            *("observations", "actions", "next_observations"),
        )
    }


def test_acting_in_a_batch_asks_row_by_row():
    class Sums(NumpyAgent):
        def act(self, observation, explore=True):
            return [observation["x"].sum(), float(explore)]

    class Plain(NumpyAgent):
        def act(self, observation):
            return int(observation["y"])

    rows = {"x": np.arange(6.0).reshape(3, 2), "y": np.arange(3)}
    actions, extras = Sums().act_batch(rows, explore=False)
    assert actions.tolist() == [[1.0, 0.0], [5.0, 0.0], [9.0, 0.0]] and extras == {}
    assert Sums().act_batch(rows)[0][:, 1].tolist() == [1.0] * 3
    assert Plain().act_batch(rows, explore=False)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "name",
    ["observations", "actions", "terminated", "truncated", "infos", "extras"],
)
def test_fields_of_other_lengths_are_refused(name):
    short = {"infos": [{}] * 2, "extras": {"value": np.ones(2)}}
    with pytest.raises(
        ValueError, match=rf"{name}.* must have one entry for each of the 3"
    ):
        window(**{name: short.get(name, [0, 1])})


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="at least one step"):
        EpisodeData([], [], [], [], [], [])


def test_a_copy_of_hyperparameters_is_independent():
    first = HyperparamSet({"learning_rate": 1.0})
    first.copy().params["learning_rate"] = 2.0
    assert first.params["learning_rate"] == 1.0


def test_six_methods_are_required():
    required = {
        "act",
        "learn",
        "get_hyperparams",
        "set_hyperparams",
        "save_weights",
        "load_weights",
    }
    assert BaseAgent.__abstractmethods__ == required


def test_what_an_agent_does_not_offer_says_so():
    with pytest.raises(
        NotImplementedError, match="NumpyAgent does not offer export_onnx"
    ):
        NumpyAgent().export_onnx("policy.onnx")
