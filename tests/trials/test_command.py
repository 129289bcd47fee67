"""`optix search` and `optix train --from`, as typed."""

import json
import re

import pytest

from optix.cli import main

SMALL = [
    *("--set", "num_envs=2", "--set", "num_steps=8", "--set", "hidden=(4,)"),
    *("--set", "evaluation_episodes=1", "--set", "final_scores=1"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPTIX_COMPILATION_CACHE", "0")


def test_search_resume_join_and_train_from(tmp_path, capsys):
    command = [
        "search",
        "CartPole-v1",
        "--trials",
        "2",
        "--rounds",
        "2",
        "--confirm",
        "1",
    ]
    command += [
        "--repeats",
        "1",
        "--space",
        "learning_rate=log_float:1e-4:1e-2",
        *SMALL,
    ]
    assert main(command) == 0
    folder = tmp_path / "runs" / "CartPole-v1-search-1"
    out = capsys.readouterr().out
    assert "2 trials: 2 complete; the best is trial" in out
    assert f"go on with `optix train --from {folder}`" in out
    plan = json.loads((folder / "search.json").read_text())["plan"]
    assert plan["space"] == {"learning_rate": ["log_float", 1e-4, 1e-2]}
    assert plan["options"]["hidden"] == [4]

    more = ["search", "--resume", str(folder), "--trials", "3", "--no-progress"]
    assert main(more) == 0
    assert "3 trials: 3 complete" in capsys.readouterr().out
    assert main(["search", "--join", str(folder), "--no-progress"]) == 0

    assert main(["train", "--from", str(folder), "--max-rounds", "4"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"4 │ +64 │ stopped │ max rounds", out)
    long = tmp_path / "runs" / f"from-{folder.name}-1"
    best = json.loads((folder / "search_result.json").read_text())["best"]
    options = json.loads((long / "run.json").read_text())["recipe"]["options"]
    assert options["learning_rate"] == best["params"]["learning_rate"]
    rounds = [json.loads(row)["round"] for row in (long / "log.jsonl").open()]
    assert rounds == [0, 1, 2, 3]  # it goes on; those of the trial come first
    # a trial is a run as any other one
    assert main(["eval", str(folder / "trials" / str(best["number"]))]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "search takes one of an environment, --resume DIR and --join"),
        (["search", "CartPole-v1", "--resume", "x"], "search takes one of"),
        (["search", "--join", "x", "--trials", "3"], "--join takes neither --trials"),
        (["search", "--resume", "x", "--agent", "ppo"], "take --agent from the search"),
        (["search", "--resume", "x", "--rounds", "9"], "take --rounds from the search"),
        (["search", "--join", "x", "--set", "a=1"], "take --set from the search"),
        (["search", "--join", "x", "--report-every", "2"], "take --report-every from"),
        (["search", "--resume", "x"], "x holds no search of optix"),
        (["search", "CartPole-v1", "--set", "trials=3"], "trials can not be --set"),
        (["search", "CartPole-v1", "--space", "learning_rate"], "--space takes"),
        (["train"], "train needs an environment"),
        (["train", "--from", "x"], "x holds neither a search nor a run"),
        (["train", "CartPole-v1", "--from", "x"], "--from takes environment, agent"),
        (["train", "--from", "x", "--set", "num_envs=2"], "--from takes environment"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_search_without_optuna_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(["search", "CartPole-v1"]) == 2
    assert "pip install 'tensor-optix-jax[search]'" in capsys.readouterr().err
