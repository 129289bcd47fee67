"""A window of experience on the host, as pipelines record it and agents learn from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.types import PyTree


@dataclasses.dataclass(frozen=True)
class EpisodeData:
    """A window of experience, time major, of one environment or of several.

    Of one environment fields are [T, ...], of several [T, B, ...]: `rewards` tells which.
    A window may begin in the middle of an episode and end in one: where the last step
    sets neither flag, the future is bootstrapped from the last of `next_observations`.
    Lists of steps are stacked.

    Raises:
      ValueError: no steps, fields of different lengths, steps of different shapes.

    >>> data = EpisodeData([0, 1], [1, 1], [1.0, 2.0], [0, 1], [0, 0], [1, 2])
    >>> data.total_reward, data.length, data.dones.tolist()
    (3.0, 2, [False, True])
    >>> data.batched().rewards.shape
    (2, 1)
    """

    observations: PyTree  # [T, ...] or [T, B, ...], as all fields but infos
    actions: PyTree
    rewards: np.ndarray  # [T] or [T, B] float32
    terminated: np.ndarray  # bool: the return really ends here
    truncated: np.ndarray  # bool: cut off, the future is bootstrapped
    next_observations: PyTree  # before any reset
    infos: list[Mapping[str, Any]] = dataclasses.field(
        default_factory=list
    )  # T or none; those of a vector environment are its own, {name: [B]}
    extras: Mapping[str, PyTree] = dataclasses.field(
        default_factory=dict
    )  # {name: [T, ...] or [T, B, ...]} what `act_batch` added: log_prob, value, carry

    def __post_init__(self) -> None:
        """Stack what came as lists and check the lengths."""
        if not len(self.rewards):
            raise checks.OptionError("a window must have at least one step, got none")
        dtypes = {"rewards": np.float32, "terminated": bool, "truncated": bool}
        for name in ("rewards", *_FIELDS):
            value = stack_steps(getattr(self, name))
            if name in dtypes:
                value = np.asarray(value, dtypes[name])
            object.__setattr__(self, name, value)
        if self.rewards.ndim not in (1, 2):
            raise checks.OptionError(
                "rewards must be [T], or [T, B] of several environments, got the shape "
                f"{self.rewards.shape}"
            )
        extras = {name: stack_steps(value) for name, value in self.extras.items()}
        object.__setattr__(self, "extras", extras)
        for name in _FIELDS:
            self._check_axes(name, getattr(self, name))
        for name, value in extras.items():
            self._check_axes(f"extras[{name!r}]", value)
        if self.infos and len(self.infos) != len(self.rewards):
            raise self._wrong("infos", [len(self.infos)])

    def _check_axes(self, name: str, value: PyTree) -> None:
        wanted = self.rewards.shape
        found = {np.shape(leaf)[: len(wanted)] for leaf in jax.tree.leaves(value)}
        if found - {wanted}:
            raise self._wrong(name, sorted(found))

    def _wrong(self, name: str, got: list) -> checks.OptionError:
        steps, *environments = self.rewards.shape
        of = f" of each of the {environments[0]} environments" if environments else ""
        return checks.OptionError(
            f"{name} must have one entry for each of the {steps} rewards{of}, got "
            f"{', '.join(map(str, got))}"
        )

    @property
    def num_envs(self) -> int:
        """How many environments there are, 1 where fields are [T]."""
        return 1 if self.rewards.ndim == 1 else self.rewards.shape[1]

    @property
    def dones(self) -> np.ndarray:
        """Where an episode ended, for either reason, [T] or [T, B] bool."""
        return self.terminated | self.truncated

    @property
    def total_reward(self) -> float:
        """The sum of all rewards of the window."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def length(self) -> int:
        """Environment steps in the window, of all environments."""
        return self.rewards.size

    def batched(self) -> EpisodeData:
        """Return the window with an axis of environments: [T, ...] becomes [T, 1, ...].

        `infos` stay as they are.
        """
        if self.rewards.ndim == 2:
            return self
        names = ("rewards", "extras", *_FIELDS)
        columns = {
            name: jax.tree.map(lambda x: x[:, None], getattr(self, name))
            for name in names
        }
        return dataclasses.replace(self, **columns)


_FIELDS = ("observations", "actions", "terminated", "truncated", "next_observations")


def stack_steps(steps: PyTree) -> PyTree:
    """Stack a list of equally shaped steps; leave what is stacked already."""
    if not isinstance(steps, list) or not steps:
        return steps
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps, is_leaf=_is_row)


def join_extras(
    steps: list[Mapping[str, PyTree]], join: Callable[[Sequence], np.ndarray]
) -> dict[str, PyTree]:
    """Return {name: [T, ...]} of what `act_batch` added at each of T steps.

    Raises:
      ValueError: other names at some step.
    """
    names = steps[0].keys()
    for added in steps:
        if added.keys() != names:
            raise checks.OptionError(
                "act_batch must add the same names at every step, got "
                f"{sorted(names)} and {sorted(added)}"
            )
    return {
        name: jax.tree.map(lambda *rows: join(rows), *[added[name] for added in steps])
        for name in names
    }


def _is_row(node: PyTree) -> bool:
    """Whether a node is a list of numbers, or of such lists: an array, no structure."""
    if not isinstance(node, list):
        return False
    return all(isinstance(part, Real) or _is_row(part) for part in node)
