"""What do tuners do for PPO, from good and from bad starts, at equal training steps?

    python -m tests.benchmarks.tuning --seeds 16 --rows fixed,trust --env CartPole-v1

Every row plays the same seeds from the same starts; lanes share the training steps. Each
run is appended to a file (`--results`), and a call runs only those that are missing there;
then the table of all that there is is printed: the score of what `finish` kept, and the
mean score over the run, each with its 95 % interval and, paired by seed, the difference
from `fixed`. The rows `rate 1e-5` to `rate 1e-1` are constant rates, of which the best is
the oracle: with them, the share of the gap between `fixed` and the oracle that a row wins
back. `--seeds 0` runs nothing. Everything takes a night on two cores.

`--env "Pendulum-v1 by SAC"` tunes SAC, whose lanes learn from one replay.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import optix
from optix.registry import ALGORITHMS, TUNERS
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import Tuner
from tests.benchmarks.learning import interval

ENVIRONMENTS = {  # training steps
    "CartPole-v1": 250_000,
    "Acrobot-v1": 250_000,
    "Pendulum-v1": 500_000,
    "Breakout-MinAtar": 500_000,
    (SAC := "Pendulum-v1 by SAC"): 32 * 1024,
}
DEFAULT = {"learning_rate": 5e-4, "clip_ratio": 0.2, "entropy_coefficient": 0.01}
STARTS = {
    "default": {},
    "rate/30": {"learning_rate": 5e-4 / 30},
    "rate*100": {"learning_rate": 5e-2},
    "clip/8, entropy*30": {"clip_ratio": 0.025, "entropy_coefficient": 0.3},
}
RATES = [f"rate {rate:.1e}" for rate in np.logspace(-5, -1, 9)]
LANES = 4


def best_of(lanes: int) -> Tuner:
    """Seeds side by side under one budget; the best of them is what is handed over."""

    def tell(state, signals, key):
        del key
        leader = jnp.argmax(signals.score)
        order = jnp.argsort(jnp.where(jnp.arange(lanes) == leader, -1, 0))
        return state, order.astype(jnp.int32)

    return Tuner(
        lanes,
        {},
        init=lambda base, key: base,
        ask=lambda state: {
            name: jnp.repeat(x[None], lanes) for name, x in state.items()
        },
        tell=tell,
        centre=lambda state: state,
        judged=1,
        common_random_numbers=False,
    )


ROWS = {  # {name: bounds -> tuner}
    "fixed": lambda bounds: fixed(),
    f"best of {LANES} seeds": lambda bounds: best_of(LANES),
    "two forks, centre frozen": lambda bounds: spsa(bounds, step_size=1e-9),
    **{name: TUNERS[name] for name in TUNERS if name != "fixed"},
    **dict.fromkeys(RATES, lambda bounds: fixed()),
}


def start_of(row: str, start: str) -> str:
    """Return the start that a row is played from: a constant rate forgets another."""
    return "default" if row in RATES and "rate" in start else start


def runner(environment: str, row: str):
    """Return `(seed, start) -> result`, compiled once."""
    agent = "sac" if environment == SAC else "ppo"
    tuner = ROWS[row](ALGORITHMS[agent].tuned)
    free = {"max_rounds": 100_000, "dormant_threshold": 100_000, "tuner": tuner}
    if environment == SAC:
        loop = optix.make("Pendulum-v1", agent, hidden=(64, 64), **free)
        window, default = 1024, {}
    else:
        loop = optix.make(environment, agent, **free)
        window, default = 64 * 128, DEFAULT
    rounds = ENVIRONMENTS[environment] // (window * tuner.lanes)

    def step(state, _):
        state, report = loop.step(state)
        return state, (report.score, report.centre["learning_rate"])

    @jax.jit
    def run(key, hyperparams):
        state = loop.init(key, hyperparams)
        state, (curve, rates) = jax.lax.scan(step, state, None, length=rounds)
        return loop.finish(state).best.score, curve, rates

    keys = jax.random.split(jax.random.key(7), 1024)

    def measure(seed, start):
        given = default | STARTS[start]
        if row in RATES:
            given |= {"learning_rate": float(row.removeprefix("rate "))}
        score, curve, rates = jax.device_get(run(keys[seed], given))
        curve = curve[np.isfinite(curve)]
        return {
            "score": float(score),
            "mean": float(curve.mean()),
            "last": float(curve[-max(1, rounds // 10) :].mean()),
            "rates": [float(f"{rate:.3g}") for rate in rates[:: max(1, rounds // 8)]],
        }

    return measure


def read(path: Path) -> dict:
    """Return {(environment, row, start, seed): result} of a file of results."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # a torn line of a run that was killed
            continue
        found[tuple(record.pop("of"))] = record
    return found


