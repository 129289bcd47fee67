"""Autonomous training loops as pure JAX functions over immutable pytrees.

Reading order: `types` (the contracts), `math`, `networks`, `agents`, `envs`, `learners`,
`tuners`, `loop` (the autonomous run), `make` (where they meet), `train` (the driver).
"""

from optix.algorithms import make_agent
from optix.base_agent import BaseAgent, EpisodeData, HyperparamSet
from optix.callbacks.base import LoopCallback
from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.evaluation import evaluate
from optix.make import make
from optix.math.regime import RegimeDetector
from optix.normalizers import ObsNormalizer, RewardNormalizer
from optix.result import Result
from optix.run_folder import RunFolderError
from optix.train import resume, train
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
    "Phase",
    "RegimeDetector",
    "Result",
    "RewardNormalizer",
    "RunFolderError",
    "StopReason",
    "Verdict",
    "evaluate",
    "make",
    "make_agent",
    "resume",
    "train",
]
