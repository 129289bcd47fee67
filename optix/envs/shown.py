"""What environments of Gymnasium show, in rows that the device reads.

A row is an observation, several parts of one joined; where the environment tells which
actions are allowed, by "action_mask" in its `info`, rows are `Masked`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix.envs.actions import action_space
from optix.envs.kinds import holds
from optix.envs.observations import hosted_encoder, kept_dtype, raw_shape
from optix.envs.parts import Parts, has_parts
from optix.envs.telling import MASK, ToldMasks
from optix.math.masks import on_observed
from optix.types import Masked, Numbered, PyTree


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
        self._masks = ToldMasks(
            name, acted.sizes if isinstance(acted, Numbered) else ()
        )

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
        return Masked(rows, self._masks.free(count))

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
            rows.action_mask[i] = self._masks.row(info.get(MASK), ended)

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
        return Masked(rows, self._masks.rows(info, ended))

    def final(self, rows: PyTree, i: int, info: Mapping[str, Any]) -> None:
        """Write what environment `i` of a vector showed at its end into its row."""
        self.write(rows, i, info["final_obs"][i], {}, True)
        if self.masked:
            rows.action_mask[i] = self._masks.final(info, i)

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
