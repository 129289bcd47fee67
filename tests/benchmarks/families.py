"""PPO on families' environments beside PPOs of their own, in turn and at equal settings.

    python -m tests.benchmarks.families --craftax FOLDER --rejax PYTHON --brax PYTHON

FOLDER is a checkout of MichaelTMatthews/Craftax_Baselines, run by this interpreter (it
imports `wandb`); the interpreters have `rejax==0.1.3` with `navix`, and `brax`. Rows whose
peer is not given are left out; this interpreter needs the extra of each row. Steps alone
are timed, without evaluations; the ratio is the median of those of neighbouring runs.

`--scores` prints instead what optix by defaults and the peers at settings of their own
come to at equal steps, `--repeats` seeds of each: the mean return of 128 episodes (of
Craftax 64) by the last policy, with chance in its actions.
"""

import argparse
import json
import statistics
import sys
from typing import NamedTuple

from tests.benchmarks.settings import PPO
from tests.benchmarks.speed import Worker

CRAFTAX, EMPTY = "craftax:Craftax-Classic-Symbolic-v1", "navix:Navix-Empty-5x5-v0"
DOOR, PENDULUM = "navix:Navix-DoorKey-5x5-v0", "brax:inverted_pendulum"


class Case(NamedTuple):
    """A setting: the option that names its peer, windows of a run, and what differs."""

    peer: str
    windows: int
    changed: dict


def _of(environment, envs, steps, hidden, **more):
    sizes = {"num_envs": envs, "num_steps": steps, "hidden": hidden}
    return {"environment": environment, **sizes, **more}


CASES = {
    "Craftax-Classic 64 x 64, three layers of 64": Case(
        "craftax", 4, _of(CRAFTAX, 64, 64, (64,) * 3, num_minibatches=8)
    ),
    "Craftax-Classic 256 x 16, three layers of 64": Case(
        "craftax", 4, _of(CRAFTAX, 256, 16, (64,) * 3, num_minibatches=8)
    ),
    "Craftax-Classic 64 x 64, three layers of 512": Case(
        "craftax", 1, _of(CRAFTAX, 64, 64, (512,) * 3, num_minibatches=8)
    ),
    "Navix-Empty-5x5 16 x 128": Case(
        "rejax", 24, _of(EMPTY, 16, 128, (64, 64), flat=True)
    ),
    "Navix-DoorKey-5x5 64 x 64": Case(
        "rejax", 12, _of(DOOR, 64, 64, (64, 64), flat=True)
    ),
    "brax inverted_pendulum 64 x 32": Case(
        "brax", 4, _of(PENDULUM, 64, 32, (64, 64), normalize_observations=True)
    ),
}

WINDOW = 8192  # steps of a round of optix
# what peers have published, where it is not what `PPO` of the settings says: the defaults
# of Craftax_Baselines, rejax's configs/navix/doorkey_8x8.yaml, Brax's notebook of training
SCORES = {
    "Craftax-Classic": Case(
        "craftax",
        64,
        _of(CRAFTAX, 1024, 64, (512,) * 3, num_minibatches=8, learning_rate=2e-4)
        | {"gae_lambda": 0.8, "max_grad_norm": 1.0, "scored_episodes": 64},
    ),
    "Craftax-Classic, the peer with 64 x 64 and three layers of 64": Case(
        "craftax",
        24,
        _of(CRAFTAX, 64, 64, (64,) * 3, num_minibatches=8, learning_rate=2e-4)
        | {"gae_lambda": 0.8, "max_grad_norm": 1.0, "scored_episodes": 64},
    ),
    "Navix-DoorKey-5x5": Case(
        "rejax",
        40,
        _of(DOOR, 128, 32, (64, 64), num_minibatches=32, num_epochs=2)
        | {"learning_rate": 3e-4, "discount": 0.95, "gae_lambda": 0.9, "flat": True}
        | {"max_grad_norm": 10.0, "activation": "swish", "scored_episodes": 128}
        | {"normalize_observations": True},
    ),
    "brax inverted_pendulum": Case(
        "brax",
        120,
        _of(PENDULUM, 2048, 5, (32,) * 4, num_minibatches=32, batch_size=1024)
        | {"value_hidden": (256,) * 5, "learning_rate": 3e-4, "discount": 0.97}
        | {"clip_ratio": 0.3, "max_grad_norm": None, "reward_scale": 10.0}
        | {"scored_episodes": 128},
    ),
}


def score(name, peer, repeats):
    """Print one row of scores; the sides run one after the other."""
    case = SCORES[name]
    settings = PPO | case.changed
    steps = case.windows * WINDOW
    window = settings["num_envs"] * settings["num_steps"]
    if case.peer == "brax":
        window = settings["num_steps"] * settings["batch_size"]
        window *= settings["num_minibatches"]
    assert steps % window == 0
    who, python = (
        (peer, sys.executable) if case.peer == "craftax" else (case.peer, peer)
    )
    found = []
    for side, interpreter, windows in (
        ("defaults", sys.executable, case.windows),
        (who, python, steps // window),
    ):
        told = 1, windows, json.dumps(settings)
        worker = Worker(interpreter, "worker_families", side, *told)
        found.append([worker.run()["score"] for _ in range(repeats)])
        worker.close()
    cells = [name, f"{steps:,}"]
    cells += [", ".join(f"{value:.4g}" for value in scores) for scores in found]
    print(f"| {' | '.join(cells)} ({case.peer}) |", flush=True)


def compare(name, peer, repeats):
    """Print one row."""
    case = CASES[name]
    settings = PPO | {"normalize_rewards": False} | case.changed
    del settings["evaluation_episodes"], settings["deterministic_evaluation"]
    told = 1, case.windows, json.dumps(settings)
    who, python = (
        (peer, sys.executable) if case.peer == "craftax" else (case.peer, peer)
    )
    ours = Worker(sys.executable, "worker_families", "optix", *told)
    theirs = Worker(python, "worker_families", who, *told)
    pairs = []
    for number in range(repeats + 1):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        found = {worker: worker.run()["steps_per_second"] for worker in order}
        pairs.append((found[ours], found[theirs]))
    ours.close()
    theirs.close()
    own, other = zip(*pairs[1:], strict=True)  # the first finds everything cold
    ratio = statistics.median(a / b for a, b in pairs[1:])
    rates = [f"{statistics.median(side):,.0f}" for side in (own, other)]
    print(f"| {name} | {' | '.join(rates)} ({case.peer}) | {ratio:.2f} |", flush=True)


def main():
    """Print the rows whose peers are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--craftax", help="folder of Craftax_Baselines")
    parser.add_argument("--rejax", help="interpreter with rejax and navix")
    parser.add_argument("--brax", help="interpreter with brax")
    parser.add_argument("--only", default="", help="settings whose name contains it")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs")
    parser.add_argument("--scores", action="store_true")
    args = parser.parse_args()
    if args.scores:
        print("| setting | steps | optix | peer |\n|" + "---|" * 4)
    else:
        print("| setting | optix steps/s | peer's steps/s | ratio |\n|" + "---|" * 4)
    cases, measure = (SCORES, score) if args.scores else (CASES, compare)
    for name, case in cases.items():
        peer = getattr(args, case.peer)
        if peer and args.only in name:
            measure(name, peer, args.repeats)


if __name__ == "__main__":
    main()
