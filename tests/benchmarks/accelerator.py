"""Speed on an accelerator beside rejax: `python -m tests.benchmarks.accelerator`.

Both in one process, at the settings of `tests.benchmarks.settings`, rewards as they are.
All cases compile side by side in threads and are then timed one by one, each with its
peer; at most `--seconds` in all. A run begins anew and ends with an evaluation of 128
episodes, which counts. Without rejax optix is timed alone.

On a CPU nothing is timed. There a reduced list is compiled and what an accelerator pays
for is counted, in the forms that an accelerator is given: the operations and the turns
of loops of an optimised program, and its temporaries. A turn of a loop costs about 7 us
on an H100 whatever is in it.
"""

import argparse
import importlib.util
import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, TimeoutError, as_completed
from typing import NamedTuple

import jax

import optix
from tests.benchmarks.settings import SETTINGS
from tests.benchmarks.worker_optix import made

TWO = (64, 64)
BIG = {"num_envs": 2048, "num_steps": 32, "hidden": (256, 256), "num_minibatches": 8}
IMAGES = {"environment": "Breakout-MinAtar"}
FLAT = {**IMAGES, "flat": True}
EARLY = {"learning_starts": 1_000}


class Case(NamedTuple):
    """A setting, so many seeds at once, so many windows."""

    algorithm: str
    seeds: int
    windows: int
    changed: dict = {}


CASES = {
    "PPO, 1 seed": Case("ppo", 1, 32),
    "PPO, 16 seeds": Case("ppo", 16, 32),
    "PPO, 256 seeds": Case("ppo", 256, 16),
    "PPO, 2048 seeds": Case("ppo", 2048, 4),
    "PPO, 2048 x 32, 256 x 256": Case("ppo", 1, 16, BIG),
    "PPO, Breakout flat, 1 seed": Case("ppo", 1, 16, FLAT),
    "PPO, Breakout flat, 64 seeds": Case("ppo", 64, 8, FLAT),
    "PPO, Breakout convolution, 1 seed": Case("ppo", 1, 16, IMAGES),
    "PPO, Breakout convolution, 64 seeds": Case("ppo", 64, 4, IMAGES),
    "DQN, 1 seed": Case("dqn", 1, 40, EARLY),
    "DQN, 64 seeds": Case("dqn", 64, 40, EARLY),
    "SAC, 1 seed": Case("sac", 1, 40),
    "SAC, 64 seeds": Case("sac", 64, 40),
}
AUTONOMOUS = "64 autonomous runs"
COUNTED = ["PPO, 1 seed", "PPO, 256 seeds"]  # on a CPU
# a share of the time in which all must have compiled
COMPILING = 0.6


class Program(NamedTuple):
    """A compiled program."""

    run: object  # `(key) -> score`
    steps: int  # of the environments, all seeds together; 0 where they are not counted
    compiling: float  # seconds, beside the others
    temporaries: float  # MB


def over_seeds(one, seeds):
    """Return `key -> mean score` of so many seeds at once."""
    if seeds == 1:
        return one
    return lambda key: jax.vmap(one)(jax.random.split(key, seeds)).mean()


def optix_function(case):
    """Return `key -> score` of optix."""
    settings = {**SETTINGS[case.algorithm], **case.changed}
    run = made(settings, case.algorithm, case.windows, raw=case.algorithm == "ppo")
    return over_seeds(lambda key: run.step(run.init(key))[1].score, case.seeds)


def rejax_function(case):
    """Return `key -> score` of rejax."""
    from tests.benchmarks.worker_rejax import built

    settings = {**SETTINGS[case.algorithm], **case.changed}
    return built(settings, case.algorithm, case.seeds, case.windows)


def autonomous(seeds=64):
    """Whole runs of the defaults on CartPole, until every one has stopped by itself."""
    run = optix.make("CartPole-v1", "ppo")
    return over_seeds(lambda key: run.run(run.init(key)).best.score, seeds)


def steps_of(case):
    """Environment steps of a run of a case."""
    settings = {**SETTINGS[case.algorithm], **case.changed}
    return case.seeds * case.windows * settings["num_envs"] * settings["num_steps"]


def compiled(make, steps):
    """Return the `Program` of the function that `make` returns."""
    started = time.perf_counter()
    program = jax.jit(make()).lower(jax.random.key(0)).compile()
    seconds = time.perf_counter() - started
    memory = program.memory_analysis()
    temporaries = getattr(memory, "temp_size_in_bytes", 0) / 1e6
    return Program(program, steps, seconds, temporaries)


def timed(programs, deadline, repeats=3):
    """Return {side: median seconds} of runs in turn, after one of each to warm up."""
    times = {side: [] for side in programs}
    for number in range(repeats + 1):
        for side, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program.run(jax.random.key(number)))
            times[side].append(time.perf_counter() - started)
        if time.monotonic() > deadline:
            break
    return {side: statistics.median(runs[1:] or runs) for side, runs in times.items()}


