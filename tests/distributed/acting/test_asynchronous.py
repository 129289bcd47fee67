"""Actors, learner and loop as one object."""

import functools

import jax.numpy as jnp
import pytest

from optix.checks import OptionError
from optix.distributed import ActorsFailedError, AsyncActorLearner
from optix.types import StopReason
from tests.distributed.acting.playing import Telling, agent


def test_it_learns_on_and_tells_what_it_has_done():
    learner = AsyncActorLearner(
        agent(), Telling, 2, 8, num_envs=4, evaluation_episodes=2
    )
    first = learner.run(max_steps=100)
    assert first["total_steps"] == 128 and first["total_updates"] == 4
    assert first["steps_per_second"] == 128 / first["elapsed"]
    assert 0 <= first["best_score"] <= 5 and 0 <= first["policy_lag"] <= 8
    assert (first["dropped"], first["restarts"]) == (0, 0)
    assert learner.run(max_steps=32)["total_steps"] == 160


def test_a_run_that_has_converged_tells_nothing_of_the_one_before(tmp_path):
    env = functools.partial(Telling, tmp_path, ["raises"])
    learner = AsyncActorLearner(
        agent(), env, 1, 8, num_envs=2, evaluation_episodes=2, engine="inline"
    )
    with pytest.warns(RuntimeWarning, match="it is replaced"):
        first = learner.run(max_steps=16)
    assert first["dropped"] > 0 and first["restarts"] == 1
    assert learner.state is not None
    over = jnp.full_like(learner.state.stop_reason, StopReason.CONVERGED)
    learner.state = learner.state._replace(stop_reason=over)
    told = learner.run(max_steps=16)
    assert told["total_steps"] == first["total_steps"]
    assert (told["dropped"], told["restarts"], told["policy_lag"]) == (0, 0, 0)


def test_what_actors_raise_arrives():
    class Broken(Telling):
        def step(self, action):
            raise RuntimeError("never works")

    learner = AsyncActorLearner(
        agent(), Broken, 1, 8, num_envs=2, evaluation_episodes=2, max_restarts=0
    )
    with pytest.raises(ActorsFailedError, match="never works"):
        learner.run(max_steps=100)


def test_what_can_not_be_is_refused():
    with pytest.raises(OptionError, match="n_actors"):
        AsyncActorLearner(agent(), Telling, n_actors=0)
    learner = AsyncActorLearner(agent(), Telling)
    with pytest.raises(OptionError, match="max_steps"):
        learner.run(max_steps=0)
