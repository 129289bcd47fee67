"""What run.json says of a run: one schema, by which it is written and read."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optix import checks
from optix.checks import OptionError
from optix.files import replacing
from optix.types import MAX_INT32

FORMAT = 1
BUDGETS = ("max_rounds", "max_env_steps", "target_score")
_WORDS = ("inf", "-inf", "nan")  # numbers that JSON has none for
_REQUIRED = (
    *("format", "environment", "recipe", "seeds"),
    *("seed", "vectorize", "budgets", "platform"),
)


class RunFolderError(Exception):
    """A folder can not be used for what was asked; the message says what to do."""


def read(path: Path) -> dict[str, Any]:
    """Return what a description says, checked, with the values that were written.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        RunFolderError: it is damaged, or its format is another one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path} can not be read ({_said(error)}); restore it from a copy"
        ) from error
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is int and version != FORMAT:
        raise RunFolderError(
            f"{path} has format {version}, this version of optix reads "
            f"format {FORMAT}; use the version that wrote it"
        )
    try:
        config = checked(decoded(content))
        _check_sum(content)
        config.pop("checksum", None)
        return config
    except (ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path} can not be read ({_said(error)}); restore it from a copy"
        ) from error


def write(path: Path, config: Mapping[str, Any]) -> None:
    """Write a description atomically, with a checksum of all that it says."""
    content = encoded(config)
    _write(path, content | {"checksum": _checksum(content)})


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write another record of a run, atomically."""
    _write(path, encoded(content))


def checked(config: Any) -> dict[str, Any]:
    """Return a description whose entries are all there and of the right kind.

    Raises:
        OptionError: one is not; further ones are left as they are.
    """
    checks.record("the description", config, dict, "it names the entries of a run")
    for name in _REQUIRED:
        if name not in config:
            raise OptionError(f"{name} is missing")
    if type(config["format"]) is not int:
        raise OptionError(
            f"format must be the integer {FORMAT}, got {config['format']!r}"
        )
    _text_or_none("environment", config["environment"])
    _check_recipe(config["recipe"], config["environment"])
    check_seeds(config["seeds"], config["seed"])
    checks.record("vectorize", config["vectorize"], bool, "write true or false")
    if config.get("drop_stopped") is not None:
        checks.record("drop_stopped", config["drop_stopped"], bool, "null is for none")
    if "max_snapshots" in config:
        checks.positive_int("max_snapshots", config["max_snapshots"], minimum=2)
    for name in ("devices", "data_devices"):
        if name in config:
            checks.positive_int(name, config[name])
    checks.record("budgets", config["budgets"], dict, "write {} for none")
    check_budgets(config["budgets"])
    checks.record("platform", config["platform"], dict, "it names the versions")
    for name, value in config["platform"].items():
        checks.record(f"platform.{name}", value, str, "it is the name of a version")
    lost = config.get("memory_lost", ())
    checks.record("memory_lost", lost, tuple, "it lists checkpoints")
    objects = config.get("objects", ())
    checks.record("objects", objects, tuple, "it lists what is no name or number")
    for name in objects:
        checks.record("a name of objects", name, str, "it is a keyword of optix.make")
    for step in lost:
        checks.positive_int("a step of memory_lost", step, 0, 2**63 - 1)
    return config


def check_seeds(seeds: Any, seed: Any) -> None:
    """Raise OptionError unless both are integers that JAX can take."""
    for name, value, minimum, maximum in (
        ("seeds", seeds, 1, MAX_INT32),
        ("seed", seed, 0, 2**32 - 1),  # JAX would cut it off there
    ):
        checks.positive_int(name, value, minimum, maximum)


def check_budgets(budgets: Mapping[str, Any]) -> None:
    """Raise OptionError for an unknown budget or one that can not be spent."""
    checks.known_names("budget", budgets, BUDGETS)
    for name, value in budgets.items():
        if name == "target_score":
            checks.within(name, value, -math.inf, math.inf)
        else:
            checks.positive_int(name, value)


def encoded(value: Any) -> Any:
    """Return JSON for a value, from which `decoded` makes it again.

    NumPy's and JAX's numbers become Python's, tuples lists; a number that JSON has none
    for becomes {"float": "inf"}.

    Raises:
        TypeError: it is made of more than names, numbers, tuples and mappings.
    """
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value) or value.keys() == {
            "float"
        }:
            raise TypeError(f"{value!r} is no mapping of names")
        return {name: encoded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(entry) for entry in value]
    if hasattr(value, "dtype") and np.shape(value) == ():
        value = np.asarray(value).item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{value!r} is no name or number")


def decoded(value: Any) -> Any:
    """Return the value of which `encoded` made JSON, its lists as tuples.

    Raises:
        OptionError: a number that `encoded` would not have written so.
    """
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            if value["float"] not in _WORDS:
                raise OptionError(
                    f"a float must be of {_WORDS}, got {value['float']!r}"
                )
            return float(value["float"])
        return {name: decoded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return tuple(decoded(entry) for entry in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionError(f"{value} is not JSON")
    return value


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(content, indent=2, allow_nan=False).encode())


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_sum(content: dict[str, Any]) -> None:
    """Raise OptionError for entries that were not written with their checksum."""
    entries = {name: value for name, value in content.items() if name != "checksum"}
    if "checksum" in content and content["checksum"] != _checksum(entries):
        raise OptionError(
            "its entries do not match their checksum; if it was edited on purpose, remove "
            "the line of the checksum"
        )


def _check_recipe(recipe: Any, environment: Any) -> None:
    if recipe is None:
        return
    checks.record("recipe", recipe, dict, "null is for a run made of objects")
    for name, kind in (("environment", str), ("agent", str), ("options", dict)):
        if name not in recipe:
            raise OptionError(f"recipe.{name} is missing")
        checks.record(f"recipe.{name}", recipe[name], kind, "as optix.make takes it")
    if recipe["environment"] != environment:
        raise OptionError(
            f"environment must be that of the recipe, {recipe['environment']!r}, "
            f"got {environment!r}"
        )


def _text_or_none(name: str, value: Any) -> None:
    if value is not None:
        checks.record(name, value, str, "null is for a run made of objects")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
