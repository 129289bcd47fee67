"""How the end of a run is told."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from optix.callbacks.terminal import Stream
from optix.run.result import Result
from optix.types import StopReason


def ended(reasons, paused=None, directory=None, **hyperparams):
    seeds = len(reasons)
    values = {name: np.float32(value) for name, value in hyperparams.items()}
    state = SimpleNamespace(
        round=np.arange(seeds),
        env_steps=np.arange(seeds) * 1000,
        progress=SimpleNamespace(phase=np.zeros(seeds, int)),
        best=SimpleNamespace(hyperparams=values),
    )
    scores = np.zeros(seeds, np.float32)
    return Result(state, scores, reasons, 0, paused, 1.0, 1.0, directory)


def test_one_seed_is_not_several():
    reasons = (StopReason.CONVERGED, StopReason.MAX_ROUNDS, StopReason.MAX_ROUNDS)
    assert ended(reasons).message == (
        "1 seed: converged: the scores have been flat for long enough; "
        "2 seeds: the budget of rounds is spent"
    )


@pytest.mark.parametrize(
    ("paused", "words"),
    [
        ("SIGHUP", "paused by SIGHUP; continue"),
        ("max_seconds", "paused by max_seconds; continue"),
        ("the trial was pruned", "paused: the trial was pruned; continue"),
    ],
)
def test_why_a_run_is_paused(paused, words):
    message = ended((StopReason.RUNNING,), paused, "runs/a[x]").message
    assert message == f"{words} with `optix resume runs/a[x]`"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("width", [20, 200])
def test_the_table_on_any_stream(encoding, width):
    result = ended(
        (StopReason.CONVERGED, StopReason.MAX_ENV_STEPS),
        **{"net[red]x[/y]": [1, 1], "[bold]rate": [1, 2], "größe": [3, 4]},
    )
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Console(file=Stream(raw), width=width).print(result.table())
    text = raw.buffer.getvalue().decode(encoding)
    assert "…" not in text and "..." not in text
    if width == 200:
        assert "net[red]x[/y] 1" in text and "[bold]rate" in text
        assert ("größe" if encoding != "ascii" else "gr\\xf6\\xdfe") in text
