"""How well the defaults learn: `python -m tests.benchmarks.learning`.

One set of defaults for every environment, the tuner fixed, no target score. The score is
the mean return of the best policy over 128 episodes on keys that no choice has seen.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import optix

MILLION = 1_000_000
CASES = [  # environment, budget of environment steps, bar
    ("CartPole-v1", None, 475.0),
    ("Acrobot-v1", MILLION, -100.0),
    ("Pendulum-v1", MILLION, -250.0),
]


def interval(sample):
    """Half the width of the 95 % confidence interval of the mean."""
    from scipy import stats

    error = sample.std(ddof=1) / np.sqrt(len(sample))
    return float(stats.t.ppf(0.975, len(sample) - 1) * error)


def measure(environment, max_env_steps, bar, seeds):
    """One row of the table."""
    run = optix.make(environment, "ppo", max_env_steps=max_env_steps)

    def seed_run(key):
        state = run.run(run.init(key))
        return state.best.score, state.round, state.env_steps, state.stop_reason

    keys = jax.random.split(jax.random.key(0), seeds)
    runs = jax.jit(lambda keys: jax.lax.map(seed_run, keys)).lower(keys).compile()
    started = time.perf_counter()
    score, rounds, env_steps, reason = (np.asarray(x) for x in runs(keys))
    seconds = time.perf_counter() - started
    names = [optix.StopReason(int(r)).name for r in reason]
    stops = ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))
    return [
        environment,
        f"{bar:g}",
        f"{np.sum(score >= bar)} of {seeds}",
        f"{score.mean():.1f} ± {interval(score):.1f}",
        f"{score.min():.1f}",
        f"{np.median(rounds):.0f} ({rounds.min()} to {rounds.max()})",
        f"{np.median(env_steps) / MILLION:.2f} M",
        stops,
        f"{env_steps.sum() / seconds / 1000:.0f} k",
    ]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--only", help="one environment")
    args = parser.parse_args()
    titles = (
        "environment|bar|seeds at the bar|score|worst|rounds|steps|stopped by|steps/s"
    )
    print("| " + titles.replace("|", " | ") + " |")
    print("|" + "---|" * len(titles.split("|")))
    for case in CASES:
        if args.only in (None, case[0]):
            print("| " + " | ".join(measure(*case, args.seeds)) + " |", flush=True)


if __name__ == "__main__":
    jnp.zeros(1).block_until_ready()
    main()
