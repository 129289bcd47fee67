"""Agents of every kind, tiny, and windows that they acted in."""

import functools

import gymnasium
import numpy as np
import torch

import optix_torch
from optix.host.window import EpisodeData

DISCRETE = gymnasium.spaces.Discrete(3)
BOX = gymnasium.spaces.Box(np.float32([-2, -1]), np.float32([2, 3]))
OBSERVED = gymnasium.spaces.Box(-10, 10, (4,), np.float32)
REPLAY = {"learning_starts": 8, "batch_size": 8, "capacity": 64}


class Spaces(gymnasium.Env):
    """An environment of nothing but its spaces."""

    def __init__(self, actions, observed=OBSERVED):
        self.observation_space, self.action_space = observed, actions


AGENTS = {
    name: functools.partial(
        getattr(optix_torch, kind).for_env, Spaces(actions), **options
    )
    for name, kind, actions, options in (
        ("ppo", "TorchPPOAgent", DISCRETE, {"hidden": (4,)}),
        ("gaussian", "TorchGaussianPPOAgent", BOX, {"hidden": (4,)}),
        (
            "recurrent",
            "TorchRecurrentPPOAgent",
            DISCRETE,
            {"hidden": (4,), "cell_size": 3, "sequence_length": 3},
        ),
        ("dqn", "TorchDQNAgent", DISCRETE, {"hidden": (4,), "n_step": 2, **REPLAY}),
        (
            "rainbow",
            "TorchRainbowDQNAgent",
            DISCRETE,
            {"hidden": (4,), "num_atoms": 5, **REPLAY},
        ),
        ("sac", "TorchSACAgent", BOX, {"hidden": (4,), **REPLAY}),
        ("td3", "TorchTD3Agent", BOX, {"hidden": (4,), **REPLAY}),
    )
}


def make(name, seed=0, **options):
    """An agent on the CPU, the same for the same seed."""
    torch.manual_seed(seed)
    return AGENTS[name](device="cpu", **options)


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
