"""Checkpoints on disk: atomic, verified, without pickle."""

from optix.checkpoints.registry import (
    CheckpointError,
    CheckpointRegistry,
    CorruptCheckpointError,
    Snapshot,
)

__all__ = [
    "CheckpointError",
    "CheckpointRegistry",
    "CorruptCheckpointError",
    "Snapshot",
]