def table(results: dict) -> list[str]:
    """Return the lines of the table of all results."""
    titles = (
        "environment|start|row|seeds|score|less fixed|mean over run|less fixed|regained"
    )
    lines = ["| " + titles.replace("|", " | ") + " |", "|" + "---|" * 9]
    for environment in ENVIRONMENTS:
        for start in STARTS:
            of_rows = {row: chosen(results, environment, row, start) for row in ROWS}
            reference = of_rows["fixed"]
            rates = [of_rows[row] for row in RATES if of_rows[row]]
            oracle = max(
                (np.mean([r["mean"] for r in x.values()]) for x in rates), default=None
            )
            for row, found in of_rows.items():
                if found:
                    cells = [environment, start, row, str(len(found))]
                    cells += columns(found, reference, oracle)
                    lines.append("| " + " | ".join(cells) + " |")
    return lines


def chosen(results: dict, environment: str, row: str, start: str) -> dict:
    """Return {seed: result} of one row."""
    wanted = environment, row, start_of(row, start)
    return {of[3]: result for of, result in results.items() if of[:3] == wanted}


def columns(found: dict, reference: dict, oracle: float | None) -> list[str]:
    """Return the cells of a row's scores, of their differences, and of what it regains."""
    cells, both = [], sorted(found.keys() & reference.keys())
    for name in ("score", "mean"):
        values = np.array([result[name] for result in found.values()])
        cells.append(f"{values.mean():.1f} ± {interval(values):.1f}")
        apart = np.array([found[i][name] - reference[i][name] for i in both])
        same = found is reference or not both
        cells.append("" if same else f"{apart.mean():+.1f} ± {interval(apart):.1f}")
    worst = np.mean([r["mean"] for r in reference.values()]) if reference else None
    if oracle is None or worst is None or found is reference or oracle <= worst:
        return [*cells, ""]
    mean = np.mean([result["mean"] for result in found.values()])
    return [*cells, f"{(mean - worst) / (oracle - worst):.0%}"]


def main():
    """Run what is missing of what is asked for, and print the table of all there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--env", default=",".join(ENVIRONMENTS))
    parser.add_argument("--rows", default=";".join(ROWS), help="with ; or , between")
    parser.add_argument("--start", default=";".join(STARTS), help="with ; between")
    parser.add_argument("--results", type=Path, default=Path("tuning_results.jsonl"))
    args = parser.parse_args()
    rows = args.rows.split(";") if ";" in args.rows else args.rows.split(",")
    environments, starts = args.env.split(","), args.start.split(";")
    for asked, known in ((rows, ROWS), (environments, ENVIRONMENTS), (starts, STARTS)):
        optix.checks.known_names("name", asked, known)
    results = read(args.results)
    for environment in environments:
        for row in rows:
            measure = None
            for start in starts:
                if environment == SAC and "clip_ratio" in STARTS[start]:
                    continue
                for seed in range(args.seeds):
                    of = (environment, row, start_of(row, start), seed)
                    if of in results:
                        continue
                    measure = measure or runner(environment, row)
                    results[of] = measure(seed, start)
                    with args.results.open("a") as file:
                        file.write(json.dumps({"of": of, **results[of]}) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
