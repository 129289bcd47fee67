"""LunarLander-v3 of Gymnasium under JAX: PPO beyond 200 points in a million steps.

The environments run on the host, one callback for each step of all sixteen; acting,
learning, scoring and deciding are compiled. The settings were chosen for this
environment: a long horizon (`discount`), and one score every eight windows.
"""

import sys

import optix


def main(
    env_steps: int = 1_000_000, episodes: int = 10, num_envs: int = 16, steps: int = 256
) -> None:
    result = optix.train(
        "LunarLander-v3",
        agent="ppo",
        num_envs=num_envs,
        num_steps=steps,
        num_minibatches=32,
        learning_rate=1e-3,
        discount=0.999,
        gae_lambda=0.98,
        windows_per_round=8,
        evaluation_episodes=episodes,
        max_env_steps=env_steps,
        progress=sys.stdout.isatty(),
    )
    print(f"{result.message}: {result.scores[0]:.0f} points, solved at 200")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
