"""Policies together beside the best alone: `python -m tests.benchmarks.ensemble`.

Groups of four independent runs with tuner `trust`. The ensemble is of the four best
policies; the average is of the five last best policies of the group's first run, kept
where it plays no worse on 32 scores of its own. All play the same unseen episodes, 16 of
each of 16 keys; of a group the best member is the one that its run scored highest. The
gain is the mean over groups of the difference to the best member (of the average: to the
run's own best policy), with its 95 % confidence interval; below are groups in which the
difference is below zero by more than the interval of that group's own episodes.
"""

import argparse
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import t as student

import optix
from optix.learners.evaluate import evaluator
from optix.population.average import average, keep_if_not_worse
from optix.population.ensemble import ensemble, join, stack

MEMBERS, KEPT, KEYS = 4, 5, 16
BUDGETS = {"CartPole-v1": 250_000, "Pendulum-v1": 500_000}


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--only", choices=BUDGETS)
    arguments = parser.parse_args()
    print("| environment | what | alone | together | gain | below | kept |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for environment, steps in BUDGETS.items():
        if arguments.only in (None, environment):
            measure(environment, steps, arguments.groups)


def measure(environment, steps, groups):
    """Print two rows of the table."""
    loop = optix.make(environment, "ppo", tuner="trust", max_env_steps=steps)
    agent, env = loop.learner.agent, loop.learner.env
    init, step = jax.jit(loop.init), jax.jit(loop.step)
    four = ensemble(agent, env.action_space, MEMBERS)
    of_one, of_four = (
        jax.jit(jax.vmap(evaluator(player, env), (None, None, 0)))
        for player in (agent, four)
    )
    meet = jax.jit(
        lambda best, mean, hyperparams, key: keep_if_not_worse(
            loop.score, best, mean, hyperparams, key, scores=32
        )
    )
    rows = {"ensemble of 4": [], "average of 5": []}
    kept = 0
    for group in range(groups):
        keys = jax.random.split(jax.random.key(1000 + group), MEMBERS + 2)
        members, trails = zip(
            *(run(init, step, key) for key in keys[:MEMBERS]), strict=True
        )
        unseen = jax.random.split(keys[-1], KEYS)
        leader = max(members, key=lambda best: float(best.choice_score))
        alone = of_one(leader.policy, leader.hyperparams, unseen)
        policy = join(agent, stack([best.policy for best in members]))
        together = of_four(policy, leader.hyperparams, unseen)
        rows["ensemble of 4"].append((alone, together))

        own = members[0]
        mean = average(agent, stack([best.policy for best in trails[0]]))
        better, said = meet(own.policy, mean, own.hyperparams, keys[-2])
        kept += bool(said.kept)
        both = [
            of_one(policy, own.hyperparams, unseen) for policy in (own.policy, better)
        ]
        rows["average of 5"].append(tuple(both))
    for what, pairs in rows.items():
        told = f"{kept} of {groups}" if what.startswith("average") else ""
        print(row(environment, what, np.array(pairs), told), flush=True)


def run(init, step, key):
    """Return the best policy of a run, and its last best ones."""
    state, trail = init(key), deque(maxlen=KEPT)
    while bool(state.active):
        state, report = step(state)
        if int(report.events) & optix.Event.IMPROVEMENT:
            trail.append(jax.tree.map(jnp.copy, state.best))
    return state.best, trail


def row(environment, what, pairs, kept):
    """Return a row from scores [groups, 2, KEYS]."""
    alone, together = pairs.mean((0, 2))
    gains = pairs[:, 1] - pairs[:, 0]
    half = interval(gains.mean(1)) if len(gains) > 1 else np.nan
    below = sum(gain.mean() < -interval(gain) for gain in gains)
    return (
        f"| {environment} | {what} | {alone:.1f} | {together:.1f} | "
        f"{gains.mean():.2f} ± {half:.2f} | {below} of {len(gains)} | {kept} |"
    )


def interval(values):
    """Return half of the 95 % confidence interval of a mean."""
    count = len(values)
    return student.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5


if __name__ == "__main__":
    main()
