"""How a search stands, in a line or a bar."""

import time
from typing import Any

from optix.callbacks.display import Display
from optix.callbacks.terminal import clock_time
from optix.trials.study import Study, best_first


class Bar(Display):
    """A progress bar in a terminal, a line every ten seconds elsewhere.

    Args:
        title: what is searched.
        study: whose trials are counted, until `follow` names another one.
        stream: where to write, None for standard output.
    """

    NAME = "the progress bar"

    def __init__(self, title: str, study: Study, stream: Any = None):
        """See the class."""
        super().__init__(stream)
        self._title, self._study = title, study
        self._states: list[str] = []
        self._best: float | None = None

    def __enter__(self) -> "Bar":
        """Open the bar."""
        self.moved()
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave how the search stands."""
        self.on_loop_stop()

    def follow(self, study: Study, title: str) -> None:
        """Count the trials of another study from now on."""
        self._study, self._title = study, title
        self.moved()

    def moved(self) -> None:
        """Take into account what has become of the trials."""
        trials = self._study.of_state()
        self._states = [trial.state.name for trial in trials]
        order = best_first(
            [trial for trial in trials if trial.state.name == "COMPLETE"]
        )
        self._best = order[0].value if order else None
        if self._terminal is not None:
            self._moved(time.monotonic())

    def _share(self) -> float:
        over = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in self._states)
        return over / max(len(self._states), 1)

    def _status(self) -> str:
        names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        texts = [
            f"{round(self._share() * len(self._states))}/{len(self._states)} trials"
        ]
        for state, name in {**names, "RUNNING": "running"}.items():
            if count := self._states.count(state):
                texts.append(f"{count} {name}")
        if self._best is not None:
            texts.append(f"best {self._best:.4g}")
        return "  ".join(texts)

    def _line(self) -> str:
        return f"{self._title}  {self._share():.0%}  {self._status()}"

    def _picture(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Text(self._spelt(self._title), no_wrap=True),
            ProgressBar(total=1.0, completed=self._share(), width=16),
            f"{self._share():4.0%}",
            Text(self._spelt(self._status()), no_wrap=True, overflow="crop"),
            clock_time(time.monotonic() - self._start),
        )
        return grid