def compare(only, limit, threads):
    """Compile everything in threads, then time case by case and print the table."""
    started = time.monotonic()
    sides = {"optix": optix_function}
    if importlib.util.find_spec("rejax"):
        sides["rejax"] = rejax_function
    jobs = {
        (name, side): (lambda make=make, case=case: make(case), steps_of(case))
        for name, case in CASES.items()
        if only in name
        for side, make in sides.items()
    }
    if only in AUTONOMOUS:
        jobs[AUTONOMOUS, "optix"] = autonomous, 0
    found = {}
    pool = ThreadPoolExecutor(threads)
    futures = {pool.submit(compiled, *job): key for key, job in jobs.items()}
    try:
        for future in as_completed(futures, timeout=limit * COMPILING):
            name, side = futures[future]
            try:
                found.setdefault(name, {})[side] = future.result()
            except Exception as error:  # one case shall not hide the others
                print(f"{name}, {side}: {type(error).__name__}: {str(error)[:200]}")
    except TimeoutError:
        print("not all compiled in time")
    pool.shutdown(wait=False, cancel_futures=True)
    print(f"compiled after {time.monotonic() - started:.0f} s\n")
    titles = "case|optix|rejax|ratio|temporaries|compiled beside others"
    print("| " + titles.replace("|", " | ") + " |\n|" + "---|" * 6)
    for name in dict.fromkeys(name for name, _ in jobs):
        if name not in found:
            continue
        if time.monotonic() - started > limit:
            print("the time is over")
            break
        try:
            print(row(name, found.pop(name), started + limit), flush=True)
        except Exception as error:  # out of memory, most likely
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
    print(f"\n{time.monotonic() - started:.0f} s in all", flush=True)
    os._exit(0)  # threads that still compile are not waited for


def row(name, programs, deadline):
    """Time a case and return its row."""
    seconds = timed(programs, deadline)
    cells = [
        f"{programs[side].steps / seconds[side] / 1e3:.4g} k/s"
        if side in programs and programs[side].steps
        else f"{seconds[side]:.1f} s"
        if side in programs
        else ""
        for side in ("optix", "rejax")
    ]
    both = len(programs) == 2
    cells.append(f"{seconds['rejax'] / seconds['optix']:.2f}" if both else "")
    ordered = [programs[side] for side in ("optix", "rejax") if side in programs]
    cells.append(
        " / ".join(f"{program.temporaries:.0f}" for program in ordered) + " MB"
    )
    cells.append(" / ".join(f"{program.compiling:.1f}" for program in ordered) + " s")
    return "| " + " | ".join((name, *cells)) + " |"


def counts(text):
    """What a program does, from the text of its optimised form.

    Returns:
      (operations that run, turns of its outermost loops and of the loops in them, as far
      as XLA knows how many).
    """
    bodies = {}
    for part in re.split(r"\n(?=(?:ENTRY )?%[\w.\-]+ \()", text):
        name = re.match(r"\s*(?:ENTRY )?%([\w.\-]+) \(", part)
        if name:
            bodies["ENTRY" if "ENTRY" in part[:6] else name[1]] = part

    def walk(name):
        body = bodies.get(name, "")
        operations, turns = 0, 0
        for line in body.splitlines()[1:]:
            called = re.search(r" (while|fusion|call|custom-call|dot|sort)\(", line)
            if called is None:
                continue
            if called[1] != "while":
                operations += 1
                continue
            times = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            times = int(times[1]) if times else 1
            inner = walk(re.search(r"body=%?([\w.\-]+)", line)[1])
            operations += times * inner[0]
            turns += times * (1 + inner[1])
        return operations, turns

    return walk("ENTRY")


def count(only):
    """Print what can be told without an accelerator."""
    real = jax.default_backend
    titles = "case|side|operations|turns of loops|temporaries"
    print("| " + titles.replace("|", " | ") + " |\n|" + "---|" * 5)
    for name in COUNTED:
        if only not in name:
            continue
        for side, make in (("optix", optix_function), ("rejax", rejax_function)):
            if side == "rejax" and not importlib.util.find_spec("rejax"):
                continue
            case = CASES[name]._replace(windows=2)
            # the forms for accelerators, compiled for this CPU
            jax.default_backend = lambda: "gpu"
            try:
                lowered = jax.jit(make(case)).lower(jax.random.key(0))
            finally:
                jax.default_backend = real
            program = lowered.compile()
            operations, turns = counts(program.as_text())
            memory = program.memory_analysis().temp_size_in_bytes / 1e6
            print(
                f"| {name} | {side} | {operations} | {turns} | {memory:.1f} MB |",
                flush=True,
            )


def main():
    """Measure, or count where there is nothing to measure on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name contains it")
    parser.add_argument("--seconds", type=float, default=330, help="of all")
    parser.add_argument("--threads", type=int, default=8, help="that compile")
    args = parser.parse_args()
    os.environ["OPTIX_COMPILATION_CACHE"] = "0"
    jax.config.update("jax_enable_compilation_cache", False)
    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, {device}, {os.cpu_count()} CPU cores\n", flush=True)
    if jax.default_backend() == "cpu":
        count(args.only)
    else:
        compare(args.only, args.seconds, args.threads)


if __name__ == "__main__":
    main()
