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

ROUNDS = 30  # of the default loop in one call
CASES = {  # name: (seeds of optix, below 0 vmapped; of rejax; windows; more arguments)
    "1 seed, 1 M steps": (1, 1, 128, []),
    "the same, rewards not normalised": (1, 1, 128, ["raw"]),
    "16 seeds in sequence, 65 k steps": (16, 16, 8, []),
    "16 seeds vmapped, 65 k steps": (-16, 16, 8, []),
}


class Worker:
    """A process that compiles once and runs on demand."""

    def __init__(self, python, module, *arguments):
        """Start it, and wait until it has compiled."""
        command = [python, "-W", "ignore", "-m", module, *map(str, arguments)]
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
    ours, theirs, windows, more = CASES[name]
    workers = [
        Worker(sys.executable, "tests.benchmarks.worker_optix", ours, windows, *more),
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


def parts(environment, repeats):
    """Print what a round of the default loop spends on what, many rounds a call."""
    run = optix.make(environment, "ppo", min_rounds_before_dormant=10**6)
    learner = run.learner
    hyperparams = {k: jnp.float32(v) for k, v in learner.hyperparams.items()}

    def whole(state, _):
        return run.step(state)[0]

    def alone(state, number, score=True):
        key = jax.random.fold_in(state.key, number)
        one = jax.tree.map(lambda x: x[0], state.learner)
        one, _ = learner.step(one, hyperparams, key, True)
        value = learner.evaluate(one.policy, key) if score else 0.0
        best = state.best._replace(score=state.best.score + value)
        one = jax.tree.map(lambda x: x[None], one)
        return state._replace(learner=one, best=best)

    bodies = {
        "round": whole,
        "training and evaluation": alone,
        "training": lambda state, number: alone(state, number, score=False),
    }

    def rounds(body):
        def repeat(state):
            return jax.lax.fori_loop(0, ROUNDS, lambda i, s: body(s, i), state)

        return jax.jit(repeat)

    programs = {name: rounds(body) for name, body in bodies.items()}
    state = run.init(jax.random.key(0))
    for _ in range(2):  # to a policy whose episodes are long
        state = programs["round"](state)
    times = {name: [] for name in programs}
    for _ in range(repeats + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program(state))
            times[name].append((time.perf_counter() - started) / ROUNDS)
    # in turn, and the first call compiled
    seconds = {name: statistics.median(values[1:]) for name, values in times.items()}
    train = seconds["training"]
    evaluate = seconds["training and evaluation"] - train
    control = seconds["round"] - train - evaluate
    cells = [
        environment,
        f"{seconds['round'] * 1e3:.1f} ms",
        f"{train * 1e3:.1f} ms",
        f"{evaluate * 1e3:.1f} ms ({evaluate / seconds['round']:.0%} of the round)",
        f"{control * 1e3:.2f} ms ({control / train:.1%} of training)",
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
        parts(environment, args.repeats)
    if args.rejax:
        titles = "PPO|optix steps/s|rejax steps/s|ratio|optix compile|rejax compile"
        titles += "|optix score|rejax score"
        print("\n| " + titles.replace("|", " | ") + " |\n|" + "---|" * 8)
        for name in CASES:
            compare(name, args.rejax, args.repeats)


if __name__ == "__main__":
    main()
