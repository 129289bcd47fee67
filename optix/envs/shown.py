"""What environments of Gymnasium show, in rows that the device reads.

A row is an observation, several parts of one joined; where the environment tells which
actions are allowed, by "action_mask" in its `info`, rows are `Masked`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from optix.envs.actions import action_space
from optix.envs.kinds import holds
from optix.envs.observations import hosted_encoder, kept_dtype, raw_shape
from optix.envs.parts import Parts, has_parts
from optix.forms import number_of_actions
from optix.math.masks import on_observed
from optix.types import Masked, PyTree

# in `info`, as Gymnasium's own environments and PettingZoo's call it
MASK = "action_mask"


class Shown:
    """How the observations of one environment become rows.

    masked: whether it tells which actions are allowed.
    parts: of observations that are a dictionary or a tuple, else None.
    """

    def __init__(self, name: str, observations: Any, actions: Any, masked: bool):
        """Take the spaces; `name` is for messages."""
        self.name, self.space, self.masked = name, observations, masked
        self.parts = Parts(name, observations) if has_parts(observations) else None
        self.shape = raw_shape(name, observations)
        self.dtype = kept_dtype(observations)
        acted = action_space(name, actions)
        self._number = number_of_actions(name, acted) if masked else 0

    def form(self, count: int) -> PyTree:
        """Return the shapes and dtypes of so many rows."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.zeros(count)
        )

    def zeros(self, count: int) -> PyTree:
        """Return so many rows of nothing, at which everything is allowed."""
        rows = np.zeros((count, *self.shape), self.dtype)
        if not self.masked:
            return rows
        free: Any = np.ones((count, self._number), bool)
        return Masked(rows, free)

    def encode(self, rows: PyTree) -> PyTree:
        """Return rows as agents see them; traced."""
        return on_observed(hosted_encoder(self.name, self.space), rows)

    def write(self, rows: PyTree, i: int, obs: Any, info: Any, ended: bool) -> None:
        """Write what one environment showed into row `i`; NumPy would stretch it.

        Raises:
          ValueError: an observation or a mask of another form, or no mask where the
            episode goes on.
        """
        table = rows.obs if self.masked else rows
        if self.parts is not None:
            obs = self.parts.join(obs)
        shape = obs.shape if isinstance(obs, np.ndarray) else np.shape(obs)
        if shape != self.shape:
            raise self._wrong(obs)
        table[i] = self._held(obs)
        if self.masked:
            rows.action_mask[i] = self._mask(info.get(MASK), ended)

    def batch(self, obs: Any, info: Mapping[str, Any], ended: np.ndarray) -> PyTree:
        """Return what a vector environment showed as rows, not copied if they fit.

        Args:
          obs: [B, ...] of its space.
          info: of all its environments, as `gymnasium.vector` arranges it.
          ended: [B] bool, whose episodes do not go on.
        """
        if self.parts is not None:
            obs = self.parts.join(obs)
        rows = np.asarray(self._held(obs), self.dtype)
        if not self.masked:
            return rows
        told = info.get(MASK, [None] * len(rows))
        known = info.get(f"_{MASK}", np.ones(len(rows), bool))
        masks: Any = [
            self._mask(told[i] if known[i] else None, bool(ended[i]))
            for i in range(len(rows))
        ]
        masks = np.stack(masks)
        return Masked(rows, masks)

    def _held(self, obs: Any) -> Any:
        """Return observations whose numbers rows can hold, or raise ValueError."""
        if self.parts is None and not holds(self.space, obs):
            raise self._wrong(obs)
        return obs

    def _wrong(self, obs: Any) -> ValueError:
        return ValueError(
            f"the observation of {self.name} must be of {self.space}, got {obs!r}; mend "
            "the environment or its wrapper"
        )

    def _mask(self, given: Any, ended: bool) -> np.ndarray:
        """Return a mask [n] bool; at an end nobody need tell what is allowed there."""
        if given is None:
            if ended:
                return np.ones(self._number, bool)
            raise ValueError(
                f"info of {self.name} must hold {MASK!r} at every step that does not end "
                "an episode, as it does at a first one, got none; mend the environment "
                "or its wrapper"
            )
        mask = np.concatenate(list(_flat(given)))
        numbers = mask.dtype.kind in "biuf" and np.isin(mask, (0, 1)).all()
        if mask.shape != (self._number,) or not numbers:
            raise ValueError(
                f"{MASK!r} in info of {self.name} must hold a 0 or a 1 for each of "
                f"{self._number} actions, those of several choices one after another, "
                f"got {given!r}; mend the environment or its wrapper"
            )
        return mask.astype(bool)


def _flat(mask: Any) -> Iterable[np.ndarray]:
    """Yield the arrays of a mask in order, each flat."""
    if isinstance(mask, tuple | list) and any(np.ndim(part) for part in mask):
        for part in mask:
            yield from _flat(part)
    else:
        yield np.ravel(np.asarray(mask))
