"""A dispatch of rounds as arrays: the log's lines, and who is told of what."""

import json
import math
import time

import jax
import numpy as np
import pytest

from optix.callbacks import jsonl
from optix.callbacks.base import Hooks, LoopCallback, Rounds, RunInfo, checked
from optix.types import Event, Phase, StopReason, Verdict
from tests.callbacks.reports import report


def stacked(pairs):
    seeds, reports = zip(*pairs, strict=True)
    return Rounds(np.array(seeds), jax.tree.map(lambda *x: np.stack(x), *reports))


def several(seeds=3, rounds=4, lanes=2, **metrics):
    """Rounds with every kind of number that a log has met."""
    odd = [0.1, np.nan, np.inf, -np.inf, 1e-30, 1e30, 3.0, -0.0, 16777217.0]
    pairs = []
    for turn in range(rounds):
        for seed in range(seeds):
            one = report(
                turn,
                odd[(turn * seeds + seed) % len(odd)],
                Event((37 * turn + seed) % 512),
                Phase((turn + seed) % 4),
                StopReason(seed),
                rate=10.0 ** -(turn + seed),
                **{name: value + turn for name, value in metrics.items()},
            )
            scores = np.float32([one.score] * (lanes - 1) + [turn])
            pairs.append((seed, one._replace(lane_scores=scores)))
    return stacked(pairs)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def one_by_one(rounds, now):
    """The log's lines as they are defined: an object of Python numbers per round."""
    for seed, one in rounds:
        record = {
            "seed": seed,
            "round": int(one.round),
            "env_steps": one.env_steps,
            "score": one.score,
            "best_score": one.best_score,
            "lane_scores": one.lane_scores,
            "phase": Phase(int(one.phase)).name,
            "verdict": Verdict(int(one.verdict)).name,
            "events": [event.name for event in Event(int(one.events))],
            "stop_reason": StopReason(int(one.stop_reason)).name,
            "hyperparams": one.centre,
            "metrics": {name: float(value) for name, value in one.metrics.items()},
            "time": now,
        }
        yield json.dumps(plain(record), allow_nan=False) + "\n"


@pytest.mark.parametrize(
    "rounds",
    [
        several(),
        several(metrics_of_one=2.5),
        several(lanes=1, loss=np.nan, kl=1e-9),
        several(1, 1, 3, **{'100%s "x"': 1, "é, y": 2, "%": 3}),
    ],
    ids=["no metrics", "one", "not finite", "odd names"],
)
def test_lines_made_by_columns_are_the_lines_made_one_by_one(
    tmp_path, monkeypatch, rounds
):
    now = 1234567.25
    monkeypatch.setattr(time, "time", lambda: now)
    hooks = Hooks([jsonl.JsonlLog(tmp_path / "log")], [{"rate": 0.1}] * 3)
    hooks.start()
    hooks.rounds(rounds)
    hooks.stop()
    assert (tmp_path / "log").read_text() == "".join(one_by_one(rounds, now))


def test_a_dispatch_is_one_write_and_nothing_is_written_for_none(tmp_path):
    log = jsonl.JsonlLog(tmp_path / "log")
    hooks = Hooks([log], [{"rate": 0.1}] * 3)
    hooks.start()
    writes, file = [], log._file

    class Spy:
        def write(self, text):
            writes.append(text)
            file.write(text)

        flush, close = file.flush, file.close

    log._file = Spy()
    hooks.rounds(several(seeds=3, rounds=5))
    hooks.rounds(Rounds(np.zeros(0, int), several().reports))
    assert len(writes) == 1 and writes[0].count("\n") == 15
    hooks.stop()


class Asks(LoopCallback):
    def __init__(self):
        self.seen = []

    def on_episode_end(self, episode_id, eval_metrics):
        self.seen.append((episode_id, eval_metrics.seed))


class Batches:
    def __init__(self):
        self.sizes = []

    def on_rounds(self, rounds):
        self.sizes.append(len(rounds))


def test_objects_are_made_for_those_only_who_ask(monkeypatch):
    made = []
    monkeypatch.setattr(Hooks, "_round", lambda self, *pair: made.append(pair))
    batches = Batches()
    hooks = Hooks([batches, LoopCallback()], [{"rate": 0.1}] * 3)
    hooks.rounds(several())
    assert batches.sizes == [12] and not made
    Hooks([Asks()], [{"rate": 0.1}] * 3).rounds(several())
    assert len(made) == 12


def test_rounds_come_round_by_round_and_in_each_seed_by_seed():
    asks = Asks()
    Hooks([asks], [{"rate": 0.1}] * 3).rounds(several(rounds=2))
    assert asks.seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_batch_that_raises_is_named_and_the_others_are_told(caplog):
    class Broken:
        def on_rounds(self, rounds):
            raise RuntimeError("no")

    asks = Asks()
    Hooks([Broken(), asks], [{"rate": 0.1}] * 3).rounds(several())
    assert len(asks.seen) == 12
    assert "Broken.on_rounds raised" in caplog.records[0].message


INFO = RunInfo("CartPole-v1", "ppo", 2, 0, None, {}, None, ({"rate": 0.1},) * 2)


def test_the_start_hook_may_take_what_is_run(caplog):
    told = []

    class Old(LoopCallback):
        def on_loop_start(self):
            told.append("old")

    class New:
        def on_loop_start(self, info):
            told.append(info)

    class Optional:
        def on_loop_start(self, info=None):
            told.append(info)

    class Any:
        on_loop_start = staticmethod(lambda *arguments: told.append(arguments))

    class Keyword:
        def on_loop_start(self, *, loud=False):
            told.append(loud)

    Hooks([Old(), New(), Optional(), Any(), Keyword()], []).start(INFO)
    assert told == ["old", INFO, INFO, (INFO,), False] and not caplog.records


def test_an_error_in_a_hook_with_the_info_is_the_users_own(caplog):
    class Broken:
        def on_loop_start(self, info):
            raise TypeError("of its own")

    Hooks([Broken()], []).start(INFO)
    assert "of its own" in caplog.records[0].exc_text and len(caplog.records) == 1


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        (Asks(), "callbacks must be an iterable of callbacks.*got one Asks"),
        ([Asks], r"got the class Asks; pass Asks\(\)"),
        ([type("Odd", (), {"on_loop_stop": 3})()], "Odd.on_loop_stop must be a method"),
    ],
)
def test_what_is_no_list_of_callbacks_is_refused(callbacks, words):
    with pytest.raises(ValueError, match=words):
        checked(callbacks)
