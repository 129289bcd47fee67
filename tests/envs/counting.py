"""An environment of Gymnasium whose every number is known, and a plain loop over it."""

import os

import gymnasium
import numpy as np
from gymnasium import spaces


class Counting(gymnasium.Env):
    """Counts its steps from where its random numbers say; the reward is the action.

    An episode that begins at an even number terminates after 3 steps, one that begins at
    an odd number is truncated after 4. It writes into the array that it shows.
    """

    observation_space = spaces.Box(0.0, 1000.0, (2,), np.float64)
    action_space = spaces.Discrete(3)

    def __init__(self):
        self.shown = np.zeros(2)
        self.steps = 0  # of all episodes

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.first, self.time = int(self.np_random.integers(500)), 0
        return self.show(), {}

    def show(self):
        self.shown[:] = self.first, self.time
        return self.shown

    def step(self, action):
        self.time, self.steps = self.time + 1, self.steps + 1
        even = self.first % 2 == 0
        terminated, truncated = even and self.time == 3, not even and self.time == 4
        return self.show(), self.earned(action), terminated, truncated, {}

    def earned(self, action):
        return int(action)


class Scaled(Counting):
    """Actions between 2 and 6; the reward is what arrived of them."""

    action_space = spaces.Box(2.0, 6.0, (1,), np.float64)

    def earned(self, action):
        assert action.dtype == np.float64 and action.shape == (1,)
        reward = float(action[0])
        action[:] = np.nan  # it is the environment's own
        return reward


class Pictures(Counting):
    """Three frames of 8 by 5 bytes, channels first."""

    observation_space = spaces.Box(0, 255, (3, 8, 6), np.uint8)

    def show(self):
        frames = np.arange(3 * 8 * 6).reshape(3, 8, 6) + self.first + self.time
        return (frames % 256).astype(np.uint8)


class Dying(Counting):
    """Ends its process in the first step of an episode that began at an odd number."""

    def step(self, action):
        if self.first % 2:
            os._exit(3)
        return super().step(action)


def play(make, seed, actions):
    """Return (first obs, steps) of B environments by a loop over each, [T, B, ...].

    Args:
      make: makes one.
      seed: of the first environment; that of the next is one more.
      actions: [T, B, ...].
    """
    firsts, columns = [], []
    for b in range(actions.shape[1]):
        env = make()
        obs, _ = env.reset(seed=seed + b)
        firsts.append(np.array(obs))
        rows = []
        for action in actions[:, b]:
            next_obs, reward, terminated, truncated, _ = env.step(action)
            next_obs = obs = np.array(next_obs)
            if terminated or truncated:
                obs = np.array(env.reset()[0])
            rows.append((obs, reward, terminated, truncated, next_obs))
        columns.append([np.array(field) for field in zip(*rows, strict=True)])
    fields = [np.stack(field, 1) for field in zip(*columns, strict=True)]
    return np.stack(firsts), fields
