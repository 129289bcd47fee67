"""How fast it runs beside its peers: `python -m tests.benchmarks.speed --rejax PYTHON`.

Each PYTHON is the interpreter of a virtual environment of its own: `rejax==0.1.3
gymnax==1.0.1`, `sbx-rl==0.28.0 torch==2.13.0` (stable-baselines3 is in it), and
`tensor-optix==1.16.0 torch==2.13.0`. All compile in a process of their own and then run
in turn, so that whatever else the machine does hits all; what counts is the ratio of the
medians. Runs of optix and rejax begin anew and include the steps before learning and one
evaluation of 128 episodes; those of the others only go on learning. Compile times are
of processes that start in turn. Without a peer only the parts of the default loop are
timed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

import optix
from tests.benchmarks.settings import window_steps

ROUNDS = 30  # of the default loop in one call


class Case(NamedTuple):
    """One comparison: what the workers are told."""

    algorithm: str
    ours: tuple  # seeds (below 0 vmapped), windows, more
    peers: dict[str, tuple]  # {name: (seeds, windows)}


CASES = {
    "PPO, 1 M steps": Case("ppo", (1, 128), {"rejax": (1, 128), "sbx": (1, 8)}),
    "the same, rewards not normalised": Case(
        "ppo", (1, 128, "raw"), {"rejax": (1, 128)}
    ),
    "PPO, 16 seeds in sequence, 65 k steps": Case("ppo", (16, 8), {"rejax": (16, 8)}),
    "PPO, 16 seeds vmapped, 65 k steps": Case("ppo", (-16, 8), {"rejax": (16, 8)}),
    "DQN, 100 k steps": Case(
        "dqn", (1, 100), {"rejax": (1, 100), "sbx": (1, 10), "sb3": (1, 10)}
    ),
    "SAC, 6 k steps": Case(
        "sac", (1, 60), {"rejax": (1, 60), "sbx": (1, 15), "sb3": (1, 5)}
    ),
    "TD3, 6 k steps": Case(
        "td3", (1, 60), {"rejax": (1, 60), "sbx": (1, 15), "sb3": (1, 5)}
    ),
    "Rainbow, 40 k steps": Case("rainbow", (1, 100), {"tensor-optix": (1, 10)}),
}
LEARNING = {  # windows of a short run and of a long one, whose difference only learns
    "DQN, learning only": ("dqn", 100, 300),
    "SAC, learning only": ("sac", 20, 80),
    "TD3, learning only": ("td3", 20, 80),
}
PEERS = {  # name: (the option with its interpreter, module, last arguments)
    "rejax": ("rejax", "worker_rejax", ()),
    "sbx": ("sbx", "worker_sb3", ("sbx",)),
    "sb3": ("sbx", "worker_sb3", ("sb3",)),
    "tensor-optix": ("tensor_optix", "worker_tensor_optix", ()),
}


class Worker:
    """A process that compiles once and runs on demand."""

    def __init__(self, python, module, *arguments):
        """Start it, and wait until it has compiled."""
        module = f"tests.benchmarks.{module}"
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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


def run_in_turn(workers, repeats):
    """Return {key: results} of so many runs of each worker, and end them."""
    runs = {key: [] for key in workers}
    for _ in range(repeats):
        for key, worker in workers.items():
            runs[key].append(worker.run())
    for worker in workers.values():
        worker.close()
    return runs


def compare(name, interpreters, repeats):
    """Print one row: optix beside the peers that there are."""
    algorithm, ours, peers = CASES[name]
    peers = {peer: told for peer, told in peers.items() if interpreters[PEERS[peer][0]]}
    if not peers:
        return
    workers = {"optix": Worker(sys.executable, "worker_optix", algorithm, *ours)}
    for peer, told in peers.items():
        option, module, last = PEERS[peer]
        python = interpreters[option]
        workers[peer] = Worker(python, module, algorithm, *told, *last)
    runs = run_in_turn(workers, repeats)
    rates = {
        worker: statistics.median(r["steps_per_second"] for r in results)
        for worker, results in runs.items()
    }
    fastest = max(peers, key=rates.__getitem__)
    cells = [
        name,
        _thousands(rates["optix"]),
        ", ".join(f"{peer} {_thousands(rates[peer])}" for peer in peers),
        f"{rates['optix'] / rates[fastest]:.2f}",
        _score(runs["optix"]),
        _score(runs[fastest]),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def compare_compiling(name, rejax, repeats):
    """Print one row: the time to trace and compile, in processes of their own in turn."""
    algorithm, ours, peers = CASES[name]
    told = {"optix": ours, "rejax": peers["rejax"]}
    seconds = {side: [] for side in told}
    for _ in range(repeats):
        for side, command in _sides(rejax).items():
            worker = Worker(*command, algorithm, *told[side])
            seconds[side].append(worker.compiled["compile"])
            worker.close()
    medians = [statistics.median(x) for x in seconds.values()]
    cells = [name, *(f"{x:.1f} s" for x in medians), f"{medians[0] / medians[1]:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def compare_learning(name, rejax, repeats):
    """Print one row: optix beside rejax from the end of a short run to that of a long."""
    algorithm, *lengths = LEARNING[name]
    sides = _sides(rejax)
    workers = {
        (side, windows): Worker(*command, algorithm, 1, windows)
        for side, command in sides.items()
        for windows in lengths
    }
    runs = run_in_turn(workers, repeats)
    seconds = {key: [r["seconds"] for r in results] for key, results in runs.items()}
    short, long = lengths
    steps = (long - short) * window_steps(algorithm)
    rates = {
        side: steps
        / statistics.median(
            b - a
            for a, b in zip(seconds[side, short], seconds[side, long], strict=True)
        )
        for side in sides
    }
    ratio = rates["optix"] / rates["rejax"]
    cells = [name, *(_thousands(rate) for rate in rates.values()), f"{ratio:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def _sides(rejax):
    """The interpreter and the module of optix and of rejax."""
    return {
        "optix": (sys.executable, "worker_optix"),
        "rejax": (rejax, "worker_rejax"),
    }


def _thousands(rate):
    return f"{rate / 1e3:.0f} k" if rate >= 1e4 else f"{rate / 1e3:.2f} k"


def _score(results):
    return f"{statistics.mean(r['score'] for r in results):.0f}"


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
        value = learner.evaluate(one.policy, learner.hyperparams, key) if score else 0.0
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
    parser.add_argument("--sbx", help="interpreter of one with sbx and its peer sb3")
    parser.add_argument("--tensor-optix", help="interpreter of one with tensor-optix")
    parser.add_argument("--repeats", type=int, default=8)
    choices = ("parts", *CASES, *LEARNING, "compile")
    parser.add_argument("--only", choices=choices, help="one row or table")
    args = parser.parse_args()
    if args.only in (None, "parts"):
        print("| environment | round | training | evaluation | control |")
        print("|" + "---|" * 5)
        for environment in ("CartPole-v1", "Pendulum-v1"):
            parts(environment, args.repeats)
    if args.rejax or args.sbx or args.tensor_optix:
        titles = "case|optix steps/s|peers' steps/s|ratio to the fastest|optix score"
        titles += "|its score"
        print("\n| " + titles.replace("|", " | ") + " |\n|" + "---|" * 6)
        for name in CASES:
            if args.only in (None, name):
                compare(name, vars(args), args.repeats)
    if args.rejax:
        print("\n| case | optix steps/s | rejax steps/s | ratio |\n|" + "---|" * 4)
        for name in LEARNING:
            if args.only in (None, name):
                compare_learning(name, args.rejax, args.repeats)
        print("\n| case | optix compile | rejax compile | ratio |\n|" + "---|" * 4)
        for name in CASES:
            if "rejax" in CASES[name].peers and args.only in (None, "compile"):
                compare_compiling(name, args.rejax, args.repeats)


if __name__ == "__main__":
    main()
