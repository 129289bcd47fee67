"""The record of a snapshot: what is said of its arrays, and whether that is intact."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optix.checkpoints import store
from optix.checkpoints.index import unknown_keys

_FORMAT = 1


class CheckpointError(Exception):
    """A snapshot can not be written or read; the message names path and remedy."""


class CorruptCheckpointError(CheckpointError):
    """A snapshot is damaged: truncated, altered or incomplete."""


class ForeignFormatError(CheckpointError):
    """A snapshot was written by another version; it is not ours to remove."""


class Snapshot(NamedTuple):
    """What is known of a snapshot without its arrays."""

    step: int
    score: float | None  # None where none was given or it was not finite
    metadata: dict[str, Any]
    path: Path


def make_record(
    step: int,
    score: float | None,
    metadata: Mapping[str, Any] | None,
    leaves: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the record of a snapshot with its checksum, as JSON values."""
    record = {
        "format": _FORMAT,
        "step": step,
        "score": None if score is None or not math.isfinite(score) else float(score),
        "metadata": dict(metadata or {}),
        "leaves": leaves,
    }
    record = json.loads(json.dumps(record, allow_nan=False))
    return record | {"sha256": _digest(record)}


def read_record(path: Path, step: int) -> dict[str, Any]:
    """Return the verified record of the snapshot of a step.

    Raises:
        ForeignFormatError: another version wrote it.
        CorruptCheckpointError: it is damaged, or belongs to another step.
    """
    if not path.is_dir():
        what = "it is not a folder" if os.path.lexists(path) else "it is missing"
        raise corrupt(path, what)
    try:
        record = store.read_record(path)
        found, version = record.pop("sha256"), record["format"]
    except Exception as error:
        raise corrupt(path, first_line(error)) from error
    if found != _digest(record):
        raise corrupt(path, "its record fails the checksum")
    if version != _FORMAT:
        raise ForeignFormatError(
            f"{path} has format {version}, this version of optix reads "
            f"format {_FORMAT}; use the version that saved it"
        )
    if record["step"] != step:
        raise corrupt(path, f"its record is of step {record['step']}")
    return record


def check_keys(leaves: list[dict[str, Any]], path: Path) -> None:
    """Raise CheckpointError for a PRNG key that could not be made from its data."""
    unknown = unknown_keys(leaves)
    if unknown is not None:
        raise CheckpointError(
            f"{path}: {unknown['path']} is a PRNG key of the implementation "
            f"{unknown['prng']!r}, which JAX knows by no name here; keep keys of "
            "jax.random.key in what is saved"
        )


def corrupt(path: Path, what: str) -> CorruptCheckpointError:
    """Return the error of a damaged snapshot."""
    return CorruptCheckpointError(
        f"{path} is damaged ({what}); remove it, or restore it from a copy"
    )


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    )


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
