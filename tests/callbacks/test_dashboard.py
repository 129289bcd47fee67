"""What the dashboard shows, with and without a terminal."""

import io

import numpy as np
import pytest

from optix.callbacks import RichDashboardCallback
from optix.callbacks import dashboard as module
from optix.callbacks.base import Hooks
from optix.callbacks.terminal import BARS, sparkline
from optix.types import Phase
from tests.callbacks.reports import report
from tests.callbacks.test_tensorboard import info


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Latin(io.TextIOWrapper):
    """A pipe of signs of one byte."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="latin-1")

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode("latin-1")


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    return now


def play(dashboard, clock, scores, told=None, seconds=1.0, **about):
    told = told or info()
    hooks = Hooks([dashboard], [{"rate": 0.1}] * told.seeds)
    hooks.start(told)
    for turn, score in enumerate(scores):
        clock[0] += seconds
        for seed in range(told.seeds):
            hooks.round(seed, report(turn, score + seed, best_score=9.0, **about))
    return hooks


def test_the_panel(clock):
    stream = Terminal()
    dashboard = RichDashboardCallback(stream=stream)
    play(dashboard, clock, [0.0, 7.0, np.nan, 3.0], phase=Phase.COOLING).stop()
    text = stream.getvalue()
    # ten steps a second
    for words in ("toy ppo", "cooling", "▁█ ▄", "rate 0.1", "10 steps/s", " 9 "):
        assert words in text
    assert "40 environment steps" in text and "0:04" in text


def test_without_a_terminal_a_line_now_and_then(clock):
    stream = io.StringIO()
    dashboard = RichDashboardCallback(stream=stream)
    play(dashboard, clock, np.arange(21.0), seconds=1.0).stop()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "toy ppo  round 1  score 0  best 9  active  rate 0.1"
    assert [line.split()[3] for line in lines] == ["1", "11", "21", "21"]
    assert lines[1].endswith("score 10  best 9  active  10 steps/s  rate 0.1")


def test_signs_that_the_stream_lacks_are_spelt():
    stream = Latin()
    dashboard = RichDashboardCallback(stream=stream)
    play(dashboard, [0.0], [1.0, 2.0])
    panel = dashboard._picture()
    dashboard._terminal.print(panel)
    assert "+-" in stream.text() and "18" in stream.text()


def test_seeds_have_rows_and_the_rest_is_counted(clock):
    stream = Terminal()
    dashboard = RichDashboardCallback(stream=stream)
    play(dashboard, clock, [1.0], info(seeds=14)).stop()
    text = stream.getvalue()
    assert "and 2 more seeds" in text
    assert dashboard.status().startswith("round 1  best 9  14/14 seeds running")


def test_another_run_begins_with_nothing(clock):
    dashboard = RichDashboardCallback(stream=io.StringIO())
    play(dashboard, clock, [1.0, 2.0]).stop()
    hooks = Hooks([dashboard], [{}])
    hooks.start(info(rounds=2))
    assert dashboard.status() == "no round yet"
    hooks.stop()


def test_a_panel_that_can_not_be_drawn_does_not_end_the_run(clock, caplog, monkeypatch):
    dashboard = RichDashboardCallback(stream=Terminal())
    monkeypatch.setattr(dashboard, "_picture", lambda: 1 / 0)
    play(dashboard, clock, [1.0, 2.0]).stop()
    told = [r for r in caplog.records if "can not be drawn" in r.message]
    assert len(told) == 1


def test_the_history_is_as_long_as_asked_for(clock):
    dashboard = RichDashboardCallback(history=3, stream=io.StringIO())
    play(dashboard, clock, np.arange(10.0))
    assert list(dashboard._scores[0]) == [7.0, 8.0, 9.0]
    with pytest.raises(ValueError, match="history must be an integer >= 1, got 0"):
        RichDashboardCallback(history=0)


def test_bars_are_as_high_as_their_values():
    """In the order of the values, the ends at both ends, whatever their size."""
    rng = np.random.default_rng(0)
    for scale in (1e-300, 1.0, 1e308):
        values = rng.uniform(-1, 1, 50) * scale
        heights = [BARS.index(bar) for bar in sparkline(values)]
        assert heights[values.argmin()] == 0 and heights[values.argmax()] == 7
        assert (np.diff(np.array(heights)[values.argsort()]) >= 0).all()
    assert sparkline([]) == ""


def test_each_actor_has_a_line(clock):
    figures = {"steps_per_second": [5200, 0], "policy_lag": [1, 8]}
    figures |= {"dropped": [0, 64], "restarts": [0, 2]}
    told = info()._replace(actors=lambda: {n: np.array(x) for n, x in figures.items()})
    stream = Terminal()
    play(RichDashboardCallback(stream=stream), clock, [0.0], told).stop()
    lines = [line.strip("│ ").split() for line in stream.getvalue().splitlines()]
    assert "steps/s" in stream.getvalue() and "restarts" in stream.getvalue()
    assert ["0", "5.2k", "1", "0", "0"] in lines
    assert ["1", "0", "8", "64", "2"] in lines
    plain = io.StringIO()
    play(RichDashboardCallback(stream=plain), clock, [0.0], told).stop()
    assert plain.getvalue().strip().endswith("2 actors lag 4.5  dropped 64  restarts 2")
