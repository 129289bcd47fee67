"""How well the defaults learn: `python -m tests.benchmarks.learning`.

One set of defaults for every environment, but for the options that the table shows; the
tuner fixed, no target score. The score is the mean return of the best policy over 128
episodes on keys that no choice has seen. Seeds run one after another and are kept in a
folder, so that the next call runs only those that are missing; from all that there are
the table is printed and the curves are drawn. `--only NAME` takes the cases whose name
contains it, `--seeds 0` runs none.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import optix
from tests.benchmarks.curves import draw
from tests.benchmarks.masked import MaskedCartPole

MILLION = 1_000_000


class Case(NamedTuple):
    """An agent in an environment."""

    agent: str
    environment: str
    bar: float
    max_env_steps: int
    options: dict[str, Any] = {}
    seeds: int = 16

    @property
    def name(self):
        """What `--only` looks for."""
        return f"{self.agent} {self.environment}"


MEMORY = "MemoryChain-bsuite, length 20"
MASKED = "CartPole-v1 without velocities"
BREAKOUT = "Breakout-MinAtar"
SMALL = {"hidden": (64, 64)}
# down to zero over the windows of the budget, as PureJaxRL has it
FAST = {"learning_rate": 2.5e-3, "num_minibatches": 8, "decay_over": 244}
SLOW_START = {"epsilon_steps": 100_000, "learning_starts": 5_000}
# no return of Breakout is negative: without a half of the support that is never used
FITTED = {"normalize_rewards": False, "value_min": -1.0, "value_max": 15.0}
CASES = [
    Case("ppo", "CartPole-v1", 475.0, 5 * MILLION),
    Case("ppo", "Acrobot-v1", -100.0, MILLION),
    Case("ppo", "Pendulum-v1", -250.0, MILLION),
    Case("dqn", "CartPole-v1", 475.0, MILLION // 2),
    Case("pqn", "CartPole-v1", 475.0, MILLION // 2),
    Case("rainbow", "CartPole-v1", 475.0, MILLION // 2),
    Case("sac", "Pendulum-v1", -200.0, 30_000, SMALL),
    Case("td3", "Pendulum-v1", -200.0, 30_000, SMALL),
    Case("recurrent_ppo", MEMORY, 0.95, MILLION // 2),
    Case("recurrent_ppo", MASKED, 450.0, MILLION // 2),
    Case("recurrent_pqn", MEMORY, 0.95, MILLION // 2),
    # what one sees at a time does not tell what to do: the two above need a memory
    Case("ppo", MEMORY, 0.95, MILLION // 2, seeds=4),
    Case("ppo", MASKED, 450.0, MILLION // 2, seeds=4),
    Case("ppo", BREAKOUT, 28.0, 2 * MILLION, FAST, seeds=4),
    Case("dqn", BREAKOUT, 10.0, 300_000, SLOW_START, seeds=4),
    Case("rainbow", BREAKOUT, 10.0, 300_000, FITTED, seeds=4),
]


def environment(name):
    """Return what `optix.make` takes, and the environment's parameters."""
    import gymnax

    if name == MASKED:
        return MaskedCartPole(), None
    if name == MEMORY:
        env, params = gymnax.make("MemoryChain-bsuite")
        return env, params.replace(memory_length=20)
    return name, None


def runner(case, **options):
    """Return `seed -> result`, compiled at the first call."""
    env, params = environment(case.environment)
    options = {"env_params": params, **case.options, **options}
    run = optix.make(env, case.agent, max_rounds=100_000, **options)

    def seed_run(key):
        state = run.init(key)
        # the last round must end within the budget
        steps = run.step(state)[0].env_steps
        budget = case.max_env_steps - case.max_env_steps % steps
        limits = state.limits._replace(max_env_steps=budget)
        state = run.run(state._replace(limits=limits))
        return {
            "score": state.best.score,
            "rounds": state.round,
            "env_steps": state.env_steps,
            "reason": state.stop_reason,
            "curve": state.curve,
            "stride": state.curve_stride,
        }

    keys = jax.random.split(jax.random.key(0), 1024)
    compiled = jax.jit(seed_run).lower(keys[0]).compile()

    def measure(seed):
        started = time.perf_counter()
        result = jax.tree.map(lambda x: np.asarray(x).tolist(), compiled(keys[seed]))
        return {**result, "seconds": time.perf_counter() - started}

    return measure


def row(case, results):
    """Return the cells of a case in the table."""
    score, rounds, env_steps, seconds = (
        np.array([result[name] for result in results])
        for name in ("score", "rounds", "env_steps", "seconds")
    )
    names = [optix.StopReason(result["reason"]).name for result in results]
    options = ", ".join(f"{name}={value}" for name, value in case.options.items())
    error = f" ± {interval(score):.2g}" if len(score) > 1 else ""
    return [
        case.agent,
        case.environment,
        options,
        f"{case.bar:g}",
        f"{np.sum(score >= case.bar)} of {len(score)}",
        f"{score.mean():.4g}{error}",
        f"{score.min():.4g}",
        f"{np.median(rounds):.0f} ({rounds.min()} to {rounds.max()})",
        f"{np.median(env_steps) / MILLION:.3g} M",
        ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names))),
        f"{env_steps.sum() / seconds.sum() / 1000:.3g} k",
    ]


def interval(sample):
    """Half the width of the 95 % confidence interval of the mean."""
    from scipy import stats

    if len(sample) < 2:
        return float("nan")
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    return float(stats.t.ppf(0.975, len(sample) - 1) * error)


def main():
    """Run what is asked for, print the table of all that there is, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds", type=int, help="of each case; None takes its own number"
    )
    parser.add_argument("--only", default="", help="cases whose name contains it")
    parser.add_argument("--directory", type=Path, default="learning_results")
    args = parser.parse_args()
    args.directory.mkdir(exist_ok=True)
    titles = "agent|environment|options|bar|seeds at the bar|score|worst|rounds|steps"
    titles += "|stopped by|steps/s"
    print("| " + titles.replace("|", " | ") + " |")
    print("|" + "---|" * len(titles.split("|")))
    results = []
    for case in CASES:
        if args.only not in case.name:
            continue
        file = args.directory / f"{case.name}.json"
        done = json.loads(file.read_text()) if file.exists() else []
        missing = range(len(done), case.seeds if args.seeds is None else args.seeds)
        measure = runner(case) if missing else None
        for seed in missing:
            done.append(measure(seed))
            file.write_text(json.dumps(done))
        if done:
            results.append((case, done))
            print("| " + " | ".join(row(case, done)) + " |", flush=True)
    draw(results, args.directory / "learning.png")


if __name__ == "__main__":
    main()
