"""Numbers that belong to the state of an agent."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from optix import checks


class Numbers:
    """Numbers of an agent's own that belong to its state, {name: array}.

    >>> numbers = Numbers(updates=0)
    >>> numbers["updates"] += 1
    >>> numbers.state()
    {'updates': array(1)}
    """

    def __init__(self, **first: Any):
        """Begin with these."""
        self._values = {name: np.array(value) for name, value in first.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a number."""
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a number; it keeps its dtype."""
        self._values[name] = np.array(value, self._values[name].dtype)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all."""
        return {name: value.copy() for name, value in self._values.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        checks.known_names("number of the state", state, self._values)
        for name in self._values:
            if name not in state:
                raise checks.OptionError(
                    f"{name} must be in the state, got {sorted(state)}; it is of another "
                    "agent"
                )
            self[name] = state[name]
