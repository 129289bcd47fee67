"""The settings at which optix and its peers are compared."""

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
    "evaluation_episodes": 128,  # once, at the end, with a sampling policy
}
STEPS_PER_WINDOW = PPO["num_envs"] * PPO["num_steps"]
