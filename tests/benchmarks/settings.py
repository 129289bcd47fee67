"""The settings at which optix and its peers are compared, by the names of optix.

`windows` of `num_steps` in `num_envs` environments are one run, which ends with one
evaluation of `evaluation_episodes` by the policy that explores, unless it is
deterministic. The peers' workers translate the names.
"""

import json
import sys

PPO = {
    "environment": "CartPole-v1",
    "num_envs": 64,
    "num_steps": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "hidden": (64, 64),
    "activation": "tanh",
    "learning_rate": 2.5e-4,  # constant
    "discount": 0.99,
    "gae_lambda": 0.95,
    "clip_ratio": 0.2,
    "entropy_coefficient": 0.01,
    "value_coefficient": 0.5,
    "max_grad_norm": 0.5,
    "evaluation_episodes": 128,
    "deterministic_evaluation": False,
    "normalize_observations": False,
}
DQN = {
    "environment": "CartPole-v1",
    "num_envs": 10,
    "num_steps": 100,
    "collect_steps": 1,
    "gradient_steps": 1,  # one update each 10 environment steps
    "hidden": (120, 84),
    "activation": "relu",
    "learning_rate": 2.5e-4,
    "discount": 0.99,
    "capacity": 10_000,
    "learning_starts": 10_000,
    "batch_size": 128,
    "double": False,
    "target_period": 50,  # updates, 500 environment steps
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "epsilon_steps": 250_000.0,
    "evaluation_episodes": 128,
}
SAC = {
    "environment": "Pendulum-v1",
    "num_envs": 1,
    "num_steps": 100,
    "collect_steps": 1,
    "gradient_steps": 1,
    "hidden": (64, 64),
    "activation": "relu",
    "learning_rate": 3e-4,
    "discount": 0.99,
    "capacity": 20_000,
    "learning_starts": 1_000,
    "batch_size": 256,
    "target_rate": 0.005,
    "evaluation_episodes": 128,
    "deterministic_evaluation": False,
}
TD3 = {
    **SAC,
    "learning_rate": 1e-3,
    "policy_delay": 2,
    "exploration_noise": 0.1,
    "target_noise": 0.2,
    "target_noise_limit": 0.5,
    "deterministic_evaluation": True,
}
PQN = {
    "environment": "CartPole-v1",
    "num_envs": 64,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 16,
    "hidden": (64, 64),
    "activation": "relu",  # behind layer normalisation
    "learning_rate": 5e-4,
    "discount": 0.99,
    "td_lambda": 0.65,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "epsilon_steps": 100_000.0,
    "max_grad_norm": 10.0,
    "evaluation_episodes": 128,
}
RAINBOW = {  # of tensor-optix
    "environment": "CartPole-v1",
    "num_envs": 8,
    "num_steps": 50,
    "collect_steps": 25,  # 200 environment steps
    "gradient_steps": 6,
    "hidden": (128,),
    "num_atoms": 51,
    "learning_rate": 6.25e-5,
    "discount": 0.99,
    "capacity": 100_000,
    "learning_starts": 400,
    "batch_size": 32,
    "n_step": 3,
    "priority_exponent": 0.5,
    "importance_exponent": 0.4,
    "target_period": 200,
    "value_min": -10.0,
    "value_max": 10.0,
    "normalize_rewards": False,
    "evaluation_episodes": 1,
}
SETTINGS = {
    "ppo": PPO,
    "pqn": PQN,
    "dqn": DQN,
    "sac": SAC,
    "td3": TD3,
    "rainbow": RAINBOW,
}


def settings_of(algorithm):
    """The settings, with what a JSON object among a worker's arguments changes.

    `flat` is no option of optix: the environment flattens its images.
    """
    told = [argument for argument in sys.argv[1:] if argument.startswith("{")]
    return {**SETTINGS[algorithm], **json.loads(told[0] if told else "{}")}


def window_steps(algorithm):
    """Environment steps of a window."""
    settings = settings_of(algorithm)
    return settings["num_envs"] * settings["num_steps"]
