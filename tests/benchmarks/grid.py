"""Speed at many settings beside rejax: `python -m tests.benchmarks.grid --rejax PYTHON`.

PYTHON is the interpreter of an environment with `rejax==0.1.3 gymnax==1.0.1`. For every
setting both compile in a process of their own and then run in turn; the ratio is the
median of the ratios of neighbouring runs. A run begins anew and ends with an evaluation of
128 episodes. `products` is the share of optix's time that the matrix products of its
training would take alone (see `tests.benchmarks.products`), which no program can save.

On a machine that others use, `--cpu` compares the CPU time of processes bound to one
core. Compile times are CPU time in either case, with no cache.

What is wanted: a geometric mean of at least 1.6 over the settings whose products take
less than 60 % of the time, and none below 1.15 unless its products take over 70 %.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from typing import NamedTuple

from tests.benchmarks import products
from tests.benchmarks.settings import SETTINGS
from tests.benchmarks.speed import Worker

WANTED_MEAN, COUNTED_BELOW = 1.6, 0.6
WANTED_LEAST, EXCUSED_ABOVE = 1.15, 0.7


class Case(NamedTuple):
    """A setting: what differs from `tests.benchmarks.settings`."""

    algorithm: str
    windows: int  # of a run: a second or less
    changed: dict
    seeds: int = 1  # below 0 vmapped in optix too; rejax always is


def ppo(windows, envs, steps, hidden, environment="CartPole-v1", seeds=1, **changed):
    """A case of PPO."""
    sizes = {"num_envs": envs, "num_steps": steps, "hidden": hidden}
    return Case("ppo", windows, {"environment": environment, **sizes, **changed}, seeds)


TWO, BREAKOUT = (64, 64), "Breakout-MinAtar"
ONE_PASS = {"num_epochs": 1, "num_minibatches": 4}
CASES = {
    "PPO 4 x 128": ppo(64, 4, 128, TWO),
    "PPO 4 x 128, one layer of 32": ppo(64, 4, 128, (32,)),
    "PPO 16 x 32, four layers of 32": ppo(64, 16, 32, (32, 32, 32, 32)),
    "PPO 64 x 128": ppo(16, 64, 128, TWO),
    "PPO 64 x 16": ppo(64, 64, 16, TWO),
    "PPO 64 x 128, 256 x 256": ppo(2, 64, 128, (256, 256)),
    "PPO 256 x 16, 256 x 256": ppo(4, 256, 16, (256, 256)),
    "PPO 64 x 64, three layers of 128": ppo(8, 64, 64, (128, 128, 128)),
    "PPO 2048 x 32": ppo(4, 2048, 32, TWO),
    "PPO 2048 x 16, one layer of 128": ppo(4, 2048, 16, (128,)),
    "PPO Acrobot 64 x 128": ppo(8, 64, 128, TWO, "Acrobot-v1"),
    "PPO Acrobot 4 x 64": ppo(32, 4, 64, TWO, "Acrobot-v1"),
    "PPO Pendulum 32 x 64": ppo(32, 32, 64, TWO, "Pendulum-v1"),
    "PPO Pendulum 2048 x 16": ppo(8, 2048, 16, TWO, "Pendulum-v1"),
    "PPO Breakout flat 32 x 64": ppo(8, 32, 64, TWO, BREAKOUT, flat=True),
    "PPO Breakout flat 32 x 64, 128": ppo(8, 32, 64, (128,), BREAKOUT, flat=True),
    "PPO Breakout convolution 32 x 32": ppo(4, 32, 32, TWO, BREAKOUT),
    "PPO 64 x 128, 16 seeds in sequence": ppo(2, 64, 128, TWO, seeds=16),
    "PPO 64 x 128, 16 seeds vmapped": ppo(2, 64, 128, TWO, seeds=-16),
    "PQN 64 x 32": Case("pqn", 32, {}),
    "PQN 16 x 128, one pass of 4": Case(
        "pqn", 48, {"num_envs": 16, "num_steps": 128, **ONE_PASS}
    ),
    "PQN 256 x 16, 128 x 128": Case(
        "pqn", 12, {"num_envs": 256, "num_steps": 16, "hidden": (128, 128)}
    ),
    "PQN Breakout flat 128 x 32": Case(
        "pqn",
        16,
        {"environment": BREAKOUT, "flat": True, "num_envs": 128, "hidden": (128,)},
    ),
    "DQN batch 32": Case("dqn", 60, {"batch_size": 32, "learning_starts": 1_000}),
    "DQN batch 512": Case("dqn", 30, {"batch_size": 512, "learning_starts": 1_000}),
    "DQN batch 128, 16 seeds in sequence": Case(
        "dqn", 20, {"learning_starts": 1_000}, 16
    ),
    "SAC 64 x 64": Case("sac", 30, {}),
    "SAC 256 x 256": Case("sac", 15, {"hidden": (256, 256)}),
    "TD3 64 x 64": Case("td3", 30, {}),
    "TD3 256 x 256": Case("td3", 15, {"hidden": (256, 256)}),
}


class Row(NamedTuple):
    """What was found at a setting."""

    ratio: float
    share: float  # of optix's time that its products take alone
    compiled: tuple[float, float]  # CPU seconds of optix and of rejax


def measure(case, python, repeats, clock):
    """Return the `Row` of a case; `clock` is "seconds" or "cpu"."""
    told = json.dumps(case.changed)
    arguments = case.algorithm, case.seeds, case.windows, told
    ours = Worker(sys.executable, "worker_optix", *arguments, "raw")
    peer = Worker(python, "worker_rejax", *arguments)
    pairs = []
    for number in range(repeats + 1):
        # who comes first changes: what comes second finds other caches
        order = (ours, peer) if number % 2 else (peer, ours)
        found = {worker: worker.run()[clock] for worker in order}
        pairs.append((found[ours], found[peer]))
    compiled = ours.compiled["compile_cpu"], peer.compiled["compile_cpu"]
    ours.close()
    peer.close()
    pairs = pairs[1:]  # the first finds everything cold
    settings = {**SETTINGS[case.algorithm], **case.changed}
    counts = products.products(case.algorithm, settings)
    clocks = {"seconds": time.perf_counter, "cpu": time.process_time}
    alone = products.seconds(counts, clock=clocks[clock])
    alone *= case.windows * abs(case.seeds)
    return Row(
        statistics.median(peer / own for own, peer in pairs),
        alone / statistics.median(own for own, _ in pairs),
        compiled,
    )


def summary(rows):
    """Return what the rows say of what is wanted, in sentences."""
    counted = [row.ratio for row in rows.values() if row.share < COUNTED_BELOW]
    below = [
        f"{name} ({row.ratio:.2f})"
        for name, row in rows.items()
        if row.ratio < WANTED_LEAST and row.share <= EXCUSED_ABOVE
    ]
    slow = [name for name, row in rows.items() if row.compiled[0] > row.compiled[1]]
    mean = f"{statistics.geometric_mean(counted):.2f}" if counted else "none"
    return [
        f"{len(rows)} settings; in {len(counted)} products take under "
        f"{COUNTED_BELOW:.0%}: geometric mean {mean} (wanted {WANTED_MEAN})",
        f"below {WANTED_LEAST}, with products of at most {EXCUSED_ABOVE:.0%}: "
        + (", ".join(below) or "none"),
        "compiled in more time than rejax: " + (", ".join(slow) or "none"),
    ]


def main():
    """Print the table, and what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rejax", required=True, help="interpreter with rejax")
    parser.add_argument("--only", default="", help="settings whose name contains it")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs")
    parser.add_argument("--cpu", action="store_true", help="CPU time on one core")
    args = parser.parse_args()
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ["OPTIX_COMPILATION_CACHE"] = "0"
    if args.cpu:
        with contextlib.suppress(AttributeError):  # not on every system
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    titles = "setting|ratio|products|optix compile|rejax compile"
    print("| " + titles.replace("|", " | ") + " |\n|" + "---|" * 5)
    rows = {}
    for name, case in CASES.items():
        if args.only not in name:
            continue
        clock = "cpu" if args.cpu else "seconds"
        row = rows[name] = measure(case, args.rejax, args.repeats, clock)
        compiled = " | ".join(f"{seconds:.1f} s" for seconds in row.compiled)
        print(
            f"| {name} | {row.ratio:.2f} | {row.share:.0%} | {compiled} |", flush=True
        )
    print("\n" + "\n".join(summary(rows)) if rows else "no such setting")


if __name__ == "__main__":
    main()
