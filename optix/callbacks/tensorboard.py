"""The rounds of a run as scalars that TensorBoard shows."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

from optix import checks
from optix.callbacks.base import LoopCallback, Rounds, RunInfo
from optix.callbacks.scalars import package, scalars
from optix.files import folder_path
from optix.types import StepReport

FOLDER = "tensorboard"  # in the folder of a run


class TensorBoardCallback(LoopCallback):
    """Writes event files by tensorboardX; `optix.callbacks.scalars` names the tags.

    The x axis are environment steps. Several seeds are runs of TensorBoard's, in folders
    seed-0, seed-1, ..., with the same tags. A resumed run writes into the same folder, and
    what was there beyond the round that it goes on from is purged.

    Args:
        log_dir: the folder; None takes `tensorboard` in that of the run, or here where
            the run keeps none.

    Raises:
        ImportError: tensorboardX is absent.
        ValueError: `log_dir` is no path, or a file.
    """

    def __init__(self, log_dir: str | os.PathLike | None = None):
        """See the class."""
        self._writers: list[Any] = []
        self._package = package("tensorboardX", "tensorboard", self)
        # a later change of the working folder must not part the files of a run
        self.log_dir = (
            None
            if log_dir is None
            else Path(os.path.abspath(folder_path("log_dir", log_dir)))
        )
        if self.log_dir is not None and self.log_dir.is_file():
            raise checks.OptionError(f"log_dir must be a folder, {log_dir} is a file")

    def on_loop_start(self, info: RunInfo) -> None:  # type: ignore[override]
        """Open the event files, one for each seed."""
        home = self.log_dir or (info.directory or Path.cwd()) / FOLDER
        folders = [home]
        if info.seeds > 1:
            folders = [home / f"seed-{seed}" for seed in range(info.seeds)]
        self._writers = []
        for seed, folder in enumerate(folders):
            there = len(list(folder.glob("events.out.tfevents.*")))
            purge = None
            if there:
                purge = 0
                if info.resumed_from is None:
                    _warn_of_others(folder)
                elif info.resumed_from[seed]:
                    purge = info.env_steps[seed] + 1
            # two sessions may begin within a second, which names the file
            writer = self._package.SummaryWriter(
                str(folder), purge_step=purge, filename_suffix=f".{there}"
            )
            if info.resumed_from is None:
                writer.add_text("config", _code(info.config), 0)
            self._writers.append(writer)

    def on_rounds(self, rounds: Rounds) -> None:
        """Write the rounds of a dispatch."""
        if self._writers:
            for seed, report in rounds:
                self._write(self._writers[seed], report)
            for writer in self._writers:
                writer.flush()

    def on_loop_stop(self) -> None:
        """Close the files."""
        while self._writers:
            self._writers.pop().close()

    def _write(self, writer: Any, report: StepReport) -> None:
        for tag, value in scalars(report).items():
            writer.add_scalar(tag, value, int(report.env_steps))


def _warn_of_others(folder: Path) -> None:
    warnings.warn(
        f"{folder} holds events of another run, which TensorBoard will not show any more "
        "in favour of this one; pass another log_dir to see both",
        RuntimeWarning,
        stacklevel=2,
    )


def _code(config: dict[str, Any]) -> str:
    """Return the configuration as TensorBoard's Markdown shows it."""
    text = json.dumps(config, indent=2, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())
