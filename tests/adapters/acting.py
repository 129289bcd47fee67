"""Spaces, environments and windows for agents of any framework."""

import gymnasium
import numpy as np

from optix.host.window import EpisodeData

DISCRETE = gymnasium.spaces.Discrete(3)
BOX = gymnasium.spaces.Box(np.float32([-2, -1]), np.float32([2, 3]))
OBSERVED = gymnasium.spaces.Box(-10, 10, (4,), np.float32)
REPLAY = {"learning_starts": 8, "batch_size": 8, "capacity": 64}


class Spaces(gymnasium.Env):
    """An environment of nothing but its spaces."""

    def __init__(self, actions, observed=OBSERVED):
        self.observation_space, self.action_space = observed, actions


class Reach(gymnasium.Env):
    """A point that is paid for being near zero; seven steps."""

    observation_space = gymnasium.spaces.Box(-4, 4, (2,), np.float32)

    def __init__(self, discrete):
        spaces = gymnasium.spaces
        box = spaces.Box(np.float32([-2.0]), np.float32([2.0]))
        self.action_space = spaces.Discrete(3) if discrete else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = self.np_random.uniform(-1, 1), 0
        return self.seen(), {}

    def seen(self):
        return np.float32([self.at, self.steps / 7])

    def step(self, action):
        discrete = isinstance(self.action_space, gymnasium.spaces.Discrete)
        move = float(action) - 1 if discrete else float(action[0])
        self.at = float(np.clip(self.at + 0.3 * move, -3, 3))
        self.steps += 1
        return self.seen(), -abs(self.at), False, self.steps == 7, {}


def play(agent, steps=8, envs=2, seed=0, fresh=True, ends=0.2):
    """A window of an agent's own actions in random observations and rewards."""
    rng = np.random.default_rng(seed)
    agent.seed(seed)
    if fresh:
        agent.begin_episode(np.ones(envs, bool))
    obs = rng.normal(size=(envs, 4)).astype(np.float32)
    rows, extras = [], []
    for _ in range(steps):
        action, extra = agent.act_batch(obs)
        after = rng.normal(size=(envs, 4)).astype(np.float32)
        terminated, truncated = rng.random((2, envs)) < ends / 2
        reward = rng.normal(size=envs).astype(np.float32)
        rows.append((obs, action, reward, terminated, truncated, after))
        extras.append(extra)
        done = terminated | truncated
        obs = np.where(done[:, None], rng.normal(size=(envs, 4)), after)
        obs = obs.astype(np.float32)
        if done.any():
            agent.begin_episode(done)
    fields = [np.stack(field) for field in zip(*rows, strict=True)]
    kept = {name: np.stack([e[name] for e in extras]) for name in extras[0]}
    return EpisodeData(*fields, extras=kept)


def same(one, other):
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )
