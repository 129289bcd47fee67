"""PPO from configurations drawn by chance, left alone, steered, and searched for.

    python -m tests.benchmarks.configurations --results FILE [--draws 128]
    python -m tests.benchmarks.configurations --results FILE --search 5 [--smac]

The continuous part of the space of PPO on classic control that ARLBench publishes
(https://arxiv.org/abs/2409.18827), its 1e5 steps and 8 environments. The first call plays
each configuration with each tuner on the same key and prints the quartiles of the score
that `finish` kept, and how far the lower one is above that of `fixed`, with the 95 %
interval (bootstrap over configurations, paired). The second searches so many times:
`optix.search` with 32 trials, of which it trains the best three again three times; the
best of 41 drawn by chance, which are as many runs, nothing of them pruned; SMAC's
optimiser with 41 (needs smac). What each found plays ten seeds that no search has seen.
Each run is appended to the file, and a call plays only those that are missing there.
"""

import argparse
import functools
import itertools
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

import optix
from optix.agents.ppo import TUNED
from optix.param_space import sample
from optix.registry import TUNERS
from optix.tuners.fixed import fixed
from tests.benchmarks.learning import interval
from tests.benchmarks.tuning import read

ENVIRONMENTS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")
SPACE = {
    "learning_rate": ("log_float", 1e-6, 0.1),
    "entropy_coefficient": ("float", 0.0, 0.5),
    "gae_lambda": ("float", 0.8, 0.9999),
    "clip_ratio": ("float", 0.0, 0.5),
    "value_coefficient": ("float", 0.0, 1.0),
    "max_grad_norm": ("float", 0.0, 1.0),
}
SIZES = {
    "num_envs": 8,
    "num_steps": 128,
    "hidden": (64, 64),
    "windows_per_round": 2,
    "evaluation_episodes": 8,
}
STEPS = 100_000
ROUNDS = STEPS // (8 * 128 * 2)
TRIALS, RUNS, UNSEEN = 32, 41, 10  # of a search, of the others, seeds of what is found


@functools.cache
def runner(environment: str, name: str):
    """Return `(seed, configuration) -> score`, compiled once."""
    tuner = fixed() if name == "fixed" else TUNERS[name](TUNED)
    loop = optix.make(
        environment,
        "ppo",
        tuner=tuner,
        max_rounds=100_000,
        dormant_threshold=100_000,
        **SIZES,
    )

    @jax.jit
    def run(key, hyperparams):
        state = loop.init(key, hyperparams)
        state, _ = jax.lax.scan(
            lambda state, _: (loop.step(state)[0], None),
            state,
            None,
            length=ROUNDS // tuner.lanes,
        )
        return loop.finish(state).best.score

    return lambda seed, chosen: float(run(jax.random.key(seed), chosen))


class Results:
    """What has been played, in a file."""

    def __init__(self, path: Path):
        self.path = path
        self.found = read(path)

    def of(self, key: tuple, play) -> dict:
        """Return what `play` makes, or has made."""
        if key not in self.found:
            self.found[key] = play()
            with self.path.open("a") as file:
                file.write(json.dumps({"of": key, **self.found[key]}) + "\n")
        return self.found[key]


def draws(results: Results, environment: str, tuners, count: int):
    """Print the quartiles of what tuners make of configurations drawn by chance."""
    configurations = sample(SPACE, count, np.random.default_rng(0))
    scores = {
        tuner: np.array(
            [
                results.of(
                    ("draw", environment, tuner, seed),
                    lambda: {"score": runner(environment, tuner)(seed, chosen)},  # noqa: B023
                )["score"]
                for seed, chosen in enumerate(configurations)
            ]
        )
        for tuner in tuners
    }
    for tuner, found in scores.items():
        quartiles = " | ".join(
            f"{x:.1f}" for x in np.quantile(found, (0.25, 0.5, 0.75))
        )
        apart = "" if tuner == "fixed" else lifted(scores["fixed"], found)
        print(f"| {environment} | {tuner} | {quartiles} | {apart} |", flush=True)


