"""What a live source gives, checked and copied when it comes.

The source may write into its arrays again.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.types import PyTree

FORM = "(observation, reward, terminated, truncated, info)"


class WrongItemError(ValueError):
    """Another connection would give the same again."""


class Item(NamedTuple):
    """What a live source has given.

    observation: of the environment now.
    reward: for the action on the observation of the item before.
    terminated, truncated: whether the episode ends with this observation.
    info: whatever else there is to know.
    gap: whether something was lost between the item before and this one.
    """

    observation: PyTree
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    gap: bool = False

    @property
    def ends(self) -> bool:
        """Whether the episode ends here."""
        return self.terminated or self.truncated


class Items:
    """Checks the items of one source: all observations have the form of the first.

    Args:
      name: of the source, for messages.
    """

    def __init__(self, name: str):
        """Know no form yet."""
        self._name = name
        self._form: PyTree = None

    def checked(self, value: Any, n: int) -> Item:
        """Return item `n` of a connection as an `Item` of copies."""
        if not isinstance(value, tuple | list) or len(value) != 5:
            got = type(value).__name__
            if isinstance(value, tuple | list):
                got += f" of {len(value)}"
            raise self._wrong("", f"{FORM}, 5 values", got, n)
        observation, reward, terminated, truncated, info = value
        if not isinstance(info, Mapping):
            raise self._wrong("the info", "a dict", repr(info), n)
        return Item(
            self._observation(observation, n),
            self._reward(reward, n),
            self._flag("terminated", terminated, n),
            self._flag("truncated", truncated, n),
            dict(info),
        )

    def _observation(self, value: PyTree, n: int) -> PyTree:
        leaves, tree = jax.tree.flatten(value, is_leaf=lambda x: isinstance(x, list))
        arrays = [_array(leaf) for leaf in leaves]
        found = tree.unflatten([f"{x.dtype}{list(x.shape)}" for x in arrays])
        if not arrays or any(x.dtype.kind not in "biuf" for x in arrays):
            raise self._wrong("the observation", "arrays of numbers", found, n)
        if self._form is None:
            self._form = found
        if found != self._form:
            raise self._wrong("the observation", f"{self._form} as the first", found, n)
        if not all(np.isfinite(x).all() for x in arrays):
            raise self._wrong("the observation", "finite", value, n)
        return tree.unflatten(arrays)

    def _reward(self, value: Any, n: int) -> float:
        array = _array(value)
        if array.shape or array.dtype.kind not in "biuf" or not np.isfinite(array):
            raise self._wrong("the reward", "a finite number", repr(value), n)
        return float(array)

    def _flag(self, field: str, value: Any, n: int) -> bool:
        array = _array(value)
        if array.shape or array.dtype.kind not in "biu" or array not in (0, 1):
            raise self._wrong(field, "True or False", repr(value), n)
        return bool(value)

    def _wrong(self, field: str, rule: str, got: Any, n: int) -> ValueError:
        of = f"{field} of item {n}" if field else f"item {n}"
        return WrongItemError(
            f"{of} of {self._name} must be {rule}, got {got}; mend the source"
        )


def _array(value: Any) -> np.ndarray:
    """Return a copy as an array, of objects where it is none (rows of many lengths)."""
    try:
        return np.array(value)
    except (TypeError, ValueError):
        return np.array(None)
