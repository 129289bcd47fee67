"""How well agents learn in the loop: `python -m tests.benchmarks.host_learning`.

The tuner is fixed, and there is no target score: a run uses its whole budget. The score
is the mean return of the best policy over 64 episodes on keys that no choice has seen.
Seeds run one after another, each in this process, and are kept in a folder, so that the
next call runs only those that are missing; of all that there are the table is printed.
`--only NAME` takes the cases whose name contains it, `--seeds 0` runs none. `--updates`
times the updates of PPO in Torch and in TensorFlow instead, in turn, where both are
installed.
"""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np

import optix
from optix.host.learner import host
from optix.host.vector import VectorBatchPipeline
from optix.loop.loop import loop
from optix.tuners.fixed import fixed

EPISODES = 64


class Masked(gymnasium.ObservationWrapper):
    """CartPole that shows positions only: velocities must be remembered from them."""

    def __init__(self, env):
        super().__init__(env)
        whole = env.observation_space
        self.observation_space = gymnasium.spaces.Box(
            whole.low[::2], whole.high[::2], dtype=np.float32
        )

    def observation(self, observation):
        return observation[::2]


class Case(NamedTuple):
    """An agent in an environment."""

    agent: str
    environment: str
    bar: float
    env_steps: int
    num_envs: int
    window_size: int
    options: dict[str, Any] = {}
    masked: bool = False
    score_every: int = 4096  # environment steps

    @property
    def name(self):
        """What `--only` looks for, and the file of the results."""
        masked = " masked" if self.masked else ""
        shape = f"{self.window_size} x {self.num_envs}"
        return f"{self.agent} {self.environment}{masked} {shape}"


CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
SHORT = {"learning_rate": 2.5e-3}
# what the returns are at this discount; of the default support, which takes scaled ones
# of any environment, they get a few atoms only
FITTED = {
    "learning_rate": 1e-3,
    "normalize_rewards": False,
    "value_min": 0.0,
    "value_max": 100.0,
}
CASES = [
    Case("TorchPPOAgent", CARTPOLE, 475, 41_000, 8, 32, SHORT, score_every=2048),
    Case("TorchPPOAgent", CARTPOLE, 475, 100_000, 8, 128, {"learning_rate": 1e-3}),
    Case(
        "TorchRecurrentPPOAgent",
        CARTPOLE,
        450,
        300_000,
        8,
        128,
        {"learning_rate": 1e-3, "cell_size": 64, "sequence_length": 32},
        masked=True,
    ),
    Case(
        "TorchDQNAgent",
        CARTPOLE,
        475,
        100_000,
        8,
        16,
        {"epsilon_steps": 20_000, "updates_per_step": 0.25},
    ),
    Case("TorchRainbowDQNAgent", CARTPOLE, 475, 100_000, 8, 16, FITTED),
    Case(
        "TorchGaussianPPOAgent",
        PENDULUM,
        -200,
        300_000,
        8,
        128,
        {"learning_rate": 1e-3, "discount": 0.95, "num_epochs": 10},
    ),
    Case(
        "TorchSACAgent",
        PENDULUM,
        -200,
        20_000,
        1,
        200,
        {"hidden": (64, 64), "learning_starts": 500},
        score_every=1000,
    ),
    Case(
        "TorchTD3Agent",
        PENDULUM,
        -200,
        20_000,
        1,
        200,
        {"hidden": (64, 64), "learning_starts": 500},
        score_every=1000,
    ),
    Case("SB3 PPO", CARTPOLE, 475, 100_000, 8, 128),
    Case(
        "JAX ppo",
        "LunarLander-v3",
        200,
        1_000_000,
        16,
        256,
        {
            "learning_rate": 1e-3,
            "discount": 0.999,
            "gae_lambda": 0.98,
            "num_minibatches": 32,
        },
        score_every=32_768,
    ),
]
TENSORFLOW_PPO = "TorchPPOAgent", "TFPPOAgent"
TENSORFLOW = {
    "TorchPPOAgent": "TFPPOAgent",
    "TorchGaussianPPOAgent": "TFGaussianPPOAgent",
    "TorchDQNAgent": "TFDQNAgent",
    "TorchSACAgent": "TFSACAgent",
    "TorchTD3Agent": "TFTD3Agent",
}
CASES += [  # at the same settings
    case._replace(agent=TENSORFLOW[case.agent])
    for case in CASES
    if case.agent in TENSORFLOW
]


def maker(case: Case) -> Callable[[], gymnasium.Env]:
    """Return what makes one environment."""

    def make():
        env = gymnasium.make(case.environment)
        return Masked(env) if case.masked else env

    return make


