"""Does a population escape from where a single run stays, and what does it cost?

`python -m tests.benchmarks.population` plays the corridor, a trap of chance and
hyperparameters, with single runs and with populations of four at equal steps;
`--price` times populations of one member beside the loop that they are made of.
"""

import argparse
import statistics
import time

import jax
import numpy as np

import optix
from optix.population.population import population
from tests.benchmarks.corridor import END, SURE, Corridor

STEPS = 1_000_000  # of a seed, all members together
ESCAPED = (SURE + END) / 2
SMALL = {
    "agent": "ppo",
    "num_envs": 16,
    "num_steps": 32,
    "hidden": (16,),
    "evaluation_episodes": 2,
    "max_rounds": 100_000,
    "target_score": ESCAPED,  # the mean of three rounds ends the run
}
MEMBER = {
    "dormant_threshold": 5,
    "min_rounds_before_dormant": 60,
    "min_rounds_without_signal": 60,
}
BOX = {
    "learning_rate": (1e-4, 1e-2),
    "entropy_coefficient": (1e-3, 0.3),
    "clip_ratio": (0.1, 0.4),
}


def single():
    """A run that trains until its steps are spent, whatever its scores say."""
    return optix.make(Corridor(), max_env_steps=STEPS, dormant_threshold=10**6, **SMALL)


def several():
    """A population of four runs that end where they are flat."""
    member = optix.make(Corridor(), **MEMBER, **SMALL)
    return population(member, 4, bounds=BOX, max_spawns=100, max_env_steps=STEPS)


def escapes(name, loop, seeds):
    """Print which seeds escaped, one after another, and how many steps they took."""
    run = jax.jit(lambda key: loop.run(loop.init(key)))
    scores, steps, spawns = [], [], []
    for seed in range(seeds):
        state = run(jax.random.key(seed))
        scores.append(float(state.best.score))
        steps.append(int(state.env_steps))
        spawns.append(int(getattr(state, "spawns", 0)))
        print(f"{name} {seed}: {scores[-1]:.2f} {steps[-1]} {spawns[-1]}", flush=True)
    free = np.array(scores) > ESCAPED
    median = f"{np.median(np.array(steps)[free]):.3g}" if free.any() else "-"
    print(
        f"{name}: {free.sum()} of {seeds} seeds escape within {STEPS} steps, after "
        f"{median} (median of those), spawns {np.median(spawns):.3g} (median)",
        flush=True,
    )


def price(rounds=30, repeats=9):
    """Print how much longer a round of the default PPO takes as a population's member."""
    loop = optix.make("CartPole-v1", agent="ppo")
    one = population(loop, 4, bounds={"learning_rate": (1e-4, 1e-2)})
    runs = {"loop": loop, "population": one}
    plays, states = {}, {}
    for name, run in runs.items():
        step = run.step

        def play(state, step=step):
            turn = lambda state, _: (step(state)[0], None)  # noqa: E731
            return jax.lax.scan(turn, state, None, length=rounds)[0]

        plays[name] = jax.jit(play)
        states[name] = run.init(jax.random.key(0))
        jax.block_until_ready(plays[name](states[name]))
    ratios = []
    for _ in range(repeats):  # in turn: the machine is not always the same
        seconds = {}
        for name in runs:
            start = time.process_time()
            jax.block_until_ready(plays[name](states[name]))
            seconds[name] = time.process_time() - start
        ratios.append(seconds["population"] / seconds["loop"])
        print({n: round(s / rounds * 1e3, 2) for n, s in seconds.items()}, "ms a round")
    print(
        f"ratio {statistics.median(ratios):.3f} (median of {repeats}, "
        f"{min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--price", action="store_true")
    arguments = parser.parse_args()
    if arguments.price:
        price()
    else:
        escapes("population", several(), arguments.seeds)
        escapes("single", single(), arguments.seeds)
