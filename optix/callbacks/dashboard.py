"""A panel in the terminal that shows how a run stands."""

import collections
import time
from collections.abc import Callable
from typing import Any

from optix import checks
from optix.callbacks.base import Rounds, RunInfo
from optix.callbacks.display import Display
from optix.callbacks.terminal import clock_time, short, sparkline
from optix.types import Phase, StepReport

_ROWS = 12  # seeds, and actors, that are shown one by one
_LOST = ("dropped", "restarts")


class RichDashboardCallback(Display):
    """A live panel: score, best, phase, learning curve, hyperparameters and speed.

    Where actors play, each has a line: its speed, how many windows old the policy was that
    it played by, the steps of it that were dropped, how often it was replaced.

    Where there is no terminal it writes a line every ten seconds, and one at the end. Take
    it in place of the progress bar (`progress=False`): two live displays disturb each
    other.

    Args:
        history: how many of the latest scores the small curve shows.
        stream: where to write, None for standard output.

    Raises:
        ValueError: `history` is no positive integer.
    """

    NAME = "the dashboard"

    def __init__(self, history: int = 40, *, stream: Any = None):
        """See the class."""
        self._history = checks.positive_int("history", history)
        super().__init__(stream)
        self._title = "training"
        self._begin(1, 0)

    def on_loop_start(self, info: RunInfo) -> None:  # type: ignore[override]
        """Open the panel."""
        self._begin(info.seeds, sum(info.env_steps))
        words = [info.environment or "training", info.agent or ""]
        self._title = " ".join(" ".join(words).split())
        self._hyperparams = dict(info.hyperparams[0]) if info.hyperparams else {}
        self._actors = info.actors
        self._open()

    def on_rounds(self, rounds: Rounds) -> None:
        """Take the rounds of a dispatch into account."""
        for seed, report in rounds:
            self._reports[seed] = report
            self._scores[seed].append(float(report.score))
            if seed == 0:
                self._hyperparams = {n: float(v) for n, v in report.centre.items()}
        now, steps = time.monotonic(), self._env_steps()
        if self._first is None:  # the time before was the compiler's
            self._first = now, steps
        self._last = now, steps
        self._tell(rounds, len(self._reports))
        self._moved(now)

    def status(self) -> str:
        """Return how the run stands in a line."""
        reports = [report for report in self._reports if report is not None]
        if not reports:
            return "no round yet"
        texts = [f"round {max(int(report.round) for report in reports) + 1}"]
        if len(self._reports) == 1:
            texts += _standing(reports[0])
        else:
            best = max(float(report.best_score) for report in reports)
            running = sum(int(report.phase) != Phase.STOPPED for report in reports)
            running += len(self._reports) - len(reports)
            texts += [f"best {best:.4g}"]
            texts += [f"{running}/{len(self._reports)} seeds running"]
        texts += [*self._speed(), *self._settings(), *self._acting()]
        return "  ".join(texts)

    def _begin(self, seeds: int, env_steps: int) -> None:
        """Forget another run."""
        self._steps_before = env_steps
        self._reports: list[StepReport | None] = [None] * seeds
        self._scores = [collections.deque(maxlen=self._history) for _ in range(seeds)]
        self._hyperparams: dict[str, float] = {}
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None
        self._actors: Callable[[], dict[str, Any]] | None = None

    def _env_steps(self) -> int:
        known = [
            int(report.env_steps) for report in self._reports if report is not None
        ]
        return sum(known) if known else self._steps_before

    def _speed(self) -> list[str]:
        """Return the steps per second, once two moments are known."""
        if self._first is None or self._last is None:
            return []
        seconds, steps = (b - a for a, b in zip(self._first, self._last, strict=True))
        return [f"{short(steps / seconds)} steps/s"] if seconds > 0 < steps else []

    def _settings(self) -> list[str]:
        return [f"{name} {value:.3g}" for name, value in self._hyperparams.items()]

    def _acting(self) -> list[str]:
        """Return how all actors together do."""
        if self._actors is None:
            return []
        told = self._actors()
        lag = told["policy_lag"].mean()
        texts = [f"{len(told['restarts'])} actors lag {lag:.3g}"]
        return texts + [f"{name} {told[name].sum():.0f}" for name in _LOST]

    def _actor_lines(self) -> Any:
        """Return a table with a line for each actor."""
        from rich.table import Table

        assert self._actors is not None
        told = self._actors()
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("actor", "steps/s", "lag", *_LOST):
            table.add_column(name, justify="right")
        for actor in range(min(len(told["restarts"]), _ROWS)):
            speed = short(float(told["steps_per_second"][actor]))
            counts = [f"{told[name][actor]:.0f}" for name in ("policy_lag", *_LOST)]
            table.add_row(str(actor), speed, *counts)
        return table

    def _picture(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("seed", "round", "score", "best", "phase", "latest scores"):
            table.add_column(name, justify="left" if name[0] in "pl" else "right")
        for seed, report in enumerate(self._reports[:_ROWS]):
            cells = ["-"] * 4
            if report is not None:
                cells = [str(int(report.round) + 1), f"{float(report.score):.4g}"]
                cells += [f"{float(report.best_score):.4g}", _phase(report)]
            curve = self._spelt(sparkline(self._scores[seed]))
            table.add_row(str(seed), *cells, Text(curve, no_wrap=True))
        left = len(self._reports) - _ROWS
        clock = clock_time(time.monotonic() - self._start)
        steps = f"{self._env_steps():,} environment steps"
        lines = [f"and {left} more seeds"] if left > 0 else []
        lines += ["  ".join([clock, steps, *self._speed()])]
        lines += ["  ".join(self._settings())] if self._hyperparams else []
        acting = [] if self._actors is None else [self._actor_lines()]
        parts = [table, *acting, *(Text(self._spelt(line)) for line in lines)]
        ascii_only = not self._encoding.lower().startswith("utf")
        return Panel(
            Group(*parts),
            title=Text(self._spelt(self._title)),
            title_align="left",
            box=box.ASCII if ascii_only else box.ROUNDED,
            expand=False,
        )

    def _line(self) -> str:
        return f"{self._title}  {self.status()}"


def _standing(report: StepReport) -> list[str]:
    """Return score, best and phase of the only seed."""
    score, best = float(report.score), float(report.best_score)
    return [f"score {score:.4g}", f"best {best:.4g}", _phase(report)]


def _phase(report: StepReport) -> str:
    return Phase(int(report.phase)).name.lower()
