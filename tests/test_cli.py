"""The command line, as typed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from rich.table import Table

from optix.cli import _loggers_of, _parsed, _present, main
from optix.run.place import next_directory
from tests.callbacks.events import points

SMALL = [
    *("--set", "num_envs=4", "--set", "num_steps=8", "--set", "evaluation_episodes=2"),
    *("--set", "final_scores=1", "--set", "learning_rate=2e-3"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPTIX_COMPILATION_CACHE", "0")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of compiled programs as a user has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OPTIX_COMPILATION_CACHE")
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_disable_most_optimizations",
    )
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_disable_most_optimizations", True)
    compilation_cache.reset_cache()
    yield tmp_path / "cache" / "optix" / "jax"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_train_resume_and_eval(tmp_path, capsys, cache):
    assert (
        main(["train", "CartPole-v1", "--seeds", "2", "--max-rounds", "3", *SMALL]) == 0
    )
    out = capsys.readouterr().out
    assert "learning_rate 0.002" in out and "the budget of rounds is spent" in out
    assert "best score: of the best policy on unseen keys" in out
    assert len(re.findall(r"3 │ +96 │ stopped │ max rounds", out)) == 2
    folder = tmp_path / "runs" / "CartPole-v1-ppo-1"
    assert "learning curve: runs/CartPole-v1-ppo-1/curve.png" in out
    assert "checkpoints: runs/CartPole-v1-ppo-1/checkpoints" in out
    assert (folder / "curve.png").exists()
    assert len((folder / "log.jsonl").read_text().splitlines()) == 6
    options = json.loads((folder / "run.json").read_text())["recipe"]["options"]
    assert options["learning_rate"] == 2e-3 and options["num_envs"] == 4

    assert cache.stat().st_mode & 0o077 == 0  # nobody else's programs are executed
    compiled = {path.name for path in cache.iterdir() if "advance" in path.name}
    assert compiled

    assert main(["resume", str(folder), "--max-rounds", "5", "--no-progress"]) == 0
    assert compiled == {p.name for p in cache.iterdir() if "advance" in p.name}
    out = capsys.readouterr().out
    assert len(re.findall(r"5 │ +160 │ stopped │ max rounds", out)) == 2
    assert "steps/s" in out

    assert main(["eval", str(folder), "--episodes", "20"]) == 0
    out = capsys.readouterr().out
    found = re.search(
        r"score ([\d.]+) \(mean of 20 episodes\), sd ([\d.]+), 95 % confidence "
        r"interval \[([\d.]+), ([\d.]+)\]; policy of seed [01], round [0-4]",
        out,
    )
    mean, sd, low, high = map(float, found.groups())
    assert low < mean < high and sd > 0
    assert high - low == pytest.approx(2 * 2.093 * sd / 20**0.5, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "CartPol-v1"], "did you mean 'CartPole-v1'"),
        (["train", "CartPole-v1", "--agent", "pop"], "did you mean 'ppo'"),
        (["train", "CartPole-v1", "--set", "num_env=3"], "did you mean 'num_envs'"),
        (["train", "CartPole-v1", "--set", "num_envs"], "--set takes NAME=VALUE"),
        (["train", "CartPole-v1", "--set", "num_envs=0"], "num_envs must be"),
        (["train", "CartPole-v1", "--directory", "."], "holds something else (x)"),
        (["train", "CartPole-v1", "--max-seconds", "-1"], "max_seconds must be > 0"),
        (["resume", "nowhere"], "nowhere holds no run"),
        (["eval", "nowhere"], "nowhere holds no run"),
        (["eval", "nowhere", "--episodes", "1"], "episodes must be an integer >= 2"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, arguments, words):
    (tmp_path / "x").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("optix: ") and words in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert os.listdir(tmp_path) == ["x"]


def test_a_fault_keeps_its_traceback(monkeypatch):
    def broken(*args, **kwargs):
        return int("not a number")  # raised by Python, not by a check of ours

    monkeypatch.setattr("optix.cli.train", broken)
    # the frame of `broken` is in this module, which is not one of optix
    with pytest.raises(ValueError, match="not a number"):
        main(["train", "CartPole-v1"])


def test_unknown_flags_are_refused_by_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "CartPole-v1", "--max-round", "3"])
    assert stop.value.code == 2
    assert "--max-rounds" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("--seeds", "--directory", "--target-score", "--max-seconds", "--set"):
        assert name in text
    assert "reward" not in text


def test_settings_are_python_values_or_words():
    settings = ("a=1", "b=1e-3", "c=(64, 64)", "d=true", "e=None", "f=tanh", "g=x=y")
    assert _parsed(settings) == {
        **{"a": 1, "b": 1e-3, "c": (64, 64), "d": True},
        **{"e": None, "f": "tanh", "g": "x=y"},
    }


def test_directories_are_numbered_behind_all_others(tmp_path):
    assert str(next_directory("ALE/Pong-v5", "ppo")) == "runs/ALE-Pong-v5-ppo-1"
    for name in ("A-ppo-2", "A-ppo-10", "A-ppo-x", "A-dqn-50"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert str(next_directory("A", "ppo")) == "runs/A-ppo-11"


def test_names_of_users_are_printed_as_they_are(capsys):
    """No markup and no emoji, in paths, words and tables."""
    name = "net[relu]-1/x[/y] :smile: [bold]"
    table = Table("a[b]", caption=name)
    table.add_row(name)
    result = SimpleNamespace(
        table=lambda: table,
        message=f"about {name}",
        paused=None,
        seconds=1.0,
        steps_per_second=2.0,
        directory=Path(name),
        curve=Path(name) / "curve.png",
        hyperparams=Path(name) / "hyperparams.png",
    )
    assert _present(result) == 0
    out = capsys.readouterr().out
    assert f"hyperparameters: {name}/hyperparams.png" in out
    assert f"learning curve: {name}/curve.png" in out
    assert f"checkpoints: {name}/checkpoints" in out
    assert f"about {name}" in out and "a[b]" in out and out.count(name) == 6


def test_a_name_is_no_pattern_among_the_numbered(tmp_path):
    (tmp_path / "runs" / "[A]*-ppo-3").mkdir(parents=True)
    assert str(next_directory("[A]*", "ppo")) == "runs/[A]*-ppo-4"


PAUSED = """
import signal, sys
# whatever the tests were started by: an ignored signal pauses nothing
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from optix.callbacks.base import LoopCallback
from optix import cli
from optix.run.train import train

