"""Host agents and pipelines whose windows are known: the truth that tests compare with."""

import gymnasium
import numpy as np

from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.window import EpisodeData


class Rows:
    """A replay that keeps every reward."""

    def __init__(self):
        self.rewards = np.zeros(0)

    def __len__(self):
        return len(self.rewards)

    def state(self):
        return {"rewards": self.rewards.copy()}

    def restore(self, arrays):
        self.rewards = arrays["rewards"]


class Replayer(BaseAgent):
    """Its weight moves by what it draws of its replay; kept in memory, never in files."""

    def __init__(self):
        self.weight, self.rng = np.zeros(2), np.random.default_rng(0)
        self.rate, self.seen = 0.5, []

    def act(self, observation, explore=True):
        noise = self.rng.normal() if explore else 0.0
        return int(self.weight.sum() + noise > 0)

    def learn(self, episode_data):
        memory = self.memory
        memory.rewards = np.append(memory.rewards, episode_data.rewards)
        drawn = self.rng.choice(memory.rewards, 2)
        self.weight = self.weight + self.rate * drawn
        self.seen.append(len(memory))
        return {"rows": len(memory)}

    def get_hyperparams(self):
        return HyperparamSet({"rate": self.rate})

    def set_hyperparams(self, hyperparams):
        self.rate = hyperparams.params["rate"]

    def save_weights(self, path):
        raise AssertionError("no file is needed")

    load_weights = save_weights

    def state(self):
        return {"weight": self.weight.copy()}

    def restore(self, state):
        self.weight = state["weight"]

    def reset(self, seed):
        self.weight = np.random.default_rng(seed).normal(size=2)

    def make_memory(self):
        return Rows()

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)


class Counter(gymnasium.Env):
    """Shows how many steps it has made since it was reset; ends after `length`."""

    observation_space = gymnasium.spaces.Box(0, 1000, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    length = 5

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        self.bonus = self.np_random.normal()
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        reward = self.bonus + int(action) + self.np_random.normal()
        shown = np.full(1, self.time, np.float32)
        return shown, float(reward), self.time == self.length, False, {}


class Steps:
    """A pipeline without environments: each copy counts its steps, two a window."""

    def __init__(self, copies=None):
        self.copies, self.opened, self.begun, self.closed = copies, 0, [], 0

    def open(self):
        self.opened += 1
        return Copy(self)

    def collect(self, agent, envs, seed):
        if seed is not None:
            self.begun.append(seed)
            envs.time = 0
            agent.begin_episode(np.ones(1, bool))
        times = np.arange(envs.time, envs.time + 2, dtype=np.float32)
        envs.time += 2
        ends = np.zeros(2, bool)
        return EpisodeData(times, times, times, ends, ends, times + 1)

    def evaluate(self, agent, seed, episodes):
        return float(agent.weight.sum())


class Copy:
    def __init__(self, pipeline):
        self.pipeline, self.time = pipeline, 0

    def close(self):
        self.pipeline.closed += 1
