"""A long run from where a short one ended: the best trial of a search, or any run."""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from optix import checks
from optix.callbacks import wandb
from optix.files import folder_path
from optix.run import description, place
from optix.run.folder import RunFolder, RunFolderError
from optix.run.result import Result
from optix.run.train import rebuild, resume
from optix.trials import plan as plans
from optix.trials.lead import RESULT
from optix.trials.states import FOLDER
from optix.types import Loop

ROUNDS = 500  # as `optix.train` has them, where no budget is given


# what another run must not go on with: its lock, its end, its run at W&B
_ITS_OWN = (place.LOCK, "result.json", wandb.FILE)


def train_from(
    directory: str | os.PathLike,
    into: str | os.PathLike,
    loop: Loop | None = None,
    **options: Any,
) -> Result:
    """Go on from the best trial of a search, or from a run, in a folder of its own.

    With the whole state, weights, moments and normalisers, and with its configuration:
    as if the trial had never ended. What it came from stays as it is.

    Args:
        directory: of the search, or of a run; trials of a search are runs, too.
        into: the folder of the new run.
        loop: the loop of the run, needed only if it was made from objects.
        **options: of `optix.resume`: callbacks, and new budgets, which count the rounds
            and steps that were played; without one, 500 rounds.

    Raises:
        RunFolderError: no search and no run there, or a search without a best trial;
            `into` is no place for a run.
        OptionError: an unknown budget, or one that can not be spent.
    """
    target = folder_path("into", into)
    budgets = {name: options[name] for name in description.BUDGETS if name in options}
    description.check_budgets(budgets)
    if "max_rounds" not in budgets:
        options["max_rounds"] = ROUNDS
    source = best_run(directory)
    if target.resolve() == source.resolve():
        raise checks.OptionError(
            f"into must be another folder than that of the run, got {into}; "
            f"`optix resume {into}` goes on there"
        )
    if target.exists():
        if not target.is_dir():
            raise RunFolderError(f"{target} is a file; choose a folder for the run")
        place.must_be_empty(target)
    fresh = target.with_name(f".optix-{secrets.token_hex(8)}")
    try:
        with RunFolder.open(source, write=True) as folder:  # nobody may write meanwhile
            if loop is None and folder.config["recipe"] is None:
                rebuild(folder)  # says what must be passed
            shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(*_ITS_OWN))
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)  # appears whole
    except OSError as error:
        raise RunFolderError(
            f"{source} can not be copied to {target} ({error}); choose a folder that you "
            "may write to"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    copied = set(_states(target))
    try:
        return resume(target, loop, **options)
    except Exception:
        if set(_states(target)) == copied:  # refused: the next call finds no run there
            shutil.rmtree(target, ignore_errors=True)
        raise


def _states(run: Path) -> list[str]:
    """Return the names of a run's checkpoints."""
    states = run / "checkpoints"
    return os.listdir(states) if states.is_dir() else []


def best_run(directory: str | os.PathLike) -> Path:
    """Return the folder of the best trial of a search; that of a run as it is.

    Raises:
        RunFolderError: neither is there, or the search has no best trial yet.
    """
    path = folder_path("directory", directory)
    if not (path / plans.FILE).exists():
        if not (path / place.RUN).exists():
            raise RunFolderError(f"{path} holds neither a search nor a run of optix")
        return path
    file = path / RESULT
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        number = checks.positive_int("best.number", found["best"]["number"], 0)
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} has no best trial yet; `optix search --resume {path}` goes on"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{file} can not be read ({error}); `optix search --resume {path}` writes it "
            "anew"
        ) from error
    best = path / FOLDER / str(number)
    if not (best / place.RUN).exists():
        raise RunFolderError(
            f"{best}, the run of the best trial, is not there any more; restore it from "
            "a copy"
        )
    return best
