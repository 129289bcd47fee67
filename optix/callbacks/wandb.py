"""The rounds of a run as the history of a run of Weights & Biases."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from optix import checks
from optix.callbacks.base import LoopCallback, Rounds, RunInfo
from optix.callbacks.scalars import package, scalars
from optix.files import replacing

FILE = "wandb.json"  # in the folder of a run


class WandbCallback(LoopCallback):
    """Logs to Weights & Biases; `optix.callbacks.scalars` names the tags.

    The x axis are environment steps. Several seeds are told apart by a prefix, seed-0/,
    seed-1/, ... The id of the W&B run is kept in the folder of the run, so that a resumed
    one goes on in it; rounds that are played again, since they came after the last
    checkpoint, are not logged again. Offline mode (`mode="offline"`, or WANDB_MODE) works
    too: `wandb sync` joins the parts.

    Args:
        project: in which the run is shown; None takes that of a resumed run, WANDB_PROJECT
            or "optix".
        **init: further keywords of `wandb.init`, such as entity, name, group and mode;
            `config` is added to that of the run.

    Raises:
        ImportError: wandb is absent.
        ValueError: `project` is no name.
    """

    def __init__(self, project: str | None = None, **init: Any):
        """See the class."""
        self._run: Any = None
        self._package = package("wandb", "wandb", self)
        if project is not None and not (isinstance(project, str) and project.strip()):
            raise checks.OptionError(
                f"project must be the name of a project or None, got {project!r}"
            )
        self.project, self._init = project, init
        self._logged: list[int] = []  # rounds of each seed
        self._place: Path | None = None
        self._kept: dict[str, Any] = {}

    def on_loop_start(self, info: RunInfo) -> None:  # type: ignore[override]
        """Begin a run of W&B, or go on in that of the run that is resumed."""
        self._place = None if info.directory is None else info.directory / FILE
        kept = {"id": secrets.token_hex(4), "rounds": [0] * info.seeds}
        if info.resumed_from is not None:
            before = self._kept if self._place is None else _read(self._place)
            kept |= before if len(before.get("rounds", ())) == info.seeds else {}
        project = self.project or kept.get("project")
        project = project or os.environ.get("WANDB_PROJECT") or "optix"
        given = {"id": kept["id"], "resume": "allow", "allow_val_change": True}
        given |= self._init
        given["config"] = {**info.config, **(self._init.get("config") or {})}
        self._run = self._package.init(project=project, **given)
        self._logged = list(kept["rounds"])
        self._kept = {"id": given["id"], "project": project, "rounds": self._logged}
        self._prefixes = [""]
        if info.seeds > 1:
            self._prefixes = [f"seed-{seed}/" for seed in range(info.seeds)]
        for prefix in self._prefixes:
            self._run.define_metric(f"{prefix}env_steps")
            self._run.define_metric(f"{prefix}*", step_metric=f"{prefix}env_steps")
        self._keep()

    def on_rounds(self, rounds: Rounds) -> None:
        """Log the rounds of a dispatch."""
        if self._run is None:
            return
        for seed, report in rounds:
            count, prefix = int(report.round) + 1, self._prefixes[seed]
            if count <= self._logged[seed]:
                continue  # it was logged before the pause
            told = {"env_steps": int(report.env_steps), **scalars(report)}
            self._run.log({f"{prefix}{tag}": value for tag, value in told.items()})
            self._logged[seed] = count
        self._keep()

    def on_loop_stop(self) -> None:
        """End the run of W&B; what was logged is sent."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def _keep(self) -> None:
        """Write down what a resumed run needs, at once or not at all."""
        if self._place is not None:
            with replacing(self._place) as file:
                file.write(json.dumps(self._kept).encode())


def _read(path: Path) -> dict[str, Any]:
    """Return what `_keep` wrote, {} where it wrote nothing.

    Raises:
        ValueError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rounds, words = kept["rounds"], [kept["id"], kept["project"]]
        sound = isinstance(rounds, list) and all(type(n) is int for n in rounds)
        if not sound or not all(isinstance(word, str) for word in words):
            raise ValueError("it is not what was written")
    except (ValueError, KeyError, TypeError) as error:
        raise checks.OptionError(
            f"{path} can not be read ({error}); remove it to begin another run of "
            "Weights & Biases, or restore it from a copy"
        ) from error
    return kept
