"""What a run came to, as values and as a table."""

import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optix.population.state import PopulationState
from optix.types import LoopState, Phase, StopReason


def best_seed(state: LoopState) -> int:
    """Return the seed with the best policy, by the scores of the run; [S, ...]."""
    scores = np.asarray(state.best.choice_score)
    return int(np.argmax(np.where(np.isfinite(scores), scores, -np.inf)))


class Result(NamedTuple):
    """A run of S seeds that has ended or was paused."""

    state: LoopState  # [S, ...]; once ended, `best.score` is from unseen keys
    scores: np.ndarray  # [S] float32 `state.best.score`
    stop_reasons: tuple[StopReason, ...]  # S of them
    best_seed: int  # chosen by the scores that chose each policy, not by `scores`
    paused: str | None  # why it was; None if it has ended
    seconds: float  # of this call
    steps_per_second: float  # environment steps of all seeds, without compilation
    directory: Path | None  # of the run, None if nothing was kept
    continue_with: str | None = None  # what goes on with it, None for `optix resume`

    @property
    def log(self) -> Path | None:
        """The log with one line per round and seed."""
        return None if self.directory is None else self.directory / "log.jsonl"

    @property
    def curve(self) -> Path | None:
        """The picture of the learning curve."""
        return None if self.directory is None else self.directory / "curve.png"

    @property
    def hyperparams(self) -> Path | None:
        """The picture of the hyperparameters, None where none has changed."""
        path = None if self.directory is None else self.directory / "hyperparams.png"
        return path if path is not None and path.exists() else None

    @property
    def message(self) -> str:
        """How the run ended, or how to continue it, in a sentence."""
        if self.paused is None:
            kinds = dict.fromkeys(self.stop_reasons)
            counts = [(self.stop_reasons.count(kind), kind) for kind in kinds]
            if len(counts) == 1:
                return counts[0][1].describe()
            return "; ".join(
                f"{n} seed{'s' * (n > 1)}: {kind.describe()}" for n, kind in counts
            )
        known = self.paused in ("max_seconds", *signal.Signals.__members__)
        paused = f"paused by {self.paused}" if known else f"paused: {self.paused}"
        if self.continue_with is not None:
            return f"{paused}; continue with {self.continue_with}"
        if self.directory is None:
            return f"{paused}; nothing was saved, for want of a directory"
        return f"{paused}; continue with `optix resume {self.directory}`"

    def table(self) -> Any:
        """Return a rich table with a row per seed; the best seed is marked.

        Names of hyperparameters are shown as they are, not as rich's markup. Where the
        table is too wide, cells are folded, which needs no sign beyond ASCII.
        """
        from rich.table import Table
        from rich.text import Text

        shared, own = self._hyperparams()
        lines = [] if self.paused else ["best score: of the best policy on unseen keys"]
        lines += ["  ".join(shared)] if shared else []
        caption = Text("\n".join(lines), style="table.caption")
        table = Table(caption=caption, caption_justify="left")
        names = ("seed", "best score", "round", "env steps", "phase", "stop reason")
        population = self._population()
        names = (*names, *population, *own)
        for name in names:
            table.add_column(
                Text(name, style="table.header"),
                justify="left" if name == "stop reason" else "right",
                overflow="fold",
            )
        state, several = self.state, len(self.scores) > 1
        phases = np.asarray(state.progress.phase)
        for seed, reason in enumerate(self.stop_reasons):
            marked = several and seed == self.best_seed
            table.add_row(
                f"{seed} *" if marked else str(seed),
                f"{self.scores[seed]:.5g}",
                str(int(state.round[seed])),
                f"{int(state.env_steps[seed]):,}",
                Phase(int(phases[seed])).name.lower(),
                reason.name.lower().replace("_", " "),
                *(texts[seed] for texts in population.values()),
                *(f"{values[seed]:.3g}" for values in own.values()),
                style="bold" if marked else None,
            )
        return table

    def _population(self) -> dict[str, list[str]]:
        """Return the cells of a population: its policies and its spawns."""
        state = self.state
        if not isinstance(state, PopulationState):
            return {}
        alive = np.asarray(state.alive)
        return {
            "policies": [f"{n}/{alive.shape[1]}" for n in alive.sum(1).tolist()],
            "spawns": [str(n) for n in np.asarray(state.spawns).tolist()],
        }

    def _hyperparams(self) -> tuple[list[str], dict[str, np.ndarray]]:
        """Return the best policies': in words where all seeds agree, and the others."""
        shared, own = [], {}
        for name, values in self.state.best.hyperparams.items():
            values = np.asarray(values)
            if (values == values[0]).all():
                shared.append(f"{name} {values[0]:.3g}")
            else:
                own[name] = values
        return shared, own
