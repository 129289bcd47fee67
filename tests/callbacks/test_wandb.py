"""What Weights & Biases is told of a run, by a module in its place."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest

from optix.callbacks import WandbCallback
from tests.callbacks.test_tensorboard import info, play


class Run:
    def __init__(self, keywords):
        self.keywords, self.lines, self.axes, self.over = keywords, [], {}, False

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, values):
        assert not self.over
        self.lines.append(values)

    def finish(self):
        self.over = True


@pytest.fixture
def runs(monkeypatch):
    """The runs of W&B in the order of their beginning."""
    begun, module = [], ModuleType("wandb")
    module.init = lambda **keywords: begun.append(Run(keywords)) or begun[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return begun


def test_a_round_is_a_line_over_environment_steps(runs):
    callback = WandbCallback("mine", mode="offline", config={"note": "x"})
    play(callback, info(), [1.0, np.nan], **{"return": 3.0})
    (run,) = runs
    assert run.axes == {"env_steps": None, "*": "env_steps"} and run.over
    assert run.lines[0] == {
        "env_steps": 10,
        "score": 1.0,
        "best_score": 1.0,
        "generalization_gap": 2.0,
        "phase": 0.0,
        "round": 1.0,
        "metrics/return": 3.0,
        "hyperparameters/rate": np.float32(0.1),
    }
    assert run.lines[1]["env_steps"] == 20 and "score" not in run.lines[1]
    assert run.keywords["project"] == "mine" and run.keywords["mode"] == "offline"
    assert run.keywords["config"] == {"seed": 0, "note": "x"}


def test_seeds_are_told_apart(runs):
    play(WandbCallback(), info(seeds=2), [1.0])
    (run,) = runs
    assert run.axes["seed-1/*"] == "seed-1/env_steps"
    assert [line[f"seed-{k}/score"] for k, line in enumerate(run.lines)] == [1.0, 2.0]
    assert run.keywords["project"] == "optix"


def test_a_resumed_run_goes_on_in_the_same_one_and_logs_no_round_twice(runs, tmp_path):
    play(WandbCallback("mine"), info(directory=tmp_path), [1.0, 2.0, 3.0])
    play(WandbCallback(), info(directory=tmp_path, rounds=2), [30.0, 4.0])
    first, second = runs
    assert second.keywords["id"] == first.keywords["id"]
    assert second.keywords["resume"] == "allow"
    assert second.keywords["project"] == "mine"
    assert [line["score"] for line in first.lines + second.lines] == [1, 2, 3, 4]
    kept = json.loads((tmp_path / "wandb.json").read_text())
    assert kept == {"id": first.keywords["id"], "project": "mine", "rounds": [4]}


def test_another_run_is_another_one(runs, tmp_path):
    callback = WandbCallback(id="mine")
    play(callback, info(directory=tmp_path), [1.0])
    play(WandbCallback(), info(directory=tmp_path), [1.0])
    play(WandbCallback(), info(directory=tmp_path / ".", rounds=1), [2.0])
    ids = [run.keywords["id"] for run in runs]
    assert ids[0] == "mine" != ids[1] == ids[2]


def test_without_a_folder_the_object_remembers(runs):
    callback = WandbCallback()
    play(callback, info(), [1.0, 2.0])
    play(callback, info(rounds=2), [3.0])
    play(callback, info(), [9.0])
    play(callback, info(seeds=2, rounds=1), [9.0])
    ids = [run.keywords["id"] for run in runs]
    assert ids[0] == ids[1] and len(set(ids)) == 3
    assert [len(run.lines) for run in runs] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    "text", ["{", '{"id": 3, "project": "p", "rounds": [1]}', '{"id": "x"}']
)
def test_a_damaged_file_is_named_and_the_run_goes_on(runs, tmp_path, caplog, text):
    (tmp_path / "wandb.json").write_text(text)
    play(WandbCallback(), info(directory=tmp_path, rounds=1), [1.0, 2.0])
    assert not runs and len(caplog.records) == 1
    assert "wandb.json can not be read" in caplog.records[0].exc_text


def test_a_service_that_refuses_costs_nothing_but_its_log(runs, monkeypatch, caplog):
    def refuse(**keywords):
        raise RuntimeError("no key")

    callback = WandbCallback()
    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    play(callback, info(), [1.0, 2.0])
    assert [record.exc_info[1].args for record in caplog.records] == [("no key",)]


def test_mistakes(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    for wrong in (3, " "):
        with pytest.raises(ValueError, match="project must be the name of a project"):
            WandbCallback(wrong)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"tensor-optix-jax\[wandb\]"):
        WandbCallback("mine")
