"""Torch agents in the loop beside the same without it, and beside their peers.

    python -m tests.benchmarks.host_speed [--only NAME] [--repeats N]
        [--tensor-optix FOLDER]

CartPole-v1 at equal sizes; all players take a window in turn and are not evaluated.
"the agent alone" collects and learns without the loop. Prints the median of environment
steps per second of wall clock and of process time, and the ratios of optix to the
others. SAC's rows are of its updates alone, batch 256. The peers are stable-baselines3,
and tensor-optix 1.16.0 where a folder that `pip install --no-deps --target` made is
given. OMP_NUM_THREADS=1 for the sake of the comparison.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from optix.host.learner import host  # noqa: E402
from optix.host.vector import VectorBatchPipeline  # noqa: E402
from optix.loop.loop import loop  # noqa: E402
from optix.tuners.fixed import fixed  # noqa: E402
from optix.types import Learner  # noqa: E402
from tests.benchmarks.gymnasium import measured, sb3_window  # noqa: E402

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
UPDATES = 100  # of SAC at once


class Size(NamedTuple):
    """A setting of PPO."""

    num_envs: int
    num_steps: int
    num_epochs: int
    num_minibatches: int
    hidden: tuple[int, ...] = (64, 64)
    peer: str = "stable-baselines3"

    @property
    def steps(self):
        """Environment steps of a window."""
        return self.num_envs * self.num_steps

    @property
    def options(self):
        """As keywords of an agent."""
        return {
            "num_epochs": self.num_epochs,
            "num_minibatches": self.num_minibatches,
        }


SIZES = {
    "ppo, 1 environment": Size(1, 2048, 10, 32),
    "ppo, 8 environments": Size(8, 128, 4, 4),
    "ppo, 64 environments": Size(64, 128, 4, 4),
    "ppo, 1 environment, window of 200": Size(1, 200, 10, 4, (64,), "tensor-optix"),
    "ppo, 8 environments, window of 200": Size(8, 200, 10, 4, (64,), "tensor-optix"),
}


def ppo_agent(size):
    """Return a TorchPPOAgent."""
    from optix_torch import TorchPPOAgent

    env = gymnasium.make(CARTPOLE)
    return TorchPPOAgent.for_env(env, device="cpu", hidden=size.hidden, **size.options)


def pipeline_of(size):
    """Return environments side by side."""
    return VectorBatchPipeline(
        CARTPOLE, num_envs=size.num_envs, window_size=size.num_steps
    )


def alone_window(size):
    """Return a function that collects and learns a window, without the loop."""
    agent, pipeline = ppo_agent(size), pipeline_of(size)
    envs = pipeline.open()
    agent.begin_episode(np.ones(size.num_envs, bool))
    pipeline.collect(agent, envs, 0)
    return lambda: agent.learn(pipeline.collect(agent, envs, None))


def loop_window(size):
    """Return a function that plays a round of one window in the loop, unscored."""
    learner: Learner = host(ppo_agent(size), pipeline_of(size))
    run = loop(
        learner,
        fixed(),
        max_rounds=10**6,
        windows_per_round=1,
        score=lambda policy, hyperparams, key: jnp.float32(1.0),
    )
    step, states = jax.jit(run.step), [run.init(jax.random.key(0))]

    def window():
        states[0] = jax.block_until_ready(step(states[0])[0])
        learner.host.keep(states[0])

    return window


def peer_window(size):
    """Return a function that plays and learns a window of the peer's PPO."""
    if size.peer == "tensor-optix":
        return tensor_optix_window(size)
    options = size.options | {"num_steps": size.num_steps}
    return sb3_window(CARTPOLE, size.num_envs, options)


def tensor_optix_window(size):
    """Return a function that plays a window in tensor-optix's loop, of one environment."""
    sys.modules.setdefault("tensorflow", None)  # pyright: ignore[reportArgumentType]
    import tensor_optix
    import torch
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
    from tensor_optix.core.types import HyperparamSet
    from torch import nn

    torch.set_num_threads(1)
    names = (
        "learning_rate clip_ratio entropy_coef vf_coef gamma gae_lambda max_grad_norm"
    )
    values = (3e-4, 0.2, 0.01, 0.5, 0.99, 0.95, 0.5)
    params = dict(zip(names.split(), values, strict=True))
    params |= {"n_epochs": size.num_epochs, "minibatch_size": 50}
    actor = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)
    agent = TorchPPOAgent(
        actor,
        critic,
        optimizer,
        HyperparamSet(params=params, episode_id=0),
        device="cpu",
    )
    env = gymnasium.make(CARTPOLE)
    windows = size.num_envs  # as many steps as ours

    def window():
        tensor_optix.RLOptimizer(
            agent=agent,
            pipeline=tensor_optix.BatchPipeline(
                env=env, agent=agent, window_size=size.num_steps
            ),
            max_episodes=windows,
            dormant_threshold=10**6,
            checkpoint_dir=tempfile.mkdtemp(),
        ).run()

    return window


def sac_updates():
    """Return {player: function of `UPDATES` updates} of SAC with two layers of 256."""
    import torch
    from stable_baselines3 import SAC

    from optix_torch import TorchSACAgent

    torch.set_num_threads(1)
    env = gymnasium.make(PENDULUM)
    agent = TorchSACAgent.for_env(
        env, device="cpu", hidden=(256, 256), learning_starts=256, updates_per_step=1.0
    )
    agent.memory = agent.make_memory()
    pipeline = VectorBatchPipeline(PENDULUM, num_envs=1, window_size=300)
    envs = pipeline.open()
    agent.begin_episode(np.ones(1, bool))
    agent.learn(pipeline.collect(agent, envs, 0))
    model = SAC("MlpPolicy", env, learning_starts=256, device="cpu", batch_size=256)
    model.learn(300)

    def ours():
        agent.begin_learning()
        for _ in range(UPDATES):
            agent._learn_once()
        agent.end_learning()

    return {"optix": ours, "stable-baselines3": partial(model.train, UPDATES, 256)}


def show(title, speeds, unit):
    """Print the figures of all players."""
    ours = speeds["optix"]
    print(title)
    for player, (wall, process) in speeds.items():
        print(
            f"  {player:18s} {wall:8.0f} {unit}/s, {process:8.0f} a process second; "
            f"optix {ours[0] / wall:.2f}, {ours[1] / process:.2f} of it",
            flush=True,
        )


def main():
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="settings whose name contains it")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tensor-optix", type=Path)
    arguments = parser.parse_args()
    if arguments.tensor_optix is not None:
        sys.path.append(str(arguments.tensor_optix))
    for name, size in SIZES.items():
        without = size.peer == "tensor-optix" and arguments.tensor_optix is None
        if arguments.only not in name or without:
            continue
        players = {
            "optix": loop_window(size),
            "the agent alone": alone_window(size),
            size.peer: peer_window(size),
        }
        show(name, measured(players, size.steps, arguments.repeats), "steps")
    if arguments.only in "sac":
        show("sac", measured(sac_updates(), UPDATES, arguments.repeats), "updates")


if __name__ == "__main__":
    main()
