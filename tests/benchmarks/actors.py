"""What actors play in a second through the whole loop, what faults cost, what lag does.

    python -m tests.benchmarks.actors [speed] [waiting] [faults] [lag]

speed: CartPole by two actors on each engine, and by none (`on_policy` over the same
environments), in turn, three times; no scores in between. waiting: an environment that
sleeps 2 ms a step by 1, 2, 4 and 8 actors of one environment. faults: seconds until an
actor of Ray that was killed is noticed and until its successor has played. lag: the last
returns of tests/distributed/acting/test_lag.py, whose actors' policy is eight windows
old, with V-trace and with ratios of one in its place.
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


class Running:
    """A loop that is compiled, and its actors, measured a few seconds at a time."""

    def __init__(self, env, **options):
        self.loop = optix.make(env, "impala", final_scores=1, **options)
        self.step = jax.jit(self.loop.step)
        self.state, _ = self.step(self.loop.init(jax.random.key(0)))
        jax.block_until_ready(self.state.round)

    def measured(self, seconds):
        """Return steps per second and how many windows old the policy was."""
        began, before, lags = time.monotonic(), int(self.state.env_steps), []
        while time.monotonic() - began < seconds:
            self.state, report = self.step(self.state)
            lags.append(float(report.metrics.get("policy_lag", 0)))
        steps = int(self.state.env_steps) - before
        return steps / (time.monotonic() - began), np.mean(lags)

    def end(self):
        if callable(rest := getattr(self.loop.learner.host, "rest", None)):
            rest()


def speed():
    sizes = {"num_envs": 32, "num_steps": 64, "num_minibatches": 4}
    sizes |= {"windows_per_round": 8, "score": lambda *_: jnp.float32(0)}
    running = {"none": Running("gymnasium:CartPole-v1", **sizes)}
    for engine in ("inline", "threads", "ray"):
        about = {"actors": 2, "engine": engine}
        running[engine] = Running("CartPole-v1", **sizes, **about)
    found = {name: [] for name in running}
    for _ in range(3):
        for name, one in running.items():
            found[name].append(one.measured(5.0))
    print("| actors | steps/s, three times | windows behind |\n|---|---|---|")
    for name, figures in found.items():
        running[name].end()
        speeds = ", ".join(f"{value:,.0f}" for value, _ in figures)
        print(f"| {name} | {speeds} | {figures[-1][1]:.1f} |", flush=True)


def waiting():
    counts = (1, 2, 4, 8)
    print("| engine |", *(f"{n} actors |" for n in counts), "\n|---|", "---|" * 4)
    sizes = {"num_steps": 64, "num_minibatches": 1, "windows_per_round": 4}
    sizes |= {"score": lambda *_: jnp.float32(0)}
    for engine in ("inline", "threads", "ray"):
        found = []
        for count in counts:
            about = {"num_envs": count, "actors": count, "engine": engine}
            one = Running(Sleeping, **sizes, **about)
            found.append(one.measured(5.0)[0])
            one.end()
        cells = (f"{x:,.0f} ({x / found[0]:.1f}) |" for x in found)
        print(f"| {engine} |", *cells, flush=True)


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
