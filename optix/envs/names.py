"""Gymnasium environments: whether something is one, and what messages call it."""

import sys
from typing import Any


def is_gymnasium(env: Any) -> bool:
    """Return whether this is a Gymnasium environment, single or vectorised."""
    gymnasium = sys.modules.get("gymnasium")  # who has such an environment imported it
    return gymnasium is not None and isinstance(
        env, gymnasium.Env | gymnasium.vector.VectorEnv
    )


def gymnasium_name(env: Any) -> str:
    """Return the id of a Gymnasium environment, or its class if it has none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
