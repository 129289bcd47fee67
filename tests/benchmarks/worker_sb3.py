"""stable-baselines3 and sbx at the shared settings, on Gymnasium's environments.

Run by an interpreter that has sbx-rl 0.28 (which brings stable-baselines3). They hold no
program: what stands as compile time is the time until a first update is done. Runs go on
from there, so that of DQN, SAC and TD3 only the learning is timed, without evaluation.
"""

import importlib
import math
import sys
import time

from stable_baselines3.common.env_util import make_vec_env

from tests.benchmarks.settings import SETTINGS, window_steps
from tests.benchmarks.worker import respond, say


def networks(library, settings):
    """The settings of the networks by the names of the library."""
    if library == "sbx":
        from flax import linen

        activation = getattr(linen, settings["activation"])
    else:
        from torch import nn

        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[settings["activation"]]
    return {"net_arch": list(settings["hidden"]), "activation_fn": activation}


def options_of(algorithm, settings):
    """The settings by the names of both libraries."""
    if algorithm == "ppo":
        size = settings["num_steps"] * settings["num_envs"]
        return {
            "n_steps": settings["num_steps"],
            "batch_size": size // settings["num_minibatches"],
            "n_epochs": settings["num_epochs"],
            "gae_lambda": settings["gae_lambda"],
            "clip_range": settings["clip_ratio"],
            "vf_coef": settings["value_coefficient"],
            "ent_coef": settings["entropy_coefficient"],
            "max_grad_norm": settings["max_grad_norm"],
        }
    replay = {
        "buffer_size": settings["capacity"],
        "learning_starts": settings["learning_starts"],
        "batch_size": settings["batch_size"],
        "train_freq": settings["collect_steps"],
        "gradient_steps": 1,
    }
    if algorithm == "dqn":
        return replay | {
            "target_update_interval": settings["target_period"] * settings["num_envs"],
            "exploration_initial_eps": settings["epsilon_start"],
            "exploration_final_eps": settings["epsilon_end"],
        }
    replay["tau"] = settings["target_rate"]
    if algorithm == "td3":
        import numpy as np
        from stable_baselines3.common.noise import NormalActionNoise

        noise = settings["exploration_noise"] * np.ones(1)
        replay["action_noise"] = NormalActionNoise(np.zeros(1), noise)
    return replay


def main():
    """Warm up, then run for each line."""
    algorithm, _, windows, library = sys.argv[1:5]
    settings = SETTINGS[algorithm]
    started = time.perf_counter()
    module = importlib.import_module(
        {"sb3": "stable_baselines3", "sbx": "sbx"}[library]
    )
    env = make_vec_env(settings["environment"], n_envs=settings["num_envs"], seed=0)
    model = getattr(module, algorithm.upper())(
        "MlpPolicy",
        env,
        learning_rate=settings["learning_rate"],
        gamma=settings["discount"],
        policy_kwargs=networks(library, settings),
        seed=0,
        device="cpu",
        **options_of(algorithm, settings),
    )
    warm = settings.get("learning_starts", window_steps(algorithm))
    steps = int(windows) * window_steps(algorithm)
    model.learn(warm + 10 * settings["num_envs"])
    say({"compile": time.perf_counter() - started})

    def run(number):
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before, math.nan

    respond(run)


if __name__ == "__main__":
    main()
