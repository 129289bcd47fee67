"""The log: one object per round and seed, cut where a resumed run goes on."""

import json
import tracemalloc
import warnings

import numpy as np
import pytest

from optix.callbacks.base import Hooks
from optix.callbacks.jsonl import JsonlLog, read_log
from optix.checks import OptionError
from optix.types import Event, Phase, StopReason
from tests.callbacks.reports import report


def write(path, rounds, seeds=2, kept=None):
    log = JsonlLog(path, kept)
    hooks = Hooks([log], [{"rate": 0.1}] * seeds)
    hooks.start()
    for round_ in rounds:
        for seed in range(seeds):
            hooks.round(seed, report(round_, round_ + seed / 10, loss=0.5))
    return hooks


def test_every_round_is_on_disk_at_once(tmp_path):
    hooks = write(tmp_path / "log", range(3))
    lines = (tmp_path / "log").read_text().splitlines()  # before the log is closed
    assert [(json.loads(x)["round"], json.loads(x)["seed"]) for x in lines] == [
        (round_, seed) for round_ in range(3) for seed in range(2)
    ]
    hooks.stop()
    record = json.loads(lines[-1])
    assert record["env_steps"] == 30 and record["metrics"] == {"loss": 0.5}
    assert record["phase"] == "ACTIVE" and record["events"] == []
    assert record["hyperparams"] == {"rate": pytest.approx(0.1)}


def test_words_and_numbers_that_json_has_none_for(tmp_path):
    hooks = Hooks([JsonlLog(tmp_path / "log")], [{"rate": 0.1}])
    hooks.start()
    events = Event.ROLLBACK | Event.NON_FINITE
    hooks.round(
        0,
        report(0, np.nan, events, Phase.STOPPED, StopReason.NON_FINITE, loss=-np.inf),
    )

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    record = json.loads((tmp_path / "log").read_text(), parse_constant=refuse)
    assert record["score"] is None and record["lane_scores"] == [None]
    assert record["metrics"] == {"loss": None}
    assert record["events"] == ["ROLLBACK", "NON_FINITE"]
    assert record["phase"] == "STOPPED" and record["stop_reason"] == "NON_FINITE"


def test_a_resumed_log_is_cut_to_the_checkpoint_and_goes_on(tmp_path):
    path = tmp_path / "log"
    write(path, range(5)).stop()
    with path.open("a") as file:
        file.write('{"seed": 0, "round": 5, "sco')  # killed in the middle of a line
    assert len(list(read_log(path))) == 10
    write(path, range(3, 6), kept=[3, 2]).stop()
    found = [(r["seed"], r["round"]) for r in read_log(path)]
    assert [r for s, r in found if s == 0] == [0, 1, 2, 3, 4, 5]
    assert [r for s, r in found if s == 1] == [0, 1, 3, 4, 5]
    assert path.read_text().endswith("}\n")
    write(path, range(1)).stop()  # a new run begins a new log
    assert len(list(read_log(path))) == 2


ODD = [
    "{}",
    "null",
    "3",
    "[1, 2]",
    '"text"',
    '{"seed": 99, "round": 1}',
    '{"seed": 0, "round": "1"}',
    '{"seed": -1, "round": 1}',
    '{"seed": true, "round": 1}',
    '{"seed": 0, "round": NaN}',
    "[" * 100_000,
    "1" * 5000,
    "no JSON at all \x00",
]


@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_lines_that_are_no_record_are_left_out(tmp_path, line):
    path = tmp_path / "log"
    write(path, range(3)).stop()
    before = path.read_text()
    path.write_text(line + "\n" + before + line + "\n")
    assert len(list(read_log(path))) == 6
    JsonlLog(path, [3, 3])
    assert path.read_text() == before


@pytest.mark.parametrize(
    "change",
    [{"seed": -1}, {"seed": 7}, {"round": -1}, {"score": "x"}, {"events": None}],
)
def test_records_of_nobody_are_left_out(tmp_path, change):
    path = tmp_path / "log"
    write(path, range(3)).stop()
    before = path.read_text()
    odd = json.loads(before.splitlines()[0]) | change
    path.write_text(json.dumps(odd) + "\n" + before)
    JsonlLog(path, [3, 3])
    assert path.read_text() == before


def test_rounds_that_are_missing_are_told(tmp_path):
    path = tmp_path / "log"
    write(path, range(3)).stop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JsonlLog(path, [3, 2])
    with pytest.warns(UserWarning, match="log lacks 5 of the rounds that were played"):
        JsonlLog(path, [5, 5])
    path.unlink()
    with pytest.warns(UserWarning, match="log lacks 10 of the rounds"):
        JsonlLog(path, [5, 5])


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(OptionError, match=f"{tmp_path} is a folder"):
        JsonlLog(tmp_path)
    assert not (tmp_path.parent / f"{tmp_path.name}.tmp").exists()


def test_an_old_log_is_not_held_in_memory(tmp_path):
    path = tmp_path / "log"
    write(path, range(1), seeds=1).stop()
    line = json.loads(path.read_text())
    with path.open("w") as file:
        for round_ in range(20_000):
            file.write(json.dumps(line | {"round": round_}) + "\n")
    tracemalloc.start()
    JsonlLog(path, [20_000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 10
    assert sum(1 for _ in read_log(path)) == 20_000