def lifted(reference, found) -> str:
    """Return how far the lower quartile is lifted, with its interval."""
    chosen = np.random.default_rng(0).integers(len(found), size=(10_000, len(found)))
    apart = np.quantile(found[chosen], 0.25, axis=1)
    apart = apart - np.quantile(reference[chosen], 0.25, axis=1)
    low, high = np.quantile(apart, (0.025, 0.975))
    lift = np.quantile(found, 0.25) - np.quantile(reference, 0.25)
    return f"{lift:+.1f} ({low:+.1f} to {high:+.1f})"


def by_search(environment: str, repetition: int) -> dict:
    """Return what `optix.search` chooses."""
    with tempfile.TemporaryDirectory() as folder:
        found = optix.search(
            environment,
            SPACE,
            TRIALS,
            ROUNDS,
            agent="ppo",
            seed=repetition,
            directory=Path(folder) / "search",
            progress=False,
            **SIZES,
        )
    return {"chosen": dict(found.params), "said": found.score}


def by_chance(environment: str, repetition: int) -> dict:
    """Return the best of configurations drawn by chance."""
    drawn = sample(SPACE, RUNS, np.random.default_rng(100 + repetition))
    play = runner(environment, "fixed")
    scores = [play(1000 * repetition + i, chosen) for i, chosen in enumerate(drawn)]
    return {"chosen": drawn[int(np.argmax(scores))], "said": max(scores)}


def by_smac(environment: str, repetition: int) -> dict:
    """Return what SMAC chooses."""
    import ConfigSpace  # type: ignore
    import smac  # type: ignore

    ends = {name: (low, high) for name, (_, low, high) in SPACE.items()}
    space = ConfigSpace.ConfigurationSpace(seed=repetition)
    for name, (kind, *_) in SPACE.items():
        space.add(ConfigSpace.Float(name, ends[name], log=kind == "log_float"))
    play, seeds = runner(environment, "fixed"), itertools.count(1000 * repetition)

    def cost(config, seed=0):
        del seed  # which stays the same: its luck would be searched for too
        return -play(next(seeds), dict(config))

    with tempfile.TemporaryDirectory() as folder:
        scenario = smac.Scenario(
            space,
            deterministic=True,
            n_trials=RUNS,
            seed=repetition,
            output_directory=Path(folder),
        )
        facade = smac.HyperparameterOptimizationFacade
        optimiser = facade(scenario, cost, logging_level=False)
        chosen = optimiser.optimize()
    return {
        "chosen": dict(chosen),
        "said": -float(optimiser.runhistory.get_cost(chosen)),
    }


def searches(results: Results, environment: str, repetitions: int, ways: dict):
    """Print what searches found, by what it is worth on seeds that none has seen."""
    for name, way in ways.items():
        said, worth = [], []
        for repetition in range(repetitions):
            found = results.of(
                ("found", environment, name, repetition),
                lambda: way(environment, repetition),  # noqa: B023
            )
            play = runner(environment, "fixed")
            unseen = [
                results.of(
                    ("unseen", environment, name, repetition, seed),
                    lambda: {"score": play(10_000 + seed, found["chosen"])},  # noqa: B023
                )["score"]
                for seed in range(UNSEEN)
            ]
            said.append(found["said"])
            worth.append(np.mean(unseen))
        half = interval(np.array(worth))
        print(
            f"| {environment} | {name} | {np.mean(said):.1f} | {np.mean(worth):.1f} ± "
            f"{half:.1f} | {min(worth):.1f} |",
            flush=True,
        )


def main():
    """Play what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--env", default=",".join(ENVIRONMENTS))
    parser.add_argument("--draws", type=int, default=128)
    parser.add_argument("--tuners", default="fixed,trust,adaptive")
    parser.add_argument("--search", type=int, default=0, metavar="REPETITIONS")
    parser.add_argument("--smac", action="store_true")
    args = parser.parse_args()
    results, environments = Results(args.results), args.env.split(",")
    if args.search:
        ways = {"optix.search": by_search, "chance": by_chance}
        ways |= {"SMAC": by_smac} if args.smac else {}
        print("| environment | found by | said | on unseen seeds | worst |")
        print("|---|---|---|---|---|")
        for environment in environments:
            searches(results, environment, args.search, ways)
    else:
        print("| environment | tuner | lower | median | upper | lower, less fixed |")
        print("|---|---|---|---|---|---|")
        for environment in environments:
            draws(results, environment, args.tuners.split(","), args.draws)


if __name__ == "__main__":
    main()
