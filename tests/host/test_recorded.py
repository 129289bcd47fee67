"""What is recorded: copies made at the time, in the form of the spaces, or an error."""

import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.host.window import EpisodeData
from tests.numpy_agent import NumpyAgent


class Scripted(gymnasium.Env):
    """Three steps; what it gives is replaced by keywords."""

    observation_space = spaces.Box(-100, 100, (2,))
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, started=None, **results):
        self.started, self.results = started, results
        self.given = []

    def reset(self, *, seed=None, options=None):
        self.time = 0
        first = np.zeros(2, np.float32), {}
        return first if self.started is None else self.started

    def step(self, action):
        self.given.append(np.array(action))
        if isinstance(action, np.ndarray):
            np.clip(action, -1, 1, out=action)
        self.time += 1
        step = {
            "observation": np.full(2, self.time, np.float32),
            "reward": 1.0,
            "terminated": self.time == 3,
            "truncated": False,
            "info": {},
        }
        return tuple({**step, **self.results}.values())


class Chooses(NumpyAgent):
    """Plays one array of its own, and spoils the observation that it is given."""

    def __init__(self, action=None):
        super().__init__()
        self.action = np.array([3.0, -1.5]) if action is None else action

    def act(self, observation, explore=True):
        self.shown = jax.tree.map(np.array, observation)
        for leaf in jax.tree.leaves(observation):
            leaf /= 10
        return (
            np.array(self.action)
            if isinstance(self.action, np.ndarray)
            else self.action
        )


def window(env, agent=None):
    pipeline = BatchPipeline(env, window_size=3)
    return pipeline.collect(agent or Chooses(), pipeline.open(), 0)


def test_actions_and_observations_are_those_of_the_time():
    data = window(Scripted())
    assert data.actions.tolist() == [[3.0, -1.5]] * 3
    assert data.observations.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert data.next_observations.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_an_evaluation_shows_what_is_there():
    agent = Chooses()
    assert BatchPipeline(Scripted()).evaluate(agent, 0, 2) == 3.0
    assert agent.shown.tolist() == [2, 2]


def test_infos_are_those_of_the_time():
    counts = np.zeros(1)

    class Counts(Scripted):
        inside = {"counts": counts, "list": [counts]}

        def step(self, action):
            counts[:] += 1
            *rest, _ = super().step(action)
            return *rest, self.inside

    infos = window(Counts()).infos
    assert [info["counts"].item() for info in infos] == [1, 2, 3]
    assert [info["list"][0].item() for info in infos] == [1, 2, 3]


def test_lists_are_arrays():
    env = Scripted(([0.0, 0.0], {}), observation=[1.0, 2.0])
    data = window(env, Chooses([0.5, 0.25]))
    for field in (data.observations, data.next_observations, data.actions):
        assert isinstance(field, np.ndarray) and field.shape == (3, 2)
    assert data.observations.dtype == data.next_observations.dtype == np.float32
    assert data.actions.tolist() == [[0.5, 0.25]] * 3


def test_lists_of_steps_that_are_lists():
    rows = [[0.0, 1.0], [2.0, 3.0]]
    data = EpisodeData(rows, [0, 1], [1.0, 1.0], [0, 1], [0, 0], rows)
    assert data.observations.tolist() == rows
    nested = [{"a": [[1, 2]], "b": (1, 2)}] * 2
    data = EpisodeData(nested, [0, 1], [1.0, 1.0], [0, 1], [0, 0], nested)
    assert data.observations["a"].shape == (2, 1, 2)
    assert [part.tolist() for part in data.observations["b"]] == [[1, 1], [2, 2]]


def test_observations_of_several_parts():
    first = {"a": np.zeros(2, np.float32), "b": (1, [2, 3])}

    class Parts(Scripted):
        observation_space = spaces.Dict(
            {
                "a": spaces.Box(-1, 1, (2,)),
                "b": spaces.Tuple([spaces.Discrete(3), spaces.MultiDiscrete([5, 5])]),
            }
        )

    class Still(NumpyAgent):
        def act(self, observation, explore=True):
            return np.zeros(2)

    data = window(Parts((first, {}), observation=first), Still())
    assert data.observations["a"].shape == (3, 2)
    assert data.observations["b"][0].tolist() == [1, 1, 1]
    assert data.observations["b"][1].tolist() == [[2, 3]] * 3


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"reward": None}, "reward of Scripted must be a number, got None at step 1"),
        ({"reward": "1"}, "reward of Scripted must be a number, got '1'"),
        ({"reward": np.ones(1)}, "reward of Scripted must be a number, got array"),
        (
            {"terminated": None},
            "terminated of Scripted must be True or False, got None",
        ),
        ({"terminated": np.zeros(2, bool)}, "terminated of Scripted must be True or"),
        ({"truncated": "no"}, "truncated of Scripted must be True or False, got 'no'"),
        ({"truncated": np.nan}, "truncated of Scripted must be True or False, got nan"),
        (
            {"observation": np.zeros(3)},
            r"the observation of Scripted .*float64\[3\].*step 1",
        ),
        ({"observation": None}, "the observation of Scripted must be of Box"),
        ({"info": None}, r"step of Scripted must return \(observation, .*NoneType"),
        ({"more": 3}, "step of Scripted must return .*got values of the types"),
        (
            {"started": np.zeros(2)},
            "reset of Scripted must return .*no tuple but .*ndarray",
        ),
        ({"started": (np.zeros(2), None)}, "reset of Scripted must return"),
        ({"started": (np.zeros((2, 1)), {})}, r"float64\[2, 1\]' of reset"),
    ],
)
def test_wrong_results_are_named(results, message):
    for ask in ("collect", "evaluate"):
        pipeline = BatchPipeline(Scripted(**results), window_size=3)
        last = (pipeline.open(), 0) if ask == "collect" else (0, 1)
        with pytest.raises(ValueError, match=message):
            getattr(pipeline, ask)(Chooses(), *last)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"reward": np.nan}, "Scripted: rewards hold nan at step 0 of a window"),
        (
            {"observation": np.full(2, np.inf)},
            "Scripted: .*observations hold .*inf.* at step",
        ),
    ],
)
def test_what_is_not_finite_is_told_once(results, message):
    learner = host(Chooses(), BatchPipeline(Scripted(**results), window_size=3))
    key = jax.random.key(0)
    state = learner.init(key)
    with pytest.warns(UserWarning, match=message):
        _, report = learner.step(state, learner.hyperparams, key, True)
        assert not report.finite
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.step(state, learner.hyperparams, key, True)
