"""Trials in slots beside the same ones one after another, and beside a fresh make each.

python -m tests.benchmarks.search [--trials 20] [--rounds 50] [--slots 4] [--fresh 2]

All play the same configurations of PPO on CartPole-v1, drawn by chance, each in a process
of its own without a cache of compiled programs; seconds and CPU seconds hold the compiler,
Python's imports left out. What is measured: `slots`, `optix.search` with a journal on disk
and nothing pruned or confirmed; `one program`, a jitted `loop.run` called for each;
`fresh`, `optix.make` and a compile for each of a few, times as many. Then the same search
with its pruner: the share of rounds that it saves, and what the best is worth; and the
seconds of coordination that a trial of ten reports costs where two processes share a
journal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

SPACE = {
    "learning_rate": ("log_float", 1e-5, 1e-1),
    "clip_ratio": ("float", 0.05, 0.5),
    "entropy_coefficient": ("log_float", 1e-4, 0.3),
}


def settings(count):
    """Configurations, the same in all processes."""
    import numpy as np

    from optix.param_space import sample

    return sample(SPACE, count, np.random.default_rng(0))


def slots(trials, rounds, side_by_side, pruner="none", **options):
    """Play the trials as `optix.search` does."""
    import optix

    with tempfile.TemporaryDirectory() as folder:
        result = optix.search(
            "CartPole-v1",
            SPACE,
            trials,
            rounds,
            side_by_side,
            sampler="random",
            pruner=pruner,
            confirm=0,
            directory=os.path.join(folder, "search"),
            progress=False,
            **options,
        )
    return {"best": result.score, "saved": result.saved}


def one_program(trials, rounds):
    """Play as many trials one after another in one program."""
    import jax
    import jax.numpy as jnp

    import optix

    loop = optix.make("CartPole-v1", agent="ppo", max_rounds=rounds)
    run = jax.jit(lambda key, given: loop.run(loop.init(key, given)).best.score)
    scores = []
    for number, values in enumerate(settings(trials)):
        given = {name: jnp.float32(value) for name, value in values.items()}
        scores.append(float(run(jax.random.key(number), given)))
    return {"best": max(scores)}


def fresh(trials, rounds):
    """Make and compile a loop for each trial."""
    import jax

    import optix

    scores = []
    for number, values in enumerate(settings(trials)):
        loop = optix.make("CartPole-v1", agent="ppo", max_rounds=rounds, **values)
        run = jax.jit(lambda key, loop=loop: loop.run(loop.init(key)).best.score)
        scores.append(float(run(jax.random.key(number))))
    return {"best": max(scores)}


def coordinate(folder, trials, reports=10):
    """Take and tell trials that cost nothing; seconds for each."""
    from pathlib import Path

    from optix.trials import plan as plans
    from optix.trials.leases import Lease
    from optix.trials.samplers import quiet
    from optix.trials.storages import storage_at
    from optix.trials.study import SEARCH, open_study

    about = dict(agent="ppo", rounds=50, report_every=5, seeds=1, seed=0, confirm=0)
    about |= dict(repeats=1, sampler="tpe", pruner="median", trials=trials)
    searched = plans.plan("CartPole-v1", SPACE, {}, **about)
    with quiet():
        store = storage_at(Path(folder), None)
        study = open_study(searched, store, None, SEARCH, "token", SEARCH, os.getpid())
        with Lease(study.inner) as lease:
            began, count = time.perf_counter(), 0
            while (trial := study.take(lease)) is not None:
                for step in range(reports):
                    study.report(trial, float(-trial.params["clip_ratio"]), 5 * step)
                    study.prunes(trial)
                study.tell(trial, float(-trial.params["clip_ratio"]), {})
                count += 1
            seconds = time.perf_counter() - began
    return {"trials": count, "a_trial": seconds / max(count, 1)}


def fill(folder, trials):
    """Make the study that two processes share."""
    from pathlib import Path

    from optix.trials import plan as plans
    from optix.trials.samplers import quiet
    from optix.trials.storages import storage_at
    from optix.trials.study import SEARCH, open_study

    about = dict(agent="ppo", rounds=50, report_every=5, seeds=1, seed=0, confirm=0)
    about |= dict(repeats=1, sampler="tpe", pruner="median", trials=trials)
    searched = plans.plan("CartPole-v1", SPACE, {}, **about)
    with quiet():
        store = storage_at(Path(folder), None)
        open_study(searched, store, None, SEARCH, "token", SEARCH).fill(trials)
    return {}


JOBS = {f.__name__: f for f in (slots, one_program, fresh, coordinate, fill)}


def begun(name, *arguments):
    """Start a job in a process of its own, without a cache of programs."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "JAX_COMPILATION_CACHE_DIR"
    }
    command = [sys.executable, "-m", "tests.benchmarks.search", "--job", name]
    command += [json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def told(process):
    """Return what a job has said."""
    out, _ = process.communicate()
    return json.loads(out.strip().splitlines()[-1])


def job(name, arguments):
    """Do a job here, timed."""
    import optix  # noqa: F401

    began, used = time.perf_counter(), time.process_time()
    said = JOBS[name](*json.loads(arguments))
    said |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    print(json.dumps(said))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--fresh", type=int, default=2)
    parser.add_argument("--job", nargs=2)
    given = parser.parse_args()
    if given.job:
        job(*given.job)
        return
    sizes = (given.trials, given.rounds)
    turn = told(begun("one_program", *sizes))
    side = told(begun("slots", *sizes, given.slots))
    anew = told(begun("fresh", given.fresh, given.rounds))
    anew = {n: anew[n] * given.trials / given.fresh for n in ("seconds", "cpu")}
    pruned = told(begun("slots", *sizes, given.slots, "median"))
    print(f"{given.trials} trials of {given.rounds} rounds, seconds and CPU seconds")
    for name, row in (
        *(("one program", turn), ("slots", side)),
        *((f"fresh ({given.fresh} measured)", anew), ("slots, pruned", pruned)),
    ):
        shares = [f"{row[n] / turn[n]:.2f}" for n in ("seconds", "cpu")]
        print(
            f"{name}: {row['seconds']:.1f} s, {row['cpu']:.1f} s; of one program {shares}"
        )
    print(f"pruning saves {pruned['saved']:.0%} of the rounds")
    print(f"best: all rounds {side['best']:.1f}, pruned {pruned['best']:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        told(begun("fill", folder, 40))
        both = [told(p) for p in [begun("coordinate", folder, 40) for _ in range(2)]]
    for row in both:
        print(f"two on a journal: {row['trials']} trials, {row['a_trial']:.3f} s each")


if __name__ == "__main__":
    main()
