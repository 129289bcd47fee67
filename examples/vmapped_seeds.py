"""Sixty-four autonomous runs in one compiled program: seeds, then learning rates.

Each seed decides for itself when to stop, keeps its own best policy, and is frozen from
then on. On a CPU seeds run faster one after another (`jax.lax.map`, or `optix.train`);
vmap is for accelerators, and works here too.
"""

import sys

import jax
import jax.numpy as jnp

import optix


def main(seeds: int = 64, max_rounds: int = 500) -> None:
    loop = optix.make("CartPole-v1", agent="ppo", max_rounds=max_rounds)
    states = jax.vmap(loop.init)(jax.random.split(jax.random.key(0), seeds))
    states = jax.jit(jax.vmap(loop.run), donate_argnums=0)(states)
    print("best scores", states.best.score)  # [seeds], on keys no choice has seen
    print("stopped by ", [optix.StopReason(int(r)).name for r in states.stop_reason])
    print("curves     ", states.curve.shape)  # [seeds, 1024]

    # the same program over hyperparameters: every float is a traced leaf
    rates = jnp.logspace(-5, -2, 4)
    keys = jax.random.split(jax.random.key(1), len(rates))
    grid = jax.vmap(loop.init)(keys, {"learning_rate": rates})
    grid = jax.jit(jax.vmap(loop.run), donate_argnums=0)(grid)
    for rate, score in zip(rates, grid.best.score, strict=True):
        print(f"learning_rate {rate:.0e}: {score:.1f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
