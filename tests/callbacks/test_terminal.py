"""What is shown of a run on streams that can not show everything."""

import io
import logging
import os
import re
import sys
import threading
import time

import numpy as np
import pytest
from rich.console import Console as Rich

from optix.callbacks.base import Hooks
from optix.callbacks.console import Console
from optix.callbacks.terminal import Stream, say, spelt
from tests.callbacks.reports import report
from tests.callbacks.test_console import a_state


def stream(encoding, terminal=False):
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    raw.isatty = lambda: terminal
    return raw


def written(raw):
    text = raw.buffer.getvalue().decode(raw.encoding)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def play(console, seeds=2, rounds=3):
    hooks = Hooks([console], [{"rate": 0.1}] * seeds)
    hooks.start()
    console._last = time.monotonic() - 1.0
    for turn in range(rounds):
        for seed in range(seeds):
            hooks.round(seed, report(turn, 3.0 + seed, best_score=5.0))
    console._first = (time.monotonic() - 5.0, 0, 0.0)  # so that a speed is shown
    return hooks


SIGNS = {
    "ascii": ("+-", "<="),
    "latin-1": ("±", "<="),
    "cp1252": ("±", "<="),
    "cp437": ("±", "≤"),
    "utf-8": ("±", "≤"),
}


@pytest.mark.parametrize("encoding", SIGNS)
@pytest.mark.parametrize("terminal", [False, True])
def test_progress_in_every_encoding(encoding, terminal, caplog, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    raw = stream(encoding, terminal)
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    console = Console(a_state(2), "net[red]x[/y] café :smile: 日本", raw)
    hooks = play(console)
    time.sleep(0.3)  # the thread draws
    hooks.stop()
    text = written(raw)
    assert not caplog.records and not died
    plus_minus, at_most = SIGNS[encoding]
    assert f"3.5 {plus_minus} 0.5" in text
    assert re.search(f"{at_most} \\d:\\d\\d left", text)
    assert "net[red]x[/y] caf" in text and ":smile:" in text


@pytest.mark.parametrize(("encoding", "dots"), [("ascii", "..."), ("utf-8", "…")])
@pytest.mark.parametrize("columns", [8, 40, 60])
def test_a_narrow_terminal_cuts_the_status(encoding, dots, columns, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    raw = stream(encoding, terminal=True)
    play(Console(a_state(2), "toy", raw)).stop()
    lines = [line for line in re.split(r"[\r\n]+", written(raw)) if line.strip()]
    assert lines and max(map(len, lines)) <= columns
    assert columns < 40 or any(dots in line for line in lines)


def test_an_error_while_drawing_is_told_once_and_the_thread_lives_on(
    caplog, monkeypatch
):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(a_state(1), "toy", stream("utf-8", terminal=True))
    console.status = lambda: 1 / 0
    hooks = Hooks([console], [{"rate": 0.1}])
    hooks.start()
    time.sleep(0.6)
    assert console._live._refresh_thread.is_alive()
    hooks.stop()
    assert [r.message for r in caplog.records if r.levelno == logging.ERROR] == [
        "the progress bar can not be drawn; the run goes on"
    ]


class Hangs(io.StringIO):
    """A pipe whose reader has gone."""

    encoding = "utf-8"

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("broken", ["closed", "pipe", "nothing"])
def test_a_stream_that_is_gone_costs_nothing(broken, terminal, caplog, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    raw = Hangs() if broken == "pipe" else io.StringIO()
    raw.isatty = lambda: terminal
    if broken == "nothing":
        monkeypatch.setattr(sys, "stdout", None)
    console = Console(a_state(1), "toy", None if broken == "nothing" else raw)
    hooks = play(console, seeds=1)
    if broken == "closed":
        raw.close()
    hooks.round(0, report(4, 1.0))
    hooks.stop()
    assert not caplog.records


def test_a_terminal_without_control_codes_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    raw = stream("utf-8", terminal=True)
    play(Console(a_state(1), "toy", raw), seeds=1).stop()
    assert "toy  3%  round 3/100" in written(raw)


def test_what_has_no_other_spelling_is_escaped():
    assert spelt("a ± b ≤ c … ü", "ascii") == "a +- b <= c ... \\xfc"
    assert spelt("a ± b ≤ c … ü", "utf-8") == "a ± b ≤ c … ü"
    assert spelt("name\udcff", "utf-8") == "name\\udcff"
    assert spelt("a ± b", "no such encoding") == "a +- b"
    assert spelt("a ± b", None) == "a ± b"


def test_a_message_reaches_any_stream(capsys):
    raw = stream("ascii")
    say("résumé ≤ 3", raw)
    assert written(raw) == "r\\xe9sum\\xe9 <= 3\n"
    raw.close()
    say("to nobody", raw)
    say("to nobody", None)


def test_rich_writes_to_a_stream_of_ours():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="ascii", closefd=False) as raw:
        Rich(file=Stream(raw)).print("┏━ ± … [b]x[/b]")  # no SystemExit of rich's
        assert Stream(raw).fileno() == write and not Stream(raw).isatty()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
    with pytest.raises(OSError, match="no descriptor"):
        Stream(None).fileno()
    assert np.isfinite(Stream(None).write("text"))
