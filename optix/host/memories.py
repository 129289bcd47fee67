"""Replays of host agents, one for each run."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from optix.host.agent import BaseAgent, Memory
from optix.host.packed import arrays_of, bytes_of_arrays


class Run(NamedTuple):
    """Which run a replay belongs to: `LearnerState.memory` of a host agent with one."""

    bits: jax.Array  # [2] uint32: of the key with which it began, and a number


class Memories:
    """The replays behind the runs: lanes share one, rollbacks keep it, seeds do not meet.

    there: whether the agent makes any; without one `LearnerState.memory` is ().
    """

    def __init__(self, agent: BaseAgent):
        """Make none yet."""
        self._agent = agent
        self._runs: dict[str, Memory | None] = {}
        self._last = 0  # the number of the last run
        self.there = type(agent).make_memory is not BaseAgent.make_memory

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._runs)

    def new_run(self, word: int) -> np.ndarray:
        """Return the bits of a run that begins now; none has had them before.

        A key may begin several runs, and each has an empty replay.
        """
        self._last += 1
        return np.array([word, self._last % 2**32], np.uint32)

    def hand(self, run: str) -> None:
        """Give the agent the replay of a run, a new one if it has none yet."""
        if self.there and run not in self._runs:
            self._runs[run] = self._agent.make_memory()
        self._agent.memory = self._runs.get(run)

    def take_back(self, run: str) -> None:
        """Keep what the agent has for the replay of the run, be it another object."""
        if self.there:
            self._runs[run] = self._agent.memory

    def keep(self, runs: Iterable[str]) -> None:
        """Forget those of other runs."""
        for run in set(self._runs) - set(runs):
            del self._runs[run]

    def pack(self, run: str) -> bytes | None:
        """Return the replay of a run, None where nothing has been played in it."""
        memory = self._runs.get(run)
        return None if memory is None else bytes_of_arrays(memory.state())

    def unpack(self, run: str, archive: bytes) -> None:
        """Take back what `pack` returned.

        Raises:
          ValueError: the agent makes no replay.
        """
        memory = self._agent.make_memory()
        if memory is None:
            raise ValueError(
                "the checkpoint holds a replay, but make_memory of "
                f"{type(self._agent).__name__} returned None; make the loop with the "
                "agent of the run"
            )
        memory.restore(arrays_of(archive))
        self._runs[run] = memory
        self._last = max(self._last, int(run[8:], 16))


def name_of(bits: np.ndarray) -> str:
    """Return the name of a run, [2] uint32."""
    return np.ascontiguousarray(bits, np.uint32).astype(">u4").tobytes().hex()
