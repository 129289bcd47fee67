"""Pong of Atari under JAX: PPO on four images at a time, half a million steps.

The usual wrappers of Gymnasium make the images small and grey; they stay bytes until the
first convolution, which is chosen by their size. The learning rate is steered.
"""

import sys

import ale_py  # type: ignore  # of the extra atari
import gymnasium
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

import optix

gymnasium.register_envs(ale_py)


def pong() -> gymnasium.Env:
    env = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
    return FrameStackObservation(AtariPreprocessing(env, screen_size=42), 4)


def main(
    env_steps: int = 500_000, episodes: int = 4, num_envs: int = 16, steps: int = 128
) -> None:
    result = optix.train(
        pong,
        agent="ppo",
        num_envs=num_envs,
        num_steps=steps,
        num_epochs=3,
        num_minibatches=8,
        clip_ratio=0.1,
        hidden=(256,),
        activation="relu",
        windows_per_round=16,
        evaluation_episodes=episodes,
        max_env_steps=env_steps,
        progress=sys.stdout.isatty(),
    )
    print(f"{result.message}: {result.scores[0]:.1f} points, of 21")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
