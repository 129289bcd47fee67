"""Autonomous training loops as pure JAX functions over immutable pytrees.

In the order of reading, each importing only what is above it: `types` (the contracts),
`exports`, `checks`, `forms`, `param_space`, `words`, `trees`, `xla`, `math`; `networks`,
`buffers`, `checkpoints`, `distributed` (devices); `agents`, `envs`, `learners`, `tuners`,
`loop` (the autonomous run), `callbacks`, `neuroevo`; `population` (runs of runs, and
several policies as one); `onnx` (policies as files); `host` (agents outside JAX);
`registry` (every name), `make` (where the parts meet), `run` (the driver), `trials`
(searches), `cli` and `__main__` (the command). `optix/README.md` follows a round through
them.
"""

from optix.callbacks.base import LoopCallback, PolicySnapshot, RunInfo
from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.ensemble import EnsembleAgent
from optix.host.flax_ppo import FlaxPPOAgent
from optix.host.jax_agent import as_base_agent
from optix.host.normalizers import ObsNormalizer, RewardNormalizer
from optix.host.regime import RegimeDetector
from optix.host.window import EpisodeData
from optix.loop.diagnostics import diagnostics
from optix.make import make, make_agent
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolderError
from optix.run.load import LoadedPolicy, load
from optix.run.loaded_agent import LoadedAgent
from optix.run.members import load_average, load_ensemble
from optix.run.pause import Pause
from optix.run.play import play
from optix.run.result import Result
from optix.run.rl_optimizer import RLOptimizer
from optix.run.train import resume, train
from optix.trials.record import SearchResult
from optix.trials.search import join_search, resume_search, search
from optix.trials.storages import SearchError
from optix.trials.train_from import train_from
from optix.types import Event, Phase, StopReason, Verdict

__all__ = [
    "BaseAgent",
    "CheckpointError",
    "CheckpointRegistry",
    "EnsembleAgent",
    "EpisodeData",
    "Event",
    "FlaxPPOAgent",
    "HyperparamSet",
    "LoadedAgent",
    "LoadedPolicy",
    "LoopCallback",
    "ObsNormalizer",
    "Pause",
    "Phase",
    "PolicySnapshot",
    "RLOptimizer",
    "RegimeDetector",
    "Result",
    "RewardNormalizer",
    "RunFolderError",
    "RunInfo",
    "SearchError",
    "SearchResult",
    "StopReason",
    "Verdict",
    "as_base_agent",
    "diagnostics",
    "evaluate",
    "join_search",
    "load",
    "load_average",
    "load_ensemble",
    "make",
    "make_agent",
    "play",
    "resume",
    "resume_search",
    "search",
    "train",
    "train_from",
]
