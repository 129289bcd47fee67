"""Actors in turn and in threads: same bits, faults, the loop around them."""

import warnings

import gymnasium
import jax
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.distributed import ActorsFailedError

TINY = {
    "num_envs": 4,
    "num_steps": 8,
    "hidden": (4,),
    "evaluation_episodes": 2,
    "final_scores": 1,
    "max_rounds": 3,
    "sequence_length": 4,
    "num_minibatches": 2,
}


class Faulty(gymnasium.Env):
    """Three steps an episode, until something goes wrong in one of all environments."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    left, kind = 0, ""

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.count += 1
        Faulty.left -= 1
        if Faulty.left == 0 and Faulty.kind == "raises":
            raise RuntimeError("the simulator exploded")
        value = np.nan if Faulty.left == 0 and Faulty.kind == "nan" else 1.0
        return np.ones(2, np.float32), value, self.count == 3, False, {}


def trained(env, **options):
    loop = optix.make(env, "impala", **{**TINY, "actors": 2, **options})
    return loop, optix.train(loop, progress=False)


def leaves(result):
    policy = result.state.learner.policy
    return [np.asarray(leaf) for leaf in jax.tree.leaves(policy)]


def test_lockstep_is_the_same_bit_for_bit_on_each_engine():
    runs = [
        leaves(trained("CartPole-v1", engine=engine, lockstep=1)[1])
        for engine in ("inline", "inline", "threads")
    ]
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["raises", "nan"])
def test_what_fails_is_named_and_replaced(kind):
    Faulty.kind, Faulty.left = kind, 20
    said = {"raises": "the simulator exploded", "nan": "NaN or infinity in .reward"}
    with pytest.warns(RuntimeWarning, match=said[kind]):
        loop, result = trained(Faulty, engine="inline")
    assert result.message == "the budget of rounds is spent"
    assert all(np.isfinite(leaf).all() for leaf in leaves(result))


def test_after_so_many_restarts_the_last_traceback_is_raised():
    class Broken(Faulty):
        def step(self, action):
            raise RuntimeError("never works")

    with (
        warnings.catch_warnings(),
        pytest.raises(ActorsFailedError, match="never work"),
    ):
        warnings.simplefilter("ignore")
        trained(Broken, engine="threads", max_restarts=2)


def test_what_can_not_be_is_refused():
    with pytest.raises(OptionError, match="num_envs must be divisible"):
        trained("CartPole-v1", actors=3)
    with pytest.raises(OptionError, match="learn from windows"):
        optix.make("CartPole-v1", "dqn", actors=2)
