"""Rainbow of tensor-optix at the shared settings, in its own loop.

Run by an interpreter that has tensor-optix 1.16.0 and torch, which gets one thread: its
products are small. The first run fills the replay; what stands as compile time is how
long that takes.
"""

import math
import sys
import tempfile
import time

import gymnasium
import torch
from tensor_optix import BatchPipeline, RLOptimizer
from tensor_optix.core.loop_controller import LoopCallback
from tensor_optix.core.types import HyperparamSet
from tensor_optix.registry.torch_rainbow_dqn import (
    RainbowQNetwork,
    TorchRainbowDQNAgent,
)

from tests.benchmarks.settings import RAINBOW, window_steps
from tests.benchmarks.worker import respond, say

WINDOW = RAINBOW["num_envs"] * RAINBOW["collect_steps"]  # steps between learning


class Counted(gymnasium.Wrapper):
    """An environment that counts its steps."""

    steps = 0

    def step(self, action):
        """Step once."""
        self.steps += 1
        return self.env.step(action)


class Until(LoopCallback):
    """Stops the loop after some environment steps."""

    def __init__(self, env, steps):
        """Remember when."""
        self.env, self.end, self.loop = env, env.steps + steps, None

    def on_episode_end(self, episode, metrics):
        """Called after each window."""
        if self.env.steps >= self.end:
            self.loop.stop()


def main():
    """Warm up, then run for each line."""
    windows = int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = RainbowQNetwork.build(4, 2, RAINBOW["hidden"][0], RAINBOW["num_atoms"])
    rate = RAINBOW["learning_rate"]
    hyperparams = {
        "learning_rate": rate,
        "gamma": RAINBOW["discount"],
        "batch_size": RAINBOW["batch_size"],
        "target_update_freq": RAINBOW["target_period"],
        "replay_capacity": RAINBOW["capacity"],
        "per_alpha": RAINBOW["priority_exponent"],
        "per_beta": RAINBOW["importance_exponent"],
        "n_step": RAINBOW["n_step"],
        "v_min": RAINBOW["value_min"],
        "v_max": RAINBOW["value_max"],
        "n_atoms": RAINBOW["num_atoms"],
    }
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    agent = TorchRainbowDQNAgent(
        network, 2, 4, optimizer, HyperparamSet(hyperparams, 0)
    )
    env = Counted(gymnasium.make(RAINBOW["environment"]))
    env.reset(seed=0)

    def run(steps):
        until = Until(env, steps)
        with tempfile.TemporaryDirectory() as folder:
            until.loop = RLOptimizer(
                agent=agent,
                pipeline=BatchPipeline(env=env, agent=agent, window_size=WINDOW),
                checkpoint_dir=folder,
                dormant_threshold=10**9,
                plateau_threshold=10**8,
                callbacks=[until],
            )
            before = env.steps
            until.loop.run()
        return env.steps - before, math.nan

    started = time.perf_counter()
    run(RAINBOW["learning_starts"])
    say({"compile": time.perf_counter() - started})
    respond(lambda number: run(windows * window_steps("rainbow")))


if __name__ == "__main__":
    main()
