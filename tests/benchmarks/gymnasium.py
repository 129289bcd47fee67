"""PPO on Gymnasium's CartPole: optix, a loop driven from the host, stable-baselines3.

    python -m tests.benchmarks.gymnasium [--environment NAME] [--repeats N] [--without-sb3]

All have the same windows, epochs and minibatches, take a window in turn, and are not
evaluated. Prints the median of environment steps per second of wall clock and of process
time, and the ratios of optix to the others. The loop driven from the host calls a
compiled `act` for each step and a compiled `learn` for each window. OMP_NUM_THREADS=1
for the sake of the comparison.
"""

import argparse
import os
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import optix  # noqa: E402
from optix.envs.environment import environment  # noqa: E402
from optix.types import Trajectory  # noqa: E402

SIZES = {  # number of environments: (steps of a window, epochs, minibatches)
    8: (128, 4, 4),
    64: (128, 4, 4),
}


def optix_window(name, count, options):
    """Return a function that plays and learns a window in the loop's own learner."""
    learner = optix.make(f"gymnasium:{name}", "ppo", num_envs=count, **options).learner
    step = jax.jit(
        lambda state, key: learner.step(state, learner.hyperparams, key, True)
    )
    run = {"state": learner.init(jax.random.key(0)), "key": jax.random.key(1)}

    def window():
        run["key"], key = jax.random.split(run["key"])
        run["state"] = jax.block_until_ready(step(run["state"], key)[0])

    return window


def host_driven_window(name, count, options):
    """Return a function that calls a compiled `act` a step and one `learn` a window."""
    steps = options.pop("num_steps")
    agent = optix.make_agent(environment(f"gymnasium:{name}"), "ppo", **options)
    decode = environment(f"gymnasium:{name}").decode
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    envs = gymnasium.vector.SyncVectorEnv(
        [partial(gymnasium.make, name)] * count, autoreset_mode=mode
    )
    hyperparams = agent.hyperparams
    discount = hyperparams["discount"]

    @jax.jit
    def act(policy, obs, key):
        _, action, extras = agent.act(policy, (), obs, hyperparams, key, True)
        return action, jax.vmap(decode)(action), extras

    learn = jax.jit(
        lambda policy, window, key: agent.learn(policy, window, hyperparams, key)
    )
    keys = list(jax.random.split(jax.random.key(2), steps))
    run = {
        "policy": agent.init(jax.random.key(0)),
        "obs": envs.reset(seed=0)[0],
        "return": np.zeros(count, np.float32),
    }

    def window():
        rows = []
        for key in keys:
            action, given, extras = act(run["policy"], run["obs"], key)
            obs, reward, terminated, truncated, info = envs.step(np.asarray(given))
            ended, last = terminated | truncated, obs
            if ended.any():
                last = obs.copy()
                last[ended] = np.stack(list(info["final_obs"][ended]))
            reward = reward.astype(np.float32)
            total = reward + discount * run["return"]
            extras = {**extras, "discounted_return": total}
            rows.append(
                Trajectory(
                    run["obs"], action, reward, terminated, truncated, last, extras
                )
            )
            run["obs"], run["return"] = obs, total * ~ended
        stacked = jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *rows)
        learned = learn(run["policy"], stacked, keys[0])
        run["policy"] = jax.block_until_ready(learned.policy)

    return window


def sb3_window(name, count, options):
    """Return a function that plays and learns a window of stable-baselines3's PPO."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        make_vec_env(name, n_envs=count, seed=0),
        n_steps=options["num_steps"],
        batch_size=count * options["num_steps"] // options["num_minibatches"],
        n_epochs=options["num_epochs"],
        device="cpu",
        seed=0,
    )
    size = count * options["num_steps"]
    return lambda: model.learn(size, reset_num_timesteps=False)


def measured(players, size, repeats):
    """Return {player: (steps per second of wall clock, of process time)}, medians."""
    times = {player: [] for player in players}
    for window in players.values():
        window()  # compiles
    for _ in range(repeats):
        for player, window in players.items():
            wall, process = time.perf_counter(), time.process_time()
            window()
            times[player].append(
                (time.perf_counter() - wall, time.process_time() - process)
            )
    return {player: size / np.median(rows, 0) for player, rows in times.items()}


def main():
    """Print a table for each number of environments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--environment", default="CartPole-v1")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--without-sb3", action="store_true")
    arguments = parser.parse_args()
    makers = {"optix": optix_window, "host-driven": host_driven_window}
    if not arguments.without_sb3:
        makers["stable-baselines3"] = sb3_window
    for count, (steps, epochs, minibatches) in SIZES.items():
        options = {
            "num_steps": steps,
            "num_epochs": epochs,
            "num_minibatches": minibatches,
        }
        players = {
            player: make(arguments.environment, count, dict(options))
            for player, make in makers.items()
        }
        speeds = measured(players, count * steps, arguments.repeats)
        ours = speeds["optix"]
        print(
            f"{arguments.environment}, {count} environments, windows of {steps} steps"
        )
        for player, (wall, process) in speeds.items():
            print(
                f"  {player:18s} {wall:8.0f} steps/s, {process:8.0f} a process second;"
                f" optix {ours[0] / wall:.2f}, {ours[1] / process:.2f} of it"
            )


if __name__ == "__main__":
    main()