class Pause(LoopCallback):
    def on_episode_end(self, episode_id, eval_metrics):
        import os, signal
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

sys.path.insert(0, sys.argv[2])
from tests.supervised import supervised
cli.train = lambda name, agent, **rest: train(
    supervised(), callbacks=[Pause()], directory=rest["directory"], progress=False
)
sys.exit(cli.main(["train", "CartPole-v1", "--directory", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)]
)
def test_the_exit_code_tells_of_a_pause(tmp_path, name, code):
    root = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-c", PAUSED, name, root],
        env=os.environ | {"PYTHONPATH": root, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert f"paused by {name}; continue with `optix resume {name}`" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / name / "checkpoints" / "1").is_dir()


def test_loggers_go_on_with_a_resumed_run(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    lines, ids, module = [], [], ModuleType("wandb")
    run = SimpleNamespace(
        define_metric=lambda *names, **axes: None, log=lines.append, finish=list
    )
    module.init = lambda **keywords: ids.append(keywords["id"]) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    begin = ["train", "CartPole-v1", "--max-rounds", "1", "--directory", "run"]
    begin += ["--no-progress", *SMALL, "--set", "hidden=(4,)"]
    assert main([*begin, "--log", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'" in capsys.readouterr().err
    assert main([*begin, "--log", "tensorboard,wandb"]) == 0
    assert main(["resume", "run", "--max-rounds", "2", "--no-progress"]) == 0
    assert [line["env_steps"] for line in lines] == [32, 64] and len(set(ids)) == 1
    shown = points(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in shown["score"]] == [32, 64]
    monkeypatch.setitem(sys.modules, "wandb", None)
    begin[begin.index("run")] = "other"
    assert main([*begin, "--log", "wandb"]) == 2
    assert "tensor-optix-jax[wandb]" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert len(_loggers_of(tmp_path / "run")) == 1
    assert "the run goes on without it" in capsys.readouterr().err


def test_a_reader_that_is_gone_changes_no_exit_code():
    root = os.path.dirname(os.path.dirname(__file__))
    code = "import sys; from optix import cli;"
    code += "cli.evaluate = lambda *_, **__: type('', (), {'message': 'x' * 9});"
    code += "sys.exit(cli.main(['eval', 'somewhere']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
