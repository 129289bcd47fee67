"""A path is data: no character of it is a pattern or an address to anyone."""

import os

import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointRegistry

PATHS = [
    "run[1]",
    "lr=[0.1,0.2]/seeds[0-9]",
    "weird[1]*?",
    "back\\slash",
    "[!a]",
    "{a,b}$HOME%41#x?y=1",
    "gs:",
    "file:",
    "s3:/bucket",
    "~",
    "a 'b' \"c\";&|",
    "new\nline\ttab\x01",
    "ünï漢",
    os.fsdecode(b"not utf8 \xff"),
    "per%cent {0} %s",
]


@pytest.mark.parametrize("name", PATHS)
def test_a_snapshot_can_be_read_back_whatever_its_folder_is_called(tmp_path, name):
    registry = CheckpointRegistry(tmp_path / name / "checkpoints", 2)
    tree = {"small": np.arange(5), "large": np.zeros(300_000, np.float32)}
    for step in range(3):  # prunes too
        registry.save(step, {**tree, "step": np.int32(step)}, float(-step))
    again = CheckpointRegistry(tmp_path / name / "checkpoints", 2)
    back, snapshot = again.load_latest({**tree, "step": np.int32(0)})
    assert back["step"] == 2 and (back["small"] == tree["small"]).all()
    assert str(snapshot.path) == str(tmp_path / name / "checkpoints" / "2")
    assert again.load_best({**tree, "step": np.int32(0)})[1].step == 0
    assert sorted(os.listdir(again.directory)) == ["0", "2"]


def test_the_folder_for_temporary_files_may_have_an_odd_name_too(tmp_path, monkeypatch):
    (tmp_path / "t[1]").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t[1]"))
    monkeypatch.setattr("tempfile.tempdir", None)
    registry = CheckpointRegistry(tmp_path / "run[1]")
    registry.save(0, {"w": np.arange(5)})
    assert registry.load(0, {"w": np.arange(5)})[0]["w"].tolist() == [0, 1, 2, 3, 4]
    assert os.listdir(tmp_path / "t[1]") == []


def test_no_link_is_left_behind(tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "plain"))
    registry = CheckpointRegistry(tmp_path / "run[1]")
    registry.save(0, {"w": np.arange(5)})
    registry.load(0, {"w": np.arange(5)})
    assert os.listdir(tmp_path / "plain") == []
    assert registry.steps() == [0]
