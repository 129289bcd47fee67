"""Reports of rounds, made by hand."""

import numpy as np

from optix.callbacks.base import Hooks
from optix.callbacks.jsonl import JsonlLog
from optix.types import Event, Phase, StepReport, StopReason, Verdict


def report(
    round_,
    score=0.0,
    events=Event.NONE,
    phase=Phase.ACTIVE,
    stop_reason=StopReason.RUNNING,
    rate=0.1,
    best_score=None,
    **metrics,
):
    """What a round of ten environment steps leaves, as NumPy scalars."""
    rate = np.float32(rate)
    return StepReport(
        round=np.int32(round_),
        env_steps=np.int32(10 * (round_ + 1)),
        score=np.float32(score),
        lane_scores=np.float32([score]),
        best_score=np.float32(score if best_score is None else best_score),
        hyperparams={"rate": rate[None]},
        centre={"rate": rate},
        phase=np.int32(phase),
        verdict=np.int32(Verdict.UNDECIDED),
        events=np.int32(events),
        stop_reason=np.int32(stop_reason),
        metrics={name: np.float32(value) for name, value in metrics.items()},
    )


def write_log(path, runs):
    """Write a log of [seed][round] reports as a run does."""
    hooks = Hooks([JsonlLog(path)], [{"rate": 0.1}] * len(runs))
    hooks.start()
    for seed, reports in enumerate(runs):
        for one in reports:
            hooks.round(seed, one)
    hooks.stop()
