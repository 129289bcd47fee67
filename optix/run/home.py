"""Where a run of `RLOptimizer` is kept: in a folder of the user's, or for a while."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from optix import checks
from optix.files import folder_path
from optix.run import description, place
from optix.run.description import RunFolderError

_TRIALS = "trials.json"


class Home:
    """The folder of a run.

    temporary: whether it goes with this object.
    """

    def __init__(self, directory: Any):
        """Take `directory`, or a temporary folder for None.

        Raises:
            ValueError: it is no path.
        """
        self.temporary = directory is None
        # a later change of the working folder must not move it
        self._path = (
            None
            if directory is None
            else Path(os.path.abspath(folder_path("checkpoint_dir", directory)))
        )
        self._parent: tempfile.TemporaryDirectory | None = None

    @property
    def path(self) -> Path:
        """The folder, which need not be there yet."""
        if self._path is not None:
            return self._path
        if self._parent is None:
            self._parent = tempfile.TemporaryDirectory(prefix="optix-")
        return Path(self._parent.name, "run")

    @property
    def holds_a_run(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.path / place.RUN).exists()

    def close(self) -> None:
        """Remove the folder if it is temporary."""
        if self._parent is not None:
            self._parent.cleanup()
            self._parent = None

    def note_trials(self, params: dict[str, Any]) -> None:
        """Write down the settings that trials have chosen."""
        description.write_record(self.path / _TRIALS, params)

    def chosen(self) -> dict[str, Any] | None:
        """Return the settings that trials have chosen for the run here, if they have.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not self.holds_a_run:
            return None
        file = self.path / _TRIALS
        try:
            params = json.loads(file.read_text(encoding="utf-8"))
            checks.record("trials", params, dict, "it names the values")
            return dict(description.decoded(params))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{file} can not be read ({error}); restore it from a copy, or start a "
                "new run in another folder"
            ) from error
