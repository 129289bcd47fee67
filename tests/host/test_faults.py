"""What agents and environments do wrong arrives as itself, and the run can go on."""

import jax
import numpy as np
import pytest

from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.host.vector import VectorBatchPipeline
from tests.host.agents import Counter, Replayer, Steps

KEY = jax.random.key(0)


class JammedError(Exception):
    pass


class Jams(Counter):
    """Raises in `reset` or `step` while told to."""

    where = ""

    def reset(self, **options):
        if Jams.where == "reset":
            raise JammedError("cold")
        return super().reset(**options)

    def step(self, action):
        if Jams.where == "step":
            raise JammedError("hot")
        return super().step(action)


@pytest.mark.parametrize("where", ["reset", "step"])
@pytest.mark.parametrize("kind", ["factory", "only one", "vector"])
def test_an_environment_that_raises(where, kind, monkeypatch):
    pipeline = {
        "factory": lambda: BatchPipeline(Jams, window_size=8),
        "only one": lambda: BatchPipeline(Jams(), window_size=8),
        "vector": lambda: VectorBatchPipeline([Jams] * 2, window_size=8),
    }[kind]()
    learner = host(Replayer(), pipeline, evaluation_episodes=1)
    state, _ = learner.step(learner.init(KEY), learner.hyperparams, KEY, True)
    if where == "reset":  # the next window does not begin anew by itself
        state = state._replace(rollout=learner.begin(state.policy, KEY))
    monkeypatch.setattr(Jams, "where", where)
    for ask in (
        lambda: learner.step(state, learner.hyperparams, KEY, True),
        lambda: learner.evaluate(state.policy, learner.hyperparams, KEY),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError):
            jax.block_until_ready(ask())
        with pytest.raises(JammedError, match="cold|hot") as caught:
            learner.host.raise_if_failed()
        assert where in [entry.name for entry in caught.traceback]
    monkeypatch.setattr(Jams, "where", "")
    _, report = learner.step(state, learner.hyperparams, KEY, True)
    assert report.finite and learner.host.streams.opened <= 2
    assert np.isfinite(learner.evaluate(state.policy, learner.hyperparams, KEY))


class Spoils(Counter):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        if Spoils.what == "reward":
            reward = np.nan
        if Spoils.what == "observation":
            observation[:] = np.inf
        return observation, reward, *rest


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("vector", [False, True])
def test_data_that_is_not_finite_ends_the_episodes(what, vector, monkeypatch):
    """The policy and the replay stay, and the next window begins afresh."""
    kind = VectorBatchPipeline if vector else BatchPipeline
    pipeline = kind([Spoils] if vector else Spoils, window_size=8)
    learner = host(Replayer(), pipeline)
    monkeypatch.setattr(Spoils, "what", "", raising=False)
    state, _ = learner.step(learner.init(KEY), learner.hyperparams, KEY, True)
    monkeypatch.setattr(Spoils, "what", what)
    with pytest.warns(UserWarning, match=f"Spoils: {what[:6]}.* hold .* of a window"):
        after, report = learner.step(state, learner.hyperparams, KEY, True)
    assert not report.data_finite and not report.finite
    assert after.policy.extras.slot == state.policy.extras.slot
    assert after.rollout.number == 0 and learner.host.streams.opened == 1
    assert learner.host.agent.seen == [8]


def test_an_update_that_is_not_finite_keeps_the_episodes_going():
    class Breaks(Replayer):
        def learn(self, episode_data):
            super().learn(episode_data)
            self.weight = self.weight * np.nan
            return {"loss": np.nan, "grad": np.inf}

    pipeline = Steps()
    learner = host(Breaks(), pipeline)
    state = learner.init(KEY)
    with pytest.warns(
        UserWarning, match="Steps: learn returned loss = nan, grad = inf"
    ):
        after, report = learner.step(state, learner.hyperparams, KEY, True)
    assert report.data_finite and not report.finite
    assert after.policy.extras.slot == state.policy.extras.slot
    assert np.isfinite(learner.host.agent_of(after.policy).weight).all()
    _, report = learner.step(after, learner.hyperparams, KEY, True)
    assert report.metrics["window_return"] == 2 + 3


def test_what_collect_must_return():
    class Wrong(Steps):
        def collect(self, agent, envs, seed):
            return {"rewards": [1.0]}

    learner = host(Replayer(), Wrong())
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(learner.step(learner.init(KEY), {"rate": 0.5}, KEY, True))
    with pytest.raises(ValueError, match="the window must be a EpisodeData"):
        learner.host.raise_if_failed()


def test_first_weights_that_fail():
    class Fails(Replayer):
        def reset(self, seed):
            raise JammedError("no weights")

    learner = host(Fails(), Steps())
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(learner.init(KEY))
    with pytest.raises(JammedError, match="no weights"):
        learner.host.raise_if_failed()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (object(), "pipeline must have the methods open, collect, evaluate"),
        (Steps, "pipeline must have the methods"),
    ],
)
def test_what_is_no_pipeline(pipeline, message):
    with pytest.raises(ValueError, match=message):
        host(Replayer(), pipeline)
    with pytest.raises(ValueError, match="validation must have the methods evaluate"):
        host(Replayer(), Steps(), validation=pipeline)


def test_two_runs_in_turn_on_one_pipeline():
    """Of an only environment each begins afresh where the other has played."""
    pipeline = BatchPipeline(Counter(), window_size=3)
    seen, states, learners = [], [], []
    for _ in range(2):
        learner = host(Replayer(), pipeline)
        learner.host.agent.learn = lambda data: seen.append(data) or {}
        learners.append(learner)
        states.append(learner.init(KEY))
    for turn in (0, 1, 0, 1, 1):
        learner = learners[turn]
        states[turn], _ = learner.step(states[turn], {"rate": 0.5}, KEY, True)
        jax.block_until_ready(states[turn])
    assert [data.observations[0, 0] for data in seen] == [0, 0, 0, 0, 3]
