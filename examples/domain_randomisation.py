"""Pendulum with another gravity in every episode: one policy for all of them."""

import sys
from typing import Any

import jax
from gymnax.environments.classic_control.pendulum import EnvParams

import optix
from optix.envs.device import device
from optix.learners.evaluate import evaluator


def draw(key):
    gravity: Any = jax.random.uniform(key, minval=5.0, maxval=15.0)
    return EnvParams(g=gravity)


def main(max_env_steps: int = 60_000, episodes: int = 64) -> None:
    loop = optix.make("Pendulum-v1", task=draw, max_env_steps=max_env_steps)
    agent: Any = loop.learner.agent
    best = jax.jit(loop.run)(loop.init(jax.random.key(0))).best
    print(f"mean over gravities that no choice has seen: {best.score:.1f}")
    for gravity in (5.0, 10.0, 15.0):
        env = device("Pendulum-v1", EnvParams(g=gravity))
        score = evaluator(agent, env, episodes=episodes)
        found = score(best.policy, best.hyperparams, jax.random.key(1))
        print(f"gravity {gravity:4.1f}: {found:.1f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
