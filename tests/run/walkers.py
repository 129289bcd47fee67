"""An agent whose every weight is known, and a pipeline that scores it by them."""

import numpy as np

from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.window import EpisodeData


class Rows:
    """A replay that keeps how many windows it was shown."""

    def __init__(self):
        self.count = 0

    def __len__(self):
        return self.count

    def state(self):
        return {"count": np.int64(self.count)}

    def restore(self, arrays):
        self.count = int(arrays["count"])


class Filed(BaseAgent):
    """Its weight takes the steps of a list, one a window; kept by its files."""

    def __init__(self, steps=(1.0,), rate=1.0):
        self.weight, self.windows = np.zeros(()), 0
        self.steps, self.rate, self.epochs = steps, rate, 3

    def act(self, observation, explore=True):
        return 0

    def learn(self, episode_data):
        step = self.steps[self.windows % len(self.steps)]
        self.weight = self.weight + self.rate * step
        self.windows += 1
        return {"weight": float(self.weight)}

    def get_hyperparams(self):
        return HyperparamSet({"rate": self.rate, "epochs": self.epochs})

    def set_hyperparams(self, hyperparams):
        self.rate = hyperparams.params["rate"]
        assert hyperparams.params["epochs"] == 3

    def save_weights(self, path):
        np.savez(path, weight=self.weight, windows=self.windows)

    def load_weights(self, path):
        with np.load(f"{path}.npz") as file:
            self.weight, self.windows = file["weight"], int(file["windows"])


class Walker(Filed):
    """The same, kept in memory, with a replay."""

    seen = ()

    def learn(self, episode_data):
        self.memory.count += 1
        self.seen = (*self.seen, self.memory.count)
        return super().learn(episode_data)

    def state(self):
        return {"weight": self.weight.copy(), "windows": np.array(self.windows)}

    def restore(self, state):
        self.weight, self.windows = state["weight"], int(state["windows"])

    def make_memory(self):
        return Rows()


class Track:
    """Windows of two steps of reward 1; the score is the agent's weight and `shift`."""

    window_steps, time_limit, copies, lanes = 2, None, None, None

    def __init__(self, shift=0.0):
        self.shift, self.begun, self.closed = shift, 0, False

    def open(self):
        return Copy()

    def collect(self, agent, envs, seed):
        if seed is not None:
            self.begun += 1
            envs.time = 0
        times = np.arange(envs.time, envs.time + 2, dtype=np.float32)
        envs.time += 2
        ends = np.array([False, True])
        agent.act(times[0])
        return EpisodeData(times, times, np.ones(2), ends, ~ends & False, times + 1)

    def evaluate(self, agent, seed, episodes):
        return float(agent.weight) + self.shift

    def close(self):
        self.closed = True


class Copy:
    time = 0

    def close(self):
        pass
