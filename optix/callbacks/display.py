"""What a terminal shows live, and elsewhere a line now and then."""

import abc
import logging
import math
import sys
import time
from typing import Any, ClassVar

import numpy as np

from optix import checks
from optix.callbacks.base import LoopCallback, Rounds
from optix.callbacks.terminal import Stream, spelt
from optix.types import DIAGNOSES

_LOGGER = logging.getLogger("optix.callbacks")
_PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


class Display(LoopCallback, abc.ABC):
    """A live picture of a run; a subclass says what is in it.

    NAME: what it is, for messages.

    Args:
        stream: where to write, None for standard output. Signs that its encoding lacks
            are spelt with others; once it is closed nothing is shown any more.
    """

    NAME: ClassVar[str]

    def __init__(self, stream: Any):
        """See the class."""
        if stream is not None:
            write = getattr(stream, "write", None)
            checks.function("write of stream", write, "take one such as sys.stdout")
        self._stream, self._encoding = stream, "utf-8"
        self._terminal = self._live = None
        self._start, self._printed = time.monotonic(), -math.inf
        self._failed = False

    def on_loop_stop(self) -> None:
        """Leave how the run stands."""
        if self._live is not None:
            self._live.stop()
        elif self._terminal is not None:
            self._print()
        self._live = self._terminal = None

    def _open(self) -> None:
        """Show it from now on."""
        from rich.console import Console as Terminal
        from rich.live import Live

        self._start, self._printed, self._failed = time.monotonic(), -math.inf, False
        stream = Stream(sys.stdout if self._stream is None else self._stream)
        self._encoding, self._live = stream.encoding, None
        self._terminal = Terminal(file=stream, highlight=False)  # type: ignore
        if self._terminal.is_terminal and not self._terminal.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._drawn, console=self._terminal, refresh_per_second=4
            )
            self._live.start(refresh=True)

    def _moved(self, now: float) -> None:
        """Print a line where there is no terminal and it is time for one."""
        if self._live is None and now - self._printed >= _PLAIN_SECONDS:
            self._print()

    def _tell(self, rounds: Rounds, seeds: int) -> None:
        """Print what diagnostics found in these rounds, a line for each."""
        if self._terminal is None:
            return
        for line in diagnoses(rounds, seeds):
            self._terminal.print(
                self._spelt(line), soft_wrap=True, markup=False, emoji=False
            )

    def _print(self) -> None:
        assert self._terminal is not None
        self._printed = time.monotonic()
        self._terminal.print(
            self._spelt(self._line()), soft_wrap=True, markup=False, emoji=False
        )

    def _drawn(self) -> Any:
        """Return the picture, for the thread that draws: an error must not end it."""
        from rich.text import Text

        try:
            return self._picture()
        except Exception:
            if not self._failed:
                self._failed = True
                _LOGGER.exception("%s can not be drawn; the run goes on", self.NAME)
            return Text("")

    def _spelt(self, text: str) -> str:
        return spelt(text, self._encoding)

    @abc.abstractmethod
    def _line(self) -> str:
        """Return how the run stands in a line."""

    @abc.abstractmethod
    def _picture(self) -> Any:
        """Return what rich draws."""


def diagnoses(rounds: Rounds, seeds: int) -> list[str]:
    """Return what diagnostics found, a line for each round and fault.

    Args:
        rounds: that are over.
        seeds: of the run; of one only there is nothing to count.
    """
    lines = []
    events, numbers = rounds.reports.events, rounds.reports.round
    for number in np.unique(numbers[(events & sum(DIAGNOSES)) != 0]).tolist():
        for event, words in DIAGNOSES.items():
            count = int(((events & event) != 0)[numbers == number].sum())
            if count:
                whose = f" in {count} of {seeds} seeds" if seeds > 1 else ""
                lines.append(f"round {number + 1}: {words}{whose}")
    return lines
