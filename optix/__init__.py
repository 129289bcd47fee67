"""Autonomous training loops as pure JAX functions over immutable pytrees.

Reading order: `types` (the contracts), `math`, `networks`, `agents`, `envs`, `learners`,
`tuners`, `loop` (the autonomous run), `make` (where they meet), `train` (the driver).
"""

from optix.callbacks.base import LoopCallback, RunInfo
from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.host.agent import BaseAgent, EpisodeData, HyperparamSet
from optix.host.normalizers import ObsNormalizer, RewardNormalizer
from optix.host.regime import RegimeDetector
from optix.make import make, make_agent
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolderError
from optix.run.pause import Pause
from optix.run.result import Result
from optix.run.train import resume, train
from optix.types import Event, Phase, StopReason, Verdict

__all__ = [
    "BaseAgent",
    "CheckpointError",
    "CheckpointRegistry",
    "EpisodeData",
    "Event",
    "HyperparamSet",
    "LoopCallback",
    "ObsNormalizer",
    "Pause",
    "Phase",
    "RegimeDetector",
    "Result",
    "RewardNormalizer",
    "RunFolderError",
    "RunInfo",
    "StopReason",
    "Verdict",
    "evaluate",
    "make",
    "make_agent",
    "resume",
    "train",
]
