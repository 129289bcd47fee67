"""How fast it runs beside rejax: `python -m tests.benchmarks.speed --rejax PYTHON`.

PYTHON is the interpreter of a virtual environment with `rejax==0.1.3 gymnax==1.0.1`.
Both compile in a process of their own and then run in turn, so that whatever else the
machine does hits both; what counts is the ratio of the medians. Without --rejax only
the parts of the default loop are timed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import optix
from tests.benchmarks.settings import STEPS_PER_WINDOW

CASES = {  # name: (seeds of optix, seeds of rejax, windows of each seed)
    "1 seed, 1 M steps": (1, 1, 128),
    "16 seeds in sequence, 65 k steps": (16, 16, 8),
    "16 seeds vmapped, 65 k steps": (-16, 16, 8),
}


class Worker:
    """A process that compiles once and runs on demand."""

    def __init__(self, python, module, seeds, windows):
        """Start it, and wait until it has compiled."""
        command = [python, "-W", "ignore", "-m", module, str(seeds), str(windows)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.compiled = self.read()

    def read(self):
        """Return its next line."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended without an answer")
        return json.loads(line)

    def run(self):
        """Let it run once."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def compare(name, rejax_python, repeats):
    """Print one row: optix beside rejax."""
    ours, theirs, windows = CASES[name]
    workers = [
        Worker(sys.executable, "tests.benchmarks.worker_optix", ours, windows),
        Worker(rejax_python, "tests.benchmarks.worker_rejax", theirs, windows),
    ]
    runs = [[], []]
    for _ in range(repeats):
        for worker, results in zip(workers, runs, strict=True):
            results.append(worker.run())
    for worker in workers:
        worker.close()
    steps = abs(ours) * windows * STEPS_PER_WINDOW
    seconds = [statistics.median(r["seconds"] for r in results) for results in runs]
    scores = [statistics.mean(r["score"] for r in results) for results in runs]
    compiled = [w.compiled["trace"] + w.compiled["compile"] for w in workers]
    cells = [
        name,
        f"{steps / seconds[0] / 1e3:.0f} k",
        f"{steps / seconds[1] / 1e3:.0f} k",
        f"{seconds[1] / seconds[0]:.2f}",
        f"{compiled[0]:.1f} s",
        f"{compiled[1]:.1f} s",
        f"{scores[0]:.0f}",
        f"{scores[1]:.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def median_seconds(function, *args, repeats=20):
    """Compile, then return the median time of a call."""
    compiled = jax.jit(function).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def parts(environment):
    """Print what a round of the default loop spends on what."""
    run = optix.make(environment)
    state = run.init(jax.random.key(0))
    # scores of a good policy: its episodes are long
    advance = jax.jit(
        lambda s: jax.lax.fori_loop(0, 60, lambda _, s: run.step(s)[0], s)
    )
    state = advance(state)
    key = jax.random.key(1)
    hyperparams = {k: jnp.float32(v) for k, v in run.learner.hyperparams.items()}
    one = state.learner._replace(
        policy=jax.tree.map(lambda x: x[0], state.learner.policy),
        rollout=jax.tree.map(lambda x: x[0], state.learner.rollout),
    )
    whole = median_seconds(run.step, state)
    train = median_seconds(run.learner.step, one, hyperparams, key, True)
    evaluate = median_seconds(run.learner.evaluate, one.policy, key)
    control = whole - train - evaluate
    cells = [
        environment,
        f"{whole * 1e3:.1f} ms",
        f"{train * 1e3:.1f} ms",
        f"{evaluate * 1e3:.1f} ms ({evaluate / whole:.0%} of the round)",
        f"{control * 1e3:.1f} ms ({control / train:.1%} of training)",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rejax", help="interpreter of an environment with rejax")
    parser.add_argument("--repeats", type=int, default=8)
    args = parser.parse_args()
    print("| environment | round | training | evaluation | control |\n|" + "---|" * 5)
    for environment in ("CartPole-v1", "Pendulum-v1"):
        parts(environment)
    if args.rejax:
        titles = "PPO|optix steps/s|rejax steps/s|ratio|optix compile|rejax compile"
        titles += "|optix score|rejax score"
        print("\n| " + titles.replace("|", " | ") + " |\n|" + "---|" * 8)
        for name in CASES:
            compare(name, args.rejax, args.repeats)


if __name__ == "__main__":
    main()
