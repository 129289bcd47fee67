"""Every keyword of the factories of the host x values that few of them take."""

import inspect
import warnings

import pytest

from optix.host.learner import host
from optix.host.normalizers import ObsNormalizer, RewardNormalizer
from optix.host.pipelines import BatchPipeline
from optix.host.regime import RegimeDetector
from optix.host.vector import VectorBatchPipeline
from tests.host.test_pipelines import Countdown
from tests.numpy_agent import NumpyAgent

INF = float("inf")
VALUES = [-1, 0, float("nan"), INF, 1e30, "x", None, True, 1.5, 10**20]
FACTORIES = {
    host: {"agent": NumpyAgent(), "pipeline": BatchPipeline(Countdown)},
    BatchPipeline: {"env": Countdown},
    VectorBatchPipeline: {"envs": [Countdown, Countdown]},
    ObsNormalizer: {"obs_shape": (2,)},
    RewardNormalizer: {},
    RegimeDetector: {},
}
RIGHT = {
    (host, "validation"): [None],
    (host, "directory"): [None],
    (host, "fresh"): [True],
    (BatchPipeline, "whole_episodes"): [True],
    (VectorBatchPipeline, "num_envs"): [None],
    (ObsNormalizer, "clip"): [INF, 1e30, 1.5, 10**20],
    (RewardNormalizer, "clip"): [INF, 1e30, 1.5, 10**20],
    (RewardNormalizer, "gamma"): [0],
    (RewardNormalizer, "epsilon"): [0],
}
KEYWORDS = [
    (factory, name)
    for factory in FACTORIES
    for name in inspect.signature(factory).parameters
    if name != "async_envs"  # True starts processes
]


def is_right(factory, name, value):
    return any(
        value is right or (value == right and value is not True)
        for right in RIGHT.get((factory, name), [])
    )


@pytest.mark.parametrize(
    ("factory", "name"), KEYWORDS, ids=[f"{f.__name__}-{n}" for f, n in KEYWORDS]
)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_right_or_named(factory, name, value):
    given = {**FACTORIES[factory], name: value}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if is_right(factory, name, value):
            factory(**given)
            return
        # parts of a wrong class have a TypeError of old
        is_part = name in ("agent", "env") or (name == "envs" and value != "x")
        kind = TypeError if is_part else ValueError
        with pytest.raises(kind, match=rf"\b{name}\b"):
            factory(**given)


@pytest.mark.parametrize(
    "metrics", [("loss", 3), ["a", None], "loss", b"loss", {"a": 1}]
)
def test_metrics_are_names(metrics):
    with pytest.raises(ValueError, match="metrics must be a sequence of names"):
        host(NumpyAgent(), BatchPipeline(Countdown), metrics=metrics)


def test_a_folder_that_is_there(tmp_path):
    host(NumpyAgent(), BatchPipeline(Countdown), directory=tmp_path)
