"""Actors without a loop: small environments, and the crew that plays them."""

import functools
import os
import time
from pathlib import Path

import gymnasium
import jax
import numpy as np

from optix.agents.impala import impala
from optix.distributed import actors
from optix.networks.mlp import actor_critic
from optix.types import Discrete

STEPS = 4
TINY = {
    "num_envs": 2,
    "num_steps": 8,
    "sequence_length": 8,
    "num_minibatches": 1,
    "hidden": (4,),
    "evaluation_episodes": 2,
    "final_scores": 1,
    "windows_per_round": 2,
    "max_rounds": 3,
}


class Telling(gymnasium.Env):
    """Five steps an episode; observations are (process, step), rewards the actions.

    At their sixth step environments go wrong, each time in the next of the ways given.
    """

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, folder=None, ways=()):
        self.ways = [(way, Path(folder, str(n))) for n, way in enumerate(ways)]
        self.taken = 0

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return self._seen(), {}

    def step(self, action):
        self.count += 1
        self.taken += 1
        obs, reward = self._seen(), float(action)
        if self.taken == 6 and (way := self._next()):
            if way == "raises":
                raise RuntimeError("the simulator exploded")
            if way == "hangs":
                time.sleep(60)
            reward = np.nan if way == "nan" else reward
            obs = np.ones(3, np.float32) if way == "shape" else obs
        return obs, reward, self.count == 5, False, {}

    def _seen(self):
        return np.array([os.getpid(), self.count], np.float32)

    def _next(self):
        for way, mark in self.ways:
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            return way
        return None


SAID = {
    "raises": "the simulator exploded",
    "nan": r"NaN or infinity in .reward",
    "shape": "must be of Box",
    "hangs": "no answer in 5 s",
}


def agent():
    spaces = (2,), Discrete(2)
    network = actor_critic(*spaces, hidden=(4,))
    return impala(network, *spaces, sequence_length=STEPS, num_minibatches=1)


@functools.cache
def _fresh():
    made = agent()
    policy = made.init(jax.random.key(0))._replace(opt_state=())
    hyperparams = {name: np.float32(x) for name, x in made.hyperparams.items()}
    return made, (jax.tree.map(np.asarray, policy), hyperparams)


class Played:
    """Windows of one stream of two actors with an environment each."""

    def __init__(self, env, engine, **options):
        made, self.shared = _fresh()
        sizes = {"num_envs": 2, "num_steps": STEPS}
        learner = actors(made, env, 2, engine=engine, **sizes, **options)
        self.crew, self.stream = learner.host, np.zeros(2, np.int32)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.crew.rest()

    def window(self):
        self.stream, rollout, self.lag = self.crew.window(self.stream, 3, self.shared)
        return rollout

    def score(self):
        return self.crew.evaluate(5, 3, self.shared)

    def processes(self):
        """Return the processes of both actors, once they have played the same window."""
        found = set()
        while len(found) < 2:
            found = set(np.unique(self.window().obs[..., 0]).astype(int).tolist())
        return found

    def until(self, restarts):
        """Play until so many actors have been replaced, and two windows more."""
        while self.crew.told()["restarts"].sum() < restarts:
            self.window()
        self.window()
        return self.window()
