"""Gymnasium environments that tell which actions are allowed, well or badly.

Any other action ends the run.
"""

import threading

import gymnasium
import gymnasium.spaces as gym
import numpy as np

from tests import probes


class Told(gymnasium.Env):
    """Three steps, then cut; of four actions the one that its step has is allowed.

    Any other ends the run. The mask is one array that each step writes into again.
    """

    observation_space, action_space = gym.Box(-9, 9, (1,)), gym.Discrete(4)

    def __init__(self):
        self.mask = np.zeros(4, np.int8)

    def told(self):
        self.mask[:] = np.arange(4) == self.time
        return np.full(1, self.time, np.float32), {"action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.told()

    def step(self, action):
        if action != self.time:
            raise AssertionError(f"{action} at {self.time}")
        self.time += 1
        obs, info = self.told()
        return obs, 1.0, False, self.time == 3, info


class Silent(Told):
    """Says nothing of what followed its end."""

    def step(self, action):
        *result, info = super().step(action)
        return *result, {} if self.time == 3 else info


class Method(Told):
    """As SB3-contrib has it."""

    def told(self):
        obs, info = super().told()
        return obs, {}

    def action_masks(self):
        return self.mask


class Several(Told):
    """The same of two numbers at once, whose masks are a tuple of arrays."""

    action_space = gym.MultiDiscrete([4, 2])

    def told(self):
        obs, info = super().told()
        return obs, {"action_mask": (self.mask.copy(), np.array([0, 1], np.int8))}

    def step(self, action):
        assert action[1] == 1
        return super().step(action[0])


class Late(Told):
    def step(self, action):
        *result, info = super().step(action)
        return *result, {}


class Wrong(Told):
    def told(self):
        obs, info = super().told()
        return obs, {"action_mask": np.ones(3, bool)}


class Boxed(Told):
    action_space = gym.Box(-1, 1, (1,))


class Stuck(Told):
    """Allows nothing where the episode goes on."""

    def told(self):
        obs, info = super().told()
        self.mask[:] &= self.time != 1
        return obs, info


class Draws(gymnasium.Env):
    """The probe `Masks` once more: four steps whose masks no observation shows.

    An action earns its number. The last one is allowed in one state of four, the others
    in every second, and the first where no other is.
    """

    BEST = 4 * probes.Masks.BEST
    observation_space, action_space = gym.Box(-1, 1, (1,)), gym.Discrete(4)

    def told(self):
        self.mask = self.np_random.random(4) < np.array([0.0, 0.5, 0.5, 0.25])
        self.mask[0] = not self.mask.any()
        return np.zeros(1, np.float32), {"action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.told()

    def step(self, action):
        if not self.mask[action]:
            raise AssertionError(f"{action} under {self.mask}")
        self.time += 1
        obs, info = self.told()
        return obs, float(action), False, self.time == 4, info


class Stream:
    """The steps of an environment, and what was done in it."""

    def __init__(self, kind):
        self.env, self.event = kind(), threading.Event()

    def stream(self):
        while True:
            obs, info = self.env.reset(seed=0)
            yield obs, 0.0, False, False, info
            done = False
            while not done:
                self.event.wait()
                self.event.clear()
                *item, terminated, truncated, info = self.env.step(self.action)
                done = terminated or truncated
                yield *item, terminated, truncated, info

    def act(self, action):
        self.action = int(action)
        self.event.set()
