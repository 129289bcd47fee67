"""Agents and data outside JAX, in the same loop.

agent: the methods of a `BaseAgent`. window: the experience it learns from. pipelines,
vector: windows from Gymnasium environments. live, feed, items, boundaries: windows from a
stream that comes by itself. places, vector_envs, recorded: the copies of environments,
and what they give and take. learner: both behind the `Learner` record. playing: its
callbacks. slots: the host's half of its state, which is snapshots of weights, memories by
run and streams of episodes, packed into a checkpoint. told: what a window tells.
jax_agent: a JAX agent with the methods of a host agent, of jax_view, jax_programs,
jax_learning and jax_weights; flax_ppo: one of these; bound: such an agent in the loop.
ensemble: several agents that act as one. adapter: where agents of other frameworks are
found.
network_agent, proximal, replaying: what agents of networks are in every framework, PPO
and those with a replay. fitting, observing, bounds, numbers, weights: what these see, do,
count and keep. masked: action masks as they are handed over.
replay, priorities, advantages: their learning in NumPy. normalizers, regime: running
statistics for code outside JAX.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.host.agent import BaseAgent as BaseAgent
    from optix.host.agent import HyperparamSet as HyperparamSet
    from optix.host.agent import Memory as Memory
    from optix.host.agent import Pipeline as Pipeline
    from optix.host.ensemble import EnsembleAgent as EnsembleAgent
    from optix.host.feed import SourceEndedError as SourceEndedError
    from optix.host.feed import SourceStalledError as SourceStalledError
    from optix.host.flax_ppo import FlaxPPOAgent as FlaxPPOAgent
    from optix.host.jax_agent import as_base_agent as as_base_agent
    from optix.host.learner import host as host
    from optix.host.live import LivePipeline as LivePipeline
    from optix.host.normalizers import ObsNormalizer as ObsNormalizer
    from optix.host.normalizers import RewardNormalizer as RewardNormalizer
    from optix.host.pipelines import BatchPipeline as BatchPipeline
    from optix.host.regime import RegimeDetector as RegimeDetector
    from optix.host.vector import VectorBatchPipeline as VectorBatchPipeline
    from optix.host.window import EpisodeData as EpisodeData

export(
    globals(),
    {
        "agent": ("BaseAgent", "HyperparamSet", "Memory", "Pipeline"),
        "ensemble": ("EnsembleAgent",),
        "feed": ("SourceEndedError", "SourceStalledError"),
        "flax_ppo": ("FlaxPPOAgent",),
        "jax_agent": ("as_base_agent",),
        "learner": ("host",),
        "live": ("LivePipeline",),
        "normalizers": ("ObsNormalizer", "RewardNormalizer"),
        "pipelines": ("BatchPipeline",),
        "regime": ("RegimeDetector",),
        "vector": ("VectorBatchPipeline",),
        "window": ("EpisodeData",),
    },
)
