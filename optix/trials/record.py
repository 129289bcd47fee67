"""What a search came to, as values and as a table."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optix.trials.study import Study, best_first, error_of, settings


class Trial(NamedTuple):
    """A configuration that was tried."""

    number: int
    state: str  # COMPLETE, PRUNED, FAIL, or RUNNING and WAITING of a search not over
    params: Mapping[str, Any]  # {name: value}
    score: float | None  # of the best policies on unseen keys, mean over the seeds
    confirmed: tuple[float, ...]  # the same of confirmations, NaN where one failed
    rounds: int  # that all its seeds have played
    env_steps: int
    error: str | None  # why it failed


class SearchResult(NamedTuple):
    """What a search came to.

    best: the trial with the best mean of its confirmations; without any, of its score.
    """

    best: Trial | None  # None if the search was paused before a trial was complete
    trials: tuple[Trial, ...]  # by number; without those that were put back
    rounds: int  # that a trial could have played, over all its seeds
    directory: Path | None
    paused: str | None  # why it was; None if it is over
    seconds: float  # of this call

    @property
    def params(self) -> Mapping[str, Any] | None:
        """The best configuration."""
        return None if self.best is None else self.best.params

    @property
    def score(self) -> float | None:
        """What the best configuration is worth, on keys that did not choose it."""
        if self.best is None:
            return None
        return _mean(self.best.confirmed) if self.best.confirmed else self.best.score

    @property
    def saved(self) -> float:
        """The share of the rounds that pruning has saved."""
        left = [self.rounds - t.rounds for t in self.trials if t.state == "PRUNED"]
        return sum(left) / max(self.rounds * len(self.trials), 1)

    @property
    def message(self) -> str:
        """How the search ended, in a sentence."""
        counts = ", ".join(
            f"{count} {name}"
            for name, state in (
                *(("complete", "COMPLETE"), ("pruned", "PRUNED")),
                *(("failed", "FAIL"), ("unfinished", "RUNNING WAITING")),
            )
            if (count := sum(trial.state in state.split() for trial in self.trials))
        )
        text = f"{len(self.trials)} trials: {counts}"
        if self.best is not None:
            text += f"; the best is trial {self.best.number}, score {self.score:.5g}"
            if self.best.confirmed:
                text += f" in {len(self.best.confirmed)} confirmations"
        if self.paused is not None:
            text += f"; paused: {self.paused}"
            if self.directory is not None:
                text += f", go on with `optix search --resume {self.directory}`"
        return text

    def table(self) -> Any:
        """Return a rich table of the trials with a score, the best first."""
        from rich.table import Table
        from rich.text import Text

        names = list(dict.fromkeys(name for t in self.trials for name in t.params))
        table = Table()
        for name in ("trial", "state", "score", "confirmed", *names):
            table.add_column(Text(name), justify="right", overflow="fold")
        scored = [trial for trial in self.trials if trial.score is not None]
        for trial in sorted(scored, key=lambda t: t.score or 0.0, reverse=True)[:10]:
            marked = self.best is not None and trial.number == self.best.number
            table.add_row(
                f"{trial.number} *" if marked else str(trial.number),
                trial.state.lower(),
                f"{trial.score:.5g}",
                ", ".join(f"{score:.4g}" for score in trial.confirmed),
                *(Text(_said(trial.params.get(name, ""))) for name in names),
                style="bold" if marked else None,
            )
        return table


def record(search: Study, confirm: Study | None) -> tuple[Trial, ...]:
    """Return the trials of a search, with what confirmations have shown."""
    again: dict[int, list[float]] = {}
    for trial in [] if confirm is None else confirm.of_state("COMPLETE", "FAIL"):
        score = math.nan if trial.value is None else trial.value
        again.setdefault(trial.user_attrs["of"], []).append(score)
    return tuple(
        Trial(
            number=trial.number,
            state=trial.state.name,
            params=settings(search.space, trial.params),
            score=trial.value if trial.state.name == "COMPLETE" else None,
            confirmed=tuple(again.get(trial.number, ())),
            rounds=trial.user_attrs.get("figures", {}).get("rounds", 0),
            env_steps=trial.user_attrs.get("figures", {}).get("env_steps", 0),
            error=error_of(trial),
        )
        for trial in search.of_state()
    )


def best_of(search: Study, trials: tuple[Trial, ...]) -> Trial | None:
    """Return the trial with the best mean of its confirmations, or else of its score.

    One of whose confirmations one has failed is no winner while another one is.
    """
    sound = [t for t in trials if t.confirmed and not math.isnan(_mean(t.confirmed))]
    if sound:
        return max(sound, key=lambda trial: _mean(trial.confirmed))
    order = best_first(search.of_state("COMPLETE"))
    number = order[0].number if order else None
    return next((trial for trial in trials if trial.number == number), None)


def _mean(scores: tuple[float, ...]) -> float:
    return sum(scores) / len(scores)


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
