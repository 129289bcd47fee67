"""What the documents say is there, and their examples run."""

import importlib
import re
from functools import partial
from pathlib import Path

import pytest

import optix

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for top in (".", "optix", "tests", "adapters")
    for path in (ROOT / top).glob("*.md" if top == "." else "**/*.md")
)
GUIDE = ROOT / "optix" / "README.md"
TINY = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 2}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_a_document_points_to_exists(document):
    text, folder = (ROOT / document).read_text(), (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / target).exists(), target
    # a path in backticks starts at the top, or beside the document
    for path in re.findall(r"`((?:\w+/)+\w*(?:\.\w+)?)`", text):
        assert (ROOT / path).exists() or (folder / path).exists(), path
    # a module's name, up to the function in it
    for name in re.findall(r"`(?:python -m )?((?:optix|tests)(?:\.\w+)+)", text):
        place, _, last = name.rpartition(".")
        if not (ROOT / f"{name.replace('.', '/')}.py").exists():
            assert hasattr(importlib.import_module(place), last), name


def test_the_guide_passes_every_room_of_the_parts_and_the_names_it_says_are_there():
    text = GUIDE.read_text()
    for room in (ROOT / "optix").iterdir():
        name = room.name if room.suffix == ".py" else f"{room.name}/"
        if room.name not in ("__init__.py", "__pycache__") and room.suffix in (
            "",
            ".py",
        ):
            assert f"({name}" in text, name
    registry = importlib.import_module("optix.registry")
    for name in re.findall(r"`([A-Z]{4,})` in \[registry.py\]", text):
        assert hasattr(registry, name), name


def test_the_example_of_the_readme(monkeypatch):
    """Its 64 runs, each of a few tiny rounds."""
    tiny = partial(optix.make, max_rounds=1, final_scores=1, **TINY)
    monkeypatch.setattr(optix, "make", tiny)
    names = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    ):
        exec(block, names)
    best = names["states"].best
    assert best.score.shape == names["states"].stop_reason.shape == (64,)
    assert names["states"].curve.shape == (64, 1024)
