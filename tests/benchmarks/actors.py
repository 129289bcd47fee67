"""What actors play in a second through the whole loop, what faults cost, what lag does.

    python -m tests.benchmarks.actors [speed] [waiting] [faults] [lag]

speed: CartPole by two actors on each engine, and by none (`on_policy` over the same
environments), in turn, three times. waiting: an environment that sleeps 2 ms a step by 1,
2, 4 and 8 actors of one environment. faults: seconds until an actor of Ray that was
killed is noticed and until its successor has played. lag: the last returns of
tests/distributed/acting/test_lag.py, whose actors' policy is eight windows old, with
V-trace and with ratios of one in its place.
"""

import os
import signal
import sys
import time
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import optix
from optix.agents import impala
from optix.distributed.cluster import joined_ray
from tests.distributed.acting.playing import Played, Telling
from tests.distributed.acting.test_lag import final_return, uncorrected

SIZES = {"num_envs": 32, "num_steps": 64, "num_minibatches": 4, "final_scores": 1}
SECONDS = 8.0


class Sleeping(gymnasium.Env):
    """A simulator that lets go of Python's lock for two milliseconds a step."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        time.sleep(0.002)
        self.count += 1
        return np.zeros(4, np.float32), 1.0, self.count == 50, False, {}


def measured(loop, seconds=SECONDS):
    """Return steps per second of rounds, once compiled, and the mean lag."""
    step, state = jax.jit(loop.step), loop.init(jax.random.key(0))
    state, _ = jax.block_until_ready(step(state))
    began, before, lags = time.monotonic(), int(state.env_steps), []
    while time.monotonic() - began < seconds:
        state, report = jax.block_until_ready(step(state))
        loop.learner.host.keep(state)
        lags.append(float(report.metrics.get("policy_lag", 0)))
    speed = (int(state.env_steps) - before) / (time.monotonic() - began)
    if callable(rest := getattr(loop.learner.host, "rest", None)):
        rest()
    return speed, np.mean(lags)


def speed():
    rows = {None: [], "inline": [], "threads": [], "ray": []}
    options = {**SIZES, "windows_per_round": 16, "evaluation_episodes": 2}
    for _ in range(3):
        for engine, found in rows.items():
            about = {} if engine is None else {"actors": 2, "engine": engine}
            env = "gymnasium:CartPole-v1"
            found.append(measured(optix.make(env, "impala", **options, **about)))
    print("| engine | steps/s, three times | windows behind |\n|---|---|---|")
    for engine, found in rows.items():
        speeds = ", ".join(f"{value:,.0f}" for value, _ in found)
        print(
            f"| {engine or 'no actors'} | {speeds} | {found[-1][1]:.1f} |", flush=True
        )


def waiting():
    counts = (1, 2, 4, 8)
    print("| engine |", *(f"{n} actors |" for n in counts), "\n|---|", "---|" * 4)
    for engine in ("inline", "threads", "ray"):
        found = []
        for count in counts:
            options = {"num_steps": 64, "num_envs": count, "evaluation_episodes": count}
            options |= {"num_minibatches": 1, "windows_per_round": 4, "final_scores": 1}
            options |= {"actors": count, "engine": engine}
            loop = optix.make(
                Sleeping, "impala", score=lambda *_: jnp.float32(0), **options
            )
            found.append(measured(loop, 5.0)[0])
        print(f"| {engine} |", *(f"{x:,.0f} ({x / found[0]:.1f}) |" for x in found))


def faults():
    with Played(Telling, "ray", max_restarts=20) as played:
        for _ in range(3):
            victims = played.processes()
            victim = min(victims)
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            before = played.crew.told()["restarts"].sum()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                while played.crew.told()["restarts"].sum() == before:
                    played.window()
            noticed = time.monotonic() - began
            while not played.processes() - victims:
                pass
            back = time.monotonic() - began
            print(
                f"noticed after {noticed:.2f} s, played after {back:.1f} s", flush=True
            )


def lag():
    print("| seed | V-trace | ratios of one |\n|---|---|---|")
    for seed in range(1, 5):
        found = [final_return(rule, seed) for rule in (impala.vtrace, uncorrected)]
        print(f"| {seed} |", *(f"{x:.3f} |" for x in found), flush=True)


if __name__ == "__main__":
    with joined_ray("the benchmark", 8):
        for name in sys.argv[1:] or ("speed", "waiting", "faults", "lag"):
            print(f"\n{name}, load {os.getloadavg()[0]:.1f}\n")
            globals()[name]()
