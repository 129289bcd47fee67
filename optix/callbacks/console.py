"""Progress of a run in the terminal."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from optix.callbacks.base import Rounds
from optix.callbacks.display import Display
from optix.callbacks.terminal import clock_time, short
from optix.types import LoopState, Members, Phase, StepReport

_WARM_UP_SECONDS = 0.2  # of measuring, before a speed is shown


class Console(Display):
    """A progress bar in a terminal, a line every ten seconds elsewhere.

    The bar is the share of the budget that is spent, mean over the seeds. A run that
    converges ends before it is full, so the time left is an upper limit.

    Args:
        state: of all seeds before the first round, [S, ...].
        title: what is running; plain text, shown as it is.
        stream: where to write, None for standard output. Signs that its encoding lacks
            are spelt with others; once it is closed nothing is shown any more.
    """

    NAME = "the progress bar"

    def __init__(self, state: LoopState, title: str = "", stream: Any = None):
        """See the class."""
        super().__init__(stream)
        self._title = " ".join(title.split())
        self._max_rounds = np.array(state.limits.max_rounds)
        self._max_env_steps = np.array(state.limits.max_env_steps)
        self._rounds, self._env_steps = np.array(state.round), np.array(state.env_steps)
        self._phases = np.array(state.progress.phase)
        self._best = np.array(state.best.score)
        self._scores = np.full(self._rounds.shape, np.nan)
        self._population: tuple[int, int, int] | None = None
        self._last = -math.inf
        self._first: tuple[float, int, float] | None = None  # when reports began

    def on_loop_start(self) -> None:
        """Open the bar."""
        self._open()

    def on_rounds(self, rounds: Rounds) -> None:
        """Take the rounds of a dispatch into account."""
        seeds, report = rounds.seeds, rounds.reports
        # of several rounds of a seed the last one stays
        self._rounds[seeds] = report.round + 1
        self._env_steps[seeds] = report.env_steps
        self._phases[seeds] = report.phase
        self._best[seeds] = report.best_score
        self._scores[seeds] = report.score
        self._population = _standing(report)
        self._last = time.monotonic()
        if self._first is None:  # the time before was the compiler's
            self._first = self._last, int(self._env_steps.sum()), self._share()
        self._tell(rounds, len(self._rounds))
        self._moved(self._last)

    def status(self) -> str:
        """Return how the run stands in a line."""
        if self._first is None:
            return "compiling"
        texts = [f"round {self._rounds.max()}/{self._max_rounds.max()}"]
        known = self._scores[np.isfinite(self._scores)]
        mean, spread = (known.mean(), known.std()) if known.size else (math.nan,) * 2
        if len(self._rounds) == 1:
            texts += [f"score {mean:.4g}", f"best {self._best.max():.4g}"]
            texts += [Phase(int(self._phases[0])).name.lower()]
        else:
            running = (self._phases != Phase.STOPPED).sum()
            texts += [
                f"score {mean:.4g} ± {spread:.2g}",
                f"best {self._best.max():.4g}",
            ]
            texts += [f"{running}/{len(self._rounds)} seeds running"]
        if self._population is not None:
            alive, places, spawns = self._population
            texts += [f"{alive}/{places} policies", f"{spawns} spawns"]
        return "  ".join([*texts, *self._speed()])

    def _share(self) -> float:
        """Return the share of the budget that is spent."""
        rounds = self._rounds / self._max_rounds
        spent = np.maximum(rounds, self._env_steps / self._max_env_steps)
        return float(np.where(self._phases == Phase.STOPPED, 1.0, spent).mean())

    def _speed(self) -> list[str]:
        """Return steps per second and the time left, once two moments are known."""
        assert self._first is not None
        clock, first_steps, first_share = self._first
        share, steps = self._share(), int(self._env_steps.sum()) - first_steps
        seconds = self._last - clock
        if seconds < _WARM_UP_SECONDS or steps <= 0 or share <= first_share:
            return []
        texts = [f"{short(steps / seconds)} steps/s"]
        if share < 1.0:
            left = seconds * (1.0 - share) / (share - first_share)
            texts += [f"≤ {clock_time(left)} left"]
        return texts

    def _picture(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        share = self._share()
        grid = Table.grid(padding=(0, 1))
        for name in ("title", "bar", "share", "status", "clock"):
            # the status is the one that may be cut
            grid.add_column(no_wrap=name != "status", overflow="crop")
        grid.add_row(
            Text(self._spelt(self._title), no_wrap=True, overflow="crop"),
            ProgressBar(total=1.0, completed=share, width=16),
            f"{share:4.0%}",
            _Cut(self._spelt(self.status()), self._spelt("…")),
            clock_time(time.monotonic() - self._start),
        )
        return grid

    def _line(self) -> str:
        return f"{self._title}  {self._share():.0%}  {self.status()}".strip()


def _standing(reports: StepReport) -> tuple[int, int, int] | None:
    """Return policies, places and spawns after the last of N rounds of a population."""
    if not isinstance(reports.members, Members):
        return None
    alive = reports.members.alive[-1]
    return int(alive.sum()), len(alive), int(reports.members.spawns[-1])


class _Cut:
    """A line for rich that ends in `dots` where it is too long; its own are one sign."""

    def __init__(self, text: str, dots: str):
        self.text, self.dots = text, dots

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        text, width = self.text, options.max_width
        if len(text) > width:
            text = text[: max(width - len(self.dots), 0)] + self.dots[:width]
        yield Text(text, no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        from rich.measure import Measurement

        longest = min(len(self.text), options.max_width)
        return Measurement(min(len(self.dots), longest), longest)
