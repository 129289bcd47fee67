"""The example of a TensorFlow agent, on a small budget."""

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

EXAMPLE = Path(__file__).parents[3] / "examples" / "tensorflow_agent.py"


def test_the_example(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tensorflow_agent", "256", "1"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert " of 500" in capsys.readouterr().out
    assert (tmp_path / "policy.h5").exists()
