"""What the console says of a run, with and without a terminal."""

import io
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from optix.callbacks import console as module
from optix.callbacks.base import Hooks, Rounds
from optix.callbacks.console import Console
from optix.callbacks.display import diagnoses
from optix.types import Event, Phase, StopReason
from tests.callbacks.reports import report


class Terminal(io.StringIO):
    def isatty(self):
        return True


def a_state(seeds, rounds=0, max_rounds=100):
    return SimpleNamespace(
        limits=SimpleNamespace(
            max_rounds=np.full(seeds, max_rounds), max_env_steps=np.full(seeds, 4000)
        ),
        round=np.full(seeds, rounds),
        env_steps=np.full(seeds, 10 * rounds),
        progress=SimpleNamespace(phase=np.zeros(seeds, int)),
        best=SimpleNamespace(score=np.full(seeds, -np.inf)),
    )


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def play(console, clock, seeds=1, rounds=50, seconds=1.0):
    hooks = Hooks([console], [{"rate": 0.1}] * seeds)
    hooks.start()
    for round_ in range(rounds):
        clock[0] += seconds
        for seed in range(seeds):
            hooks.round(seed, report(round_, 3.0 + seed, best_score=5.0))
    return hooks


def test_what_diagnostics_found_is_said_in_a_line(clock):
    out = io.StringIO()
    console = Console(a_state(3), "toy", out)
    hooks = Hooks([console], [{"rate": 0.1}] * 3)
    hooks.start()
    both = Event.LOSS_SPIKE | Event.ROLLBACK
    hooks.rounds(
        Rounds(
            np.array([0, 1, 2]),
            jax.tree.map(
                lambda *x: np.stack(x),
                *(report(6, 1.0, e) for e in (both, both, Event.DIVERGENCE)),
            ),
        )
    )
    hooks.stop()
    lines = out.getvalue().splitlines()
    assert "round 7: loss spike in 2 of 3 seeds" in lines
    assert "round 7: divergence too high in 1 of 3 seeds" in lines
    alone = diagnoses(
        Rounds(np.array([0]), jax.tree.map(lambda x: x[None], report(0, 1.0, both))), 1
    )
    assert alone == ["round 1: loss spike"]


def test_round_score_best_phase_speed_and_time_left(clock):
    console = Console(a_state(1), "toy", io.StringIO())
    assert console.status() == "compiling"
    play(console, clock)
    # ten steps a second; 50 rounds of a second each are left
    assert console.status() == (
        "round 50/100  score 3  best 5  active  10 steps/s  ≤ 0:50 left"
    )


def test_the_budget_of_steps_counts_too(clock):
    state = a_state(1, max_rounds=10**6)
    console = Console(state, "toy", io.StringIO())
    play(console, clock, rounds=100)
    assert console.status().endswith("≤ 5:00 left")  # 3000 of 4000 steps


def test_several_seeds_are_summed_up(clock):
    console = Console(a_state(3), "toy", io.StringIO())
    hooks = play(console, clock, seeds=3)
    stopped = report(50, 5.0, phase=Phase.STOPPED, stop_reason=StopReason.CONVERGED)
    hooks.round(1, stopped)
    assert console.status().startswith(
        "round 51/100  score 4.333 ± 0.94  best 5  2/3 seeds running"
    )


def test_a_resumed_run_knows_seeds_that_have_stopped(clock):
    state = a_state(2, rounds=40)
    state.progress.phase[1] = Phase.STOPPED
    console = Console(state, "toy", io.StringIO())
    hooks = Hooks([console], [{"rate": 0.1}] * 2)
    hooks.start()
    for round_ in range(40, 70):
        clock[0] += 1.0
        hooks.round(0, report(round_, 3.0))
    assert "round 70/100" in console.status() and "1/2 seeds" in console.status()
    assert "≤ 0:30 left" in console.status()


def test_plain_lines_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    console = Console(a_state(1), "toy", stream)
    play(console, clock, rounds=35).stop()
    lines = stream.getvalue().splitlines()
    assert [re.search(r"round (\d+)", line)[1] for line in lines] == [
        *("1", "11", "21", "31"),
        "35",
    ]
    assert lines[-1].startswith("toy  35%  round 35/100  score 3")
    assert "\x1b" not in stream.getvalue()


def test_a_bar_in_a_terminal(clock):
    stream = Terminal()
    console = Console(a_state(1), "toy", stream)
    play(console, clock).stop()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "compiling" in text and "━" in text and "50%" in text
    assert "round 50/100" in text


def test_a_run_that_is_stopped_before_its_first_round():
    stream = io.StringIO()
    hooks = Hooks([Console(a_state(1), "toy", stream)], [{"rate": 0.1}])
    hooks.start()
    hooks.stop()
    assert "compiling" in stream.getvalue()
