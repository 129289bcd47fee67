"""Progress of a run in the terminal."""

import math
import time
from typing import Any

import numpy as np

from optix.callbacks.base import EvalMetrics, LoopCallback
from optix.types import LoopState, Phase

_PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
_WARM_UP_SECONDS = 0.2  # of measuring, before a speed is shown


class Console(LoopCallback):
    """A progress bar in a terminal, a line every ten seconds elsewhere.

    The bar is the share of the budget that is spent, mean over the seeds. A run that
    converges ends before it is full, so the time left is an upper limit.

    Args:
        state: of all seeds before the first round, [S, ...].
        title: what is running.
        stream: where to write, None for standard output.
    """

    def __init__(self, state: LoopState, title: str = "", stream: Any = None):
        """See the class."""
        self._title, self._stream = title, stream
        self._max_rounds = np.array(state.limits.max_rounds)
        self._max_env_steps = np.array(state.limits.max_env_steps)
        self._rounds, self._env_steps = np.array(state.round), np.array(state.env_steps)
        self._phases = np.array(state.progress.phase)
        self._best = np.array(state.best.score)
        self._scores = np.full(self._rounds.shape, np.nan)
        self._terminal = self._live = None
        self._printed = self._last = -math.inf
        self._first: tuple[float, int, float] | None = None  # when reports began

    def on_loop_start(self) -> None:
        """Open the bar."""
        from rich.console import Console as Terminal
        from rich.live import Live

        self._start = time.monotonic()
        self._terminal = Terminal(file=self._stream, highlight=False)
        if self._terminal.is_terminal:
            self._live = Live(
                get_renderable=self._bar, console=self._terminal, refresh_per_second=4
            )
            self._live.start(refresh=True)

    def on_loop_stop(self) -> None:
        """Leave how the run stands."""
        if self._live is not None:
            self._live.stop()
        elif self._terminal is not None:
            self._line()

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Take a round into account."""
        seed, report = eval_metrics.seed, eval_metrics.report
        self._rounds[seed] = episode_id + 1
        self._env_steps[seed] = report.env_steps
        self._phases[seed] = report.phase
        self._best[seed] = report.best_score
        self._scores[seed] = report.score
        self._last = time.monotonic()
        if self._first is None:  # the time before was the compiler's
            self._first = self._last, int(self._env_steps.sum()), self._share()
        if self._live is None and self._last - self._printed >= _PLAIN_SECONDS:
            self._line()

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
        texts = [f"{_short(steps / seconds)} steps/s"]
        if share < 1.0:
            left = seconds * (1.0 - share) / (share - first_share)
            texts += [f"≤ {_clock(left)} left"]
        return texts

    def _bar(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        share = self._share()
        grid = Table.grid(padding=(0, 1))
        for name in ("title", "bar", "share", "status", "clock"):
            grid.add_column(no_wrap=name != "status")  # the one that may be cut
        grid.add_row(
            self._title,
            ProgressBar(total=1.0, completed=share, width=16),
            f"{share:4.0%}",
            Text(self.status(), no_wrap=True, overflow="ellipsis"),
            _clock(time.monotonic() - self._start),
        )
        return grid

    def _line(self) -> None:
        assert self._terminal is not None
        self._printed = time.monotonic()
        line = f"{self._title}  {self._share():.0%}  {self.status()}"
        self._terminal.print(line.strip(), soft_wrap=True)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
