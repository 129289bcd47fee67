import numpy as np
import pytest

from optix.host.agent import BaseAgent, EpisodeData, HyperparamSet
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
    pair = {name: np.ones((3, 2)) for name in ("rewards", "terminated", "truncated")}
    assert window(**pair).length == 6


@pytest.mark.parametrize(
    "name", ["observations", "actions", "terminated", "truncated", "infos"]
)
def test_fields_of_other_lengths_are_refused(name):
    with pytest.raises(
        ValueError, match=f"{name} must have one entry for each of the 3"
    ):
        window(**{name: [{}] * 2 if name == "infos" else [0, 1]})


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
