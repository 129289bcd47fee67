"""What TensorBoard shows of a run, read back from its files."""

import sys

import numpy as np
import pytest

from optix.callbacks import TensorBoardCallback
from optix.callbacks.base import Hooks, RunInfo
from tests.callbacks.events import points
from tests.callbacks.reports import report

REASON = "tensorboardX is not installed: pip install 'tensor-optix-jax[tensorboard]'"


@pytest.fixture(autouse=True)
def there():
    pytest.importorskip("tensorboardX", reason=REASON)


def info(seeds=1, directory=None, rounds=None):
    """A run that begins, or goes on after `rounds` of ten environment steps."""
    return RunInfo(
        *("toy", "ppo", seeds, 0, directory, {"seed": 0}),
        resumed_from=None if rounds is None else (rounds,) * seeds,
        hyperparams=({"rate": 0.1},) * seeds,
        env_steps=(10 * (rounds or 0),) * seeds,
    )


def play(callback, told, scores, **metrics):
    """A session whose first round is behind those that `told` names."""
    hooks = Hooks([callback], [{"rate": 0.1}] * told.seeds)
    hooks.start(told)
    begin = 0 if told.resumed_from is None else told.resumed_from[0]
    for turn, score in enumerate(scores):
        for seed in range(told.seeds):
            hooks.round(seed, report(begin + turn, score + seed, **metrics))
    hooks.stop()


def test_a_round_is_a_point_at_its_environment_steps(tmp_path):
    play(TensorBoardCallback(tmp_path), info(), [1.0, 2.0], **{"return": 4.0})
    shown = points(tmp_path)
    assert shown["score"] == [(10, 1.0), (20, 2.0)]
    assert shown["metrics/return"] == [(10, 4.0), (20, 4.0)]
    assert shown["generalization_gap"] == [(10, 3.0), (20, 2.0)]
    assert shown["round"] == [(10, 1.0), (20, 2.0)]
    assert shown["hyperparameters/rate"] == [
        (10, np.float32(0.1)),
        (20, np.float32(0.1)),
    ]
    assert set(shown) == {
        *("score", "best_score", "generalization_gap", "phase", "round"),
        *("metrics/return", "hyperparameters/rate"),
    }


def test_what_is_not_finite_is_no_point(tmp_path):
    play(TensorBoardCallback(tmp_path), info(), [np.nan, 1.0], loss=np.inf)
    shown = points(tmp_path)
    assert shown["score"] == [(20, 1.0)] and "metrics/loss" not in shown


def test_seeds_have_folders_and_the_same_tags(tmp_path):
    play(TensorBoardCallback(tmp_path), info(seeds=2), [1.0])
    first, second = points(tmp_path / "seed-0"), points(tmp_path / "seed-1")
    assert (first["score"], second["score"]) == ([(10, 1.0)], [(10, 2.0)])
    assert set(first) == set(second) and not points(tmp_path)


@pytest.mark.parametrize("anew", [False, True])
def test_a_resumed_run_shows_no_point_twice(tmp_path, anew):
    """Four rounds, of which a kill lost two; both sessions in the same second."""
    callback = TensorBoardCallback(tmp_path)
    play(callback, info(), [1.0, 2.0, 3.0, 4.0])
    callback = TensorBoardCallback(tmp_path) if anew else callback
    play(callback, info(rounds=2), [30.0, 40.0, 50.0])
    assert points(tmp_path)["score"] == [
        *((10, 1.0), (20, 2.0)),
        *((30, 30.0), (40, 40.0), (50, 50.0)),
    ]


def test_a_seed_that_resumes_at_its_beginning_shows_only_what_follows(tmp_path):
    play(TensorBoardCallback(tmp_path), info(), [1.0, 2.0])
    play(TensorBoardCallback(tmp_path), info(rounds=0), [5.0])
    assert points(tmp_path)["score"] == [(10, 5.0)]


def test_another_run_in_the_folder_takes_its_place_and_says_so(tmp_path):
    play(TensorBoardCallback(tmp_path), info(), [1.0, 2.0])
    with pytest.warns(RuntimeWarning, match="events of another run"):
        play(TensorBoardCallback(tmp_path), info(), [7.0])
    assert points(tmp_path)["score"] == [(10, 7.0)]


def test_the_folder_is_that_of_the_run_or_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = TensorBoardCallback("logs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    play(relative, info(), [1.0])
    play(TensorBoardCallback(), info(directory=tmp_path / "run"), [2.0])
    play(TensorBoardCallback(), info(), [3.0])
    for place, score in (
        ("logs", 1.0),
        ("run/tensorboard", 2.0),
        ("elsewhere/tensorboard", 3.0),
    ):
        assert points(tmp_path / place)["score"] == [(10, score)]


def test_mistakes(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="log_dir must be a folder, .*file is a file"):
        TensorBoardCallback(tmp_path / "file")
    with pytest.raises(ValueError, match="log_dir must be the path of a folder.*got 3"):
        TensorBoardCallback(3)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"tensor-optix-jax\[tensorboard\]"):
        TensorBoardCallback(tmp_path)
