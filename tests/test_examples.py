"""Every example runs, on a small budget."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {
    "vmapped_seeds": [2, 2],
    "compose": [20, 4, 8],
    "tune_any_function": [10],
    "supervised": [2],
    "grow_a_brain": [4, 3],
    "live_stream": [1, 5],
    "torch_agent": [256, 1],
    "sb3_agent": [1024, 1],
    "lunar_lander": [64, 1, 2, 32],
    "pong": [64, 1, 2, 32],
    "domain_randomisation": [1024, 2],
}
APART = {"tensorflow_agent"}  # run by tests/adapters/tensorflow
NEEDS = {
    "sb3_agent": "stable_baselines3",
    "lunar_lander": "Box2D",
    "pong": "ale_py",
}


def test_every_example_is_listed():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SMALL, *APART}


@pytest.mark.parametrize("name", SMALL)
def test_example(name, monkeypatch, capsys, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)  # where pictures are drawn
    monkeypatch.setattr(sys, "argv", [name, *map(str, SMALL[name])])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.strip()
