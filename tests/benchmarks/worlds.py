"""Families of environments: `python -m tests.benchmarks.worlds` (needs `worlds`).

`--resets` prints what a step of Craftax-Classic costs by how ended episodes begin again,
beside one that never begins again; each in turn, `--repeats` times, so that other work on
the machine meets all of them. `--cost` prints what the first states of an evaluation cost
beside its episodes. Without either, one environment of each family is learned
by defaults for `--seeds` seeds; `--only NAME` takes those whose name contains it.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from optix.envs.device import device
from optix.envs.resets import RESETS, with_resets
from tests.benchmarks.learning import Case, runner

CRAFTAX = "craftax:Craftax-Classic-Symbolic-v1"
_WARM = 500  # steps before resets are timed
SNAKE = {"env_params": {"num_rows": 6, "num_cols": 6, "time_limit": 400}}
CASES = [  # by defaults; the scores are judged by those who know the environments
    Case("ppo", "navix:Navix-Empty-5x5-v0", 0.0, 200_000),
    Case("ppo", "navix:Navix-DoorKey-5x5-v0", 0.0, 330_000),
    Case("ppo", "xminigrid:MiniGrid-Empty-5x5", 0.0, 200_000),
    Case("ppo", "jumanji:Snake-v1", 0.0, 330_000, SNAKE),
    Case("ppo", "jumanji:Snake-v1", 0.0, 200_000),
    Case("ppo", "jumanji:Game2048-v1", 0.0, 2_000_000),
    Case("ppo", CRAFTAX, 0.0, 200_000),
    Case("ppo", "brax:inverted_pendulum", 0.0, 200_000),
    Case("ppo", "brax:inverted_double_pendulum", 0.0, 1_000_000),
    Case("ppo", "playground:CartpoleBalance", 0.0, 200_000),
]


def stepper(env, batch, steps):
    """Return a compiled program `(state, key) -> state` of random steps."""

    def one(state, key):
        act_key, step_key = jax.random.split(key)
        action = jax.random.randint(act_key, (batch,), 0, env.action_space.n)
        return env.step(step_key, state, action)[0], None

    def several(state, key):
        return jax.lax.scan(one, state, jax.random.split(key, steps))[0]

    key = jax.random.key(0)
    state, _ = jax.eval_shape(lambda key: env.reset(key, batch), key)
    return jax.jit(several).lower(state, key).compile()


def alternated(programs, repeats):
    """Return {name: median seconds} of programs that take a key, run in turn."""
    seconds = {name: [] for name in programs}
    for number in range(repeats + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program(jax.random.key(number)))
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


def resets(batch, steps, repeats):
    """Print the steps a second of each kind of reset."""
    env = device(CRAFTAX)
    kinds = {kind: with_resets(env, kind) for kind in RESETS}
    kinds["none"] = env._replace(step=env.play)
    kinds = {kind: (made, stepper(made, batch, steps)) for kind, made in kinds.items()}
    programs = {}
    for kind, (made, program) in kinds.items():
        # from where episodes end as often as they do in the long run
        quick = kind if kind == "cached" else "shared"
        state, _ = jax.jit(made.reset, static_argnums=1)(jax.random.key(0), batch)
        for number in range(-(-_WARM // steps)):
            state = kinds[quick][1](state, jax.random.key(number))
        programs[kind] = lambda key, run=program, state=state: run(state, key)
    seconds = alternated(programs, repeats)
    print(f"| resets, {batch} environments | steps/s | of none |\n|---|---|---|")
    for kind, each in seconds.items():
        rate, ratio = batch * steps / each, seconds["none"] / each
        print(f"| {kind} | {rate:.0f} | {ratio:.2f} |", flush=True)


def cost(episodes, repeats):
    """Print what the first states of an evaluation cost beside its episodes."""
    from optix.learners.evaluate import episode_returns
    from optix.make import make_agent

    env = device(CRAFTAX)
    agent = make_agent(env, "ppo")
    policy = agent.init(jax.random.key(0))
    returns = episode_returns(agent, env, episodes=episodes, deterministic=False)
    programs = {
        "first states": jax.jit(lambda key: env.reset(key, episodes)),
        "evaluation": jax.jit(lambda key: returns(policy, agent.hyperparams, key)),
    }
    for name, each in alternated(programs, repeats).items():
        print(f"{name} of {episodes} episodes: {each:.3f} s", flush=True)


def learning(only, seeds):
    """Print what one environment of each family comes to by defaults."""
    titles = "environment|options|agent|steps|seconds|score after one round|score"
    print("| " + titles.replace("|", " | ") + " |")
    print("|" + "---|" * len(titles.split("|")), flush=True)
    for case in CASES:
        if only not in case.name:
            continue
        measure = runner(case)
        results = [measure(seed) for seed in range(seeds)]
        first = [result["curve"][0] for result in results]
        score = [result["score"] for result in results]
        took = np.mean([(x["env_steps"], x["seconds"]) for x in results], 0)
        options = ", ".join(f"{k}={v}" for k, v in case.options.items())
        cells = [case.environment, options, case.agent]
        cells += [f"{value:.0f}" for value in took]
        cells += [", ".join(f"{x:.4g}" for x in values) for values in (first, score)]
        print(f"| {' | '.join(cells)} |", flush=True)


def main():
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resets", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    if args.resets:
        resets(args.envs, args.steps, args.repeats)
    if args.cost:
        cost(16, args.repeats)
    if not (args.resets or args.cost):
        learning(args.only, args.seeds)


if __name__ == "__main__":
    main()
