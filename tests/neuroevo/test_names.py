"""The table of old and new names: every call of the right column runs."""

import re
from pathlib import Path

import optix.neuroevo

TEXT = (Path(optix.neuroevo.__file__).parent / "README.md").read_text()


def rows():
    """The code of each row's second cell, with the number of its line."""
    for number, line in enumerate(TEXT.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 2 and cells[1].startswith("`"):
            yield number, re.match(r"`(.*?)`", cells[1]).group(1)


def test_every_row_runs():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, names)
    calls = list(rows())
    assert len(calls) >= 45
    for number, code in calls:
        try:
            exec(code, names)
        except Exception as error:
            error.add_note(f"in line {number} of the table: {code}")
            raise
    # and they do what the left column says
    assert names["ok"] and names["regime"] == "trending"
    assert names["graph"].capacity == 64