def agent_of(case: Case, seed: int):
    """Return a new agent."""
    if case.agent.startswith("TF"):
        return tensorflow_agent_of(case, seed)
    if case.agent.startswith("JAX"):
        with contextlib.closing(maker(case)()) as env:
            agent = optix.make_agent(env, case.agent.split()[1], **case.options)
            return optix.as_base_agent(agent, env)
    import torch

    import optix_torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env = maker(case)()
    if case.agent.startswith("SB3"):
        import stable_baselines3

        kind = getattr(stable_baselines3, case.agent.split()[1])
        model = kind("MlpPolicy", env, seed=seed, device="cpu", **case.options)
        return optix_torch.SB3Agent(model)
    kind = getattr(optix_torch, case.agent)
    return kind.for_env(env, device="cpu", **case.options)


def tensorflow_agent_of(case: Case, seed: int):
    """Return a new agent of TensorFlow, where it is installed."""
    import keras

    import optix_tensorflow

    keras.utils.set_random_seed(seed)
    kind = getattr(optix_tensorflow, case.agent)
    return kind.for_env(maker(case)(), **case.options)


def measure(case: Case, seed: int) -> dict[str, Any]:
    """Return what a run of one seed came to."""
    agent = agent_of(case, seed)
    pipeline = VectorBatchPipeline(
        [maker(case)] * case.num_envs, window_size=case.window_size
    )
    learner = host(agent, pipeline)
    windows = max(1, case.score_every // pipeline.window_steps)
    rounds = case.env_steps // (windows * pipeline.window_steps)
    run = loop(learner, fixed(), max_rounds=rounds, windows_per_round=windows)
    step = jax.jit(run.step)
    state = run.init(jax.random.key(seed))
    started, busy, scores = time.perf_counter(), time.process_time(), []
    while bool(state.active):
        state, report = step(state)
        learner.host.keep(state)
        scores.append(float(report.score))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    best = learner.host.agent_of(state.best.policy)
    best.seed(seed)
    score = pipeline.evaluate(best, 10_000 + seed, EPISODES)
    pipeline.close()
    return {
        "score": score,
        "scores": scores,
        "env_steps": int(state.env_steps),
        "seconds": seconds,
        "cpu_seconds": busy,
    }


def row(case: Case, results: list[dict[str, Any]]) -> list[str]:
    """Return the cells of a case in the table."""
    score = np.array([result["score"] for result in results])
    steps = np.array([result["env_steps"] for result in results])
    seconds = sum(result["seconds"] for result in results)
    options = ", ".join(f"{name}={value}" for name, value in case.options.items())
    return [
        case.name,
        options,
        f"{case.bar:g}",
        f"{np.sum(score >= case.bar)} of {len(score)}",
        f"{score.mean():.4g}",
        f"{score.min():.4g}",
        f"{steps.max() / 1000:.3g} k",
        f"{steps.sum() / seconds:.0f}",
    ]


def time_updates(turns: int = 15):
    """Print what a window's updates take in both frameworks, a median of turns."""
    (case,) = [c for c in CASES if c.name == "TorchPPOAgent CartPole-v1 128 x 8"]
    agents = {name: agent_of(case._replace(agent=name), 0) for name in TENSORFLOW_PPO}
    pipeline = VectorBatchPipeline([maker(case)] * case.num_envs, window_size=128)
    envs = pipeline.open()
    window = pipeline.collect(agents["TorchPPOAgent"], envs, 0)
    taken: dict[str, list] = {name: [] for name in agents}
    for _ in range(turns + 1):  # the first traces
        for name, agent in agents.items():
            wall, busy = time.perf_counter(), time.process_time()
            agent.learn(window)
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            taken[name].append((1e3 * wall, 1e3 * busy))
    envs.close()
    pipeline.close()
    for name, rows in taken.items():
        wall, busy = np.median(rows[1:], axis=0)
        print(f"{name}: {wall:.1f} ms a window of 8 x 128, {busy:.1f} ms of CPU")
    print(f"load average {os.getloadavg()[0]:.1f}")


def main():
    """Run what is asked for, print the table of all that there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", default="", help="cases whose name contains it")
    parser.add_argument("--directory", type=Path, default="host_learning_results")
    parser.add_argument("--updates", action="store_true", help="time those of PPO")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.updates:
        time_updates()
        return
    args.directory.mkdir(exist_ok=True)
    titles = "agent|options|bar|seeds at the bar|score|worst|steps|steps/s"
    print("| " + titles.replace("|", " | ") + " |")
    print("|" + "---|" * len(titles.split("|")))
    for case in CASES:
        if args.only not in case.name:
            continue
        file = args.directory / f"{case.name}.json"
        done = json.loads(file.read_text()) if file.exists() else []
        for seed in range(len(done), args.seeds):
            done.append(measure(case, seed))
            file.write_text(json.dumps(done))
        if done:
            print("| " + " | ".join(row(case, done)) + " |", flush=True)


if __name__ == "__main__":
    main()
