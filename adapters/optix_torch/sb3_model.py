"""What a Stable-Baselines3 model is, and which of its settings are constants."""

# Stable-Baselines3 is optional, also where types are checked
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optix import checks

INSTALL = "pip install 'tensor-optix-jax[sb3]'"
FLOATS = {  # name: (low, high) of a model's attributes that are numbers
    "learning_rate": (0.0, 1.0),
    "clip_range": (0.0, 10.0),
    "clip_range_vf": (0.0, 1e9),
    "ent_coef": (0.0, 100.0),
    "vf_coef": (0.0, 100.0),
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "max_grad_norm": (0.0, 1e9),
    "target_kl": (0.0, 1e9),
    "tau": (0.0, 1.0),
    "target_policy_noise": (0.0, 10.0),
    "target_noise_clip": (0.0, 10.0),
}
SIZES = ("batch_size", "n_epochs")


def is_on_policy(model: Any) -> bool:
    """Whether a model learns from windows; raises where it is none of those known."""
    try:
        import stable_baselines3 as sb3
    except ImportError as error:
        raise ImportError(
            f"SB3Agent needs Stable-Baselines3; install it by {INSTALL}"
        ) from error
    if isinstance(model, sb3.PPO | sb3.A2C):
        return True
    if not isinstance(model, sb3.DQN | sb3.SAC | sb3.TD3):
        raise checks.OptionError(
            "model must be a PPO, A2C, DQN, SAC, TD3 or DDPG object of "
            f"stable_baselines3, got {model!r}; load a saved one by its class's load(...)"
        )
    kind = model.replay_buffer_class
    if kind is not None and issubclass(kind, sb3.HerReplayBuffer):
        raise checks.OptionError(
            "replay_buffer_class of the model must do without an environment, got "
            f"{kind.__name__}; use ReplayBuffer"
        )
    return False


def decoded(model: Any, action: np.ndarray) -> np.ndarray:
    """Return what the environment takes of what an on-policy model drew."""
    space = model.action_space
    if not hasattr(space, "low"):
        return action
    if model.policy.squash_output:
        return model.policy.unscale_action(action)
    return np.clip(action, space.low, space.high)


def transposed(space: Any, observations: Any) -> Any:
    """Return observations of a model's space, images channels first, as SB3 has them."""
    from stable_baselines3.common.preprocessing import maybe_transpose

    if isinstance(observations, Mapping):
        return {
            key: maybe_transpose(x, space.spaces[key])
            for key, x in observations.items()
        }
    return maybe_transpose(np.asarray(observations), space)


def constant(value: Callable[[float], float] | float | None) -> float | None:
    """Return a number, or what a schedule always is, as a float; else None."""
    if callable(value):
        shares = {float(value(share)) for share in (1.0, 0.5, 0.0)}
        return shares.pop() if len(shares) == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def check_schedules(model: Any, total_timesteps: int | None) -> None:
    """Raise ValueError where schedules change over steps whose number is not known."""
    if total_timesteps is not None:
        checks.positive_int("total_timesteps", total_timesteps)
        return
    names = ("lr_schedule", "clip_range", "clip_range_vf", "exploration_schedule")
    found = ((name, getattr(model, name, None)) for name in names)
    moving = [name for name, x in found if x is not None and constant(x) is None]
    if moving:
        raise checks.OptionError(
            f"total_timesteps must be given, for {moving[0]} of the model changes over "
            "them; or make the model with a constant"
        )
