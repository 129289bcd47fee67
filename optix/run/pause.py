"""What leaves a run before its end: the caller, a signal or the wall clock."""

import contextlib
import os
import signal
import threading
import time
from numbers import Real
from typing import Any

from optix import checks

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one is unknown on Windows
EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}  # of a process they pause


class Pause:
    """A handle that pauses the runs it was given to, from wherever it is called.

    Pass it to `train` or `resume` as `pause=` and call `stop` from another thread, a
    callback or a signal handler. The rounds that are under way are played to their end,
    the run is saved, and `Result.paused` is the reason. A handle that was stopped stays
    so: it pauses every later run at once, and `resume` takes a new one.

    continue_with: what goes on with the runs, for the message of one that was paused, by
        whatever; None for `optix resume`.

    Example:
        >>> pause = Pause()
        >>> pause.stop("the trial was pruned")
        >>> pause.stop("too late: the first reason stays")
        >>> pause.reason
        'the trial was pruned'
    """

    def __init__(self, continue_with: str | None = None):
        """See the class."""
        if continue_with is not None and not isinstance(continue_with, str):
            raise checks.OptionError(
                f"continue_with must be a text or None, got {continue_with!r}"
            )
        self._reason: str | None = None
        self.continue_with = continue_with

    @property
    def reason(self) -> str | None:
        """Why to pause, None to go on."""
        return self._reason

    def stop(self, reason: str = "stopped by the caller") -> None:
        """Pause the runs after the rounds that are under way.

        Raises:
            ValueError: the reason is not a text, or an empty one.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise checks.OptionError(
                f"reason must be a text that says why, got {reason!r}"
            )
        if self._reason is None:
            self._reason = reason


class Watch:
    """Says when to leave one run: its handle, SIGINT, SIGTERM, SIGHUP, or the clock.

    As a context manager it catches the signals, in the main thread only, and starts the
    clock. After the first SIGINT the handler from before is back, so that a second one
    interrupts at once; SIGTERM and SIGHUP, which schedulers like to send twice, do so
    never.
    """

    def __init__(self, max_seconds: float | None = None, pause: Pause | None = None):
        """See the class."""
        number = isinstance(max_seconds, Real) and not isinstance(max_seconds, bool)
        if max_seconds is not None and not (number and max_seconds > 0):
            raise checks.OptionError(f"max_seconds must be > 0, got {max_seconds!r}")
        if pause is not None and not isinstance(pause, Pause):
            raise checks.OptionError(
                f"pause must be an optix.Pause or None, got {pause!r}"
            )
        self._pause, self._max_seconds = pause or Pause(), max_seconds
        self._deadline: float | None = None
        self._signal: str | None = None
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """None to go on, else the name of a signal, "max_seconds" or the handle's."""
        return self.asked or ("max_seconds" if self._late() else None)

    @property
    def continue_with(self) -> str | None:
        """What goes on with the run, as the handle says it."""
        return self._pause.continue_with

    @property
    def asked(self) -> str | None:
        """The same without the clock, which leaves time for the rounds of a dispatch."""
        return self._signal or self._pause.reason

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def __enter__(self) -> "Watch":
        """Catch the signals that nobody chose to ignore."""
        if self._max_seconds is not None:
            self._deadline = time.monotonic() + self._max_seconds
        if threading.current_thread() is threading.main_thread():
            for name in filter(signal.Signals.__members__.get, _SIGNALS):
                number = signal.Signals[name]
                before = signal.getsignal(number)
                if before not in (None, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._caught)
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def _caught(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
        text = "\npausing after the rounds that are under way"
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
            text += "; Ctrl-C again stops at once, without saving"
        # print is not safe in the middle of another print, and the terminal may be gone
        with contextlib.suppress(OSError):
            os.write(2, f"{text}\n".encode())
