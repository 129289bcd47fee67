"""What is told of a window: whether it is finite, its returns, what `learn` said."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix.host.streams import Seat
from optix.host.window import EpisodeData


def not_finite(data: EpisodeData) -> str | None:
    """Return in words which observation, action or reward is not finite, if one is."""
    for field in ("rewards", "observations", "actions", "next_observations"):
        for leaf in jax.tree.leaves(getattr(data, field)):
            # a sum is finite if all are, but for numbers near the largest
            if leaf.dtype.kind != "f" or math.isfinite(leaf.sum(dtype=np.float64)):
                continue
            rows = np.isfinite(leaf).reshape(len(leaf), -1).all(1)
            if not rows.all():
                step = int(rows.argmin())
                return f"{field} hold {leaf[step]} at step {step} of a window"
    return None


def note_returns(seat: Seat, data: EpisodeData) -> float:
    """Note the returns of the episodes under way; return the mean of those that ended.

    It is that of the latest ones before where none has ended, -inf where none has yet.
    """
    steps = len(data.rewards)
    # each environment after another, cut into pieces of episodes
    rewards = data.rewards.reshape(steps, -1).T.astype(np.float64)  # [B, T]
    dones = data.dones.reshape(steps, -1).T
    begins = np.ones_like(dones)
    begins[:, 1:] = dones[:, :-1]
    first = np.flatnonzero(begins)  # [N] of each piece, in the row of all steps
    last = np.append(first[1:], rewards.size) - 1
    sums, ended = np.add.reduceat(rewards.ravel(), first), dones.ravel()[last]
    if seat.returns is not None:
        sums[first % steps == 0] += seat.returns
    seat.returns = np.where(ended, 0.0, sums)[last % steps == steps - 1]
    if ended.any():
        seat.latest = float(sums[ended].mean())
    return seat.latest


def numbers_of(info: Any) -> dict[str, float]:
    """Return what is a number in what `learn` returned."""
    if not isinstance(info, Mapping):
        raise TypeError(
            f"learn must return {{name: number}}, got {type(info).__name__}; return "
            "{} if there is nothing to tell"
        )
    numbers = {}
    for name, value in info.items():
        with contextlib.suppress(TypeError, ValueError):
            numbers[name] = float(value)
    return numbers


def row_of(
    data: EpisodeData, latest: float, numbers: Mapping[str, float], names: tuple
) -> np.ndarray:
    """Return the reported numbers in the order of their names, NaN where there is none."""
    pieces = data.num_envs + int(data.dones[:-1].sum())
    told = {
        **numbers,
        "return": latest,
        "window_return": data.total_reward / pieces,
        "window_episodes": pieces,
    }
    return np.asarray([told.get(name, math.nan) for name in names], np.float32)
