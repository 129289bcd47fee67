"""A window [T, B] cut into stretches that a recurrent network runs over at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Segments(NamedTuple):
    """`K` stretches of at most `S` steps, none of which goes beyond an episode's end.

    A network runs over all of them together, from the carries that acting had, without
    a look at where episodes end: it is reset where a stretch begins.
    """

    step: np.ndarray  # [K, S] of the window; of a short stretch the last one again
    env: np.ndarray  # [K]
    there: np.ndarray  # [K, S] bool: a step of the stretch
    row: np.ndarray  # [T, B, 2]: (stretch, place) of every step


def segments(ended: np.ndarray, length: int) -> Segments:
    """Return the stretches of a window.

    Args:
      ended: [T, B] bool.
      length: the most steps of one.

    >>> ended = np.array([[False], [True], [False], [False], [False]])
    >>> cut = segments(ended, 2)
    >>> cut.step.tolist(), cut.there.tolist()
    ([[0, 1], [2, 3], [4, 4]], [[True, True], [True, True], [True, False]])
    """
    steps, num_envs = ended.shape
    first = np.zeros((steps, num_envs), bool)
    place = np.zeros((steps, num_envs), np.int64)
    first[0] = True
    for t in range(1, steps):
        first[t] = ended[t - 1] | (place[t - 1] == length - 1)
        place[t] = np.where(first[t], 0, place[t - 1] + 1)
    # environment after environment, so that a stretch's steps are neighbours
    stretch = first.T.cumsum().reshape(num_envs, steps).T - 1
    count = int(stretch[-1, -1]) + 1
    begin = np.argwhere(first.T)  # [K, 2] (env, step)
    lengths = np.bincount(stretch.reshape(-1), minlength=count)
    offsets = np.arange(min(length, steps))
    step = begin[:, 1, None] + np.minimum(offsets, lengths[:, None] - 1)
    there = offsets < lengths[:, None]
    return Segments(step, begin[:, 0], there, np.stack([stretch, place], -1))
