"""Pendulum with another gravity in every episode: one policy for all of them."""

import sys
from dataclasses import replace

import jax
from gymnax.environments.classic_control.pendulum import EnvParams

import optix


def draw(key):
    return replace(EnvParams(), g=jax.random.uniform(key, minval=5.0, maxval=15.0))


def main(max_env_steps: int = 60_000, episodes: int = 64) -> None:
    loop = optix.make("Pendulum-v1", task=draw, max_env_steps=max_env_steps)
    best = jax.jit(loop.run)(loop.init(jax.random.key(0))).best
    print(f"mean over gravities that no choice has seen: {best.score:.1f}")
    for gravity in (5.0, 10.0, 15.0):
        options = {"env_params": EnvParams(g=gravity), "evaluation_episodes": episodes}
        play = optix.make("Pendulum-v1", **options).learner.evaluate
        score = jax.jit(play)(best.policy, best.hyperparams, jax.random.key(1))
        print(f"gravity {gravity:4.1f}: {score:.1f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
