"""The calls of tensor-optix and what does the same: every row of the table runs."""

import re
import sys
import tomllib
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

import optix

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "MIGRATING.md").read_text()
QUICK = {
    "progress": False,
    "final_scores": 1,
    "evaluation_episodes": 1,
    "max_episodes": 1,
    "windows_per_round": 1,
}
APART = "optix_tensorflow"  # the block after which TensorFlow is needed, in its chapter
NONE = ("not yet", "(none)")


def parts():
    """Yield (line, whether TensorFlow is needed, a row's cells or the code of a block)."""
    block, apart = None, False
    for number, line in enumerate(TEXT.splitlines(), 1):
        if line.startswith("```"):
            if block is not None:
                apart = apart or APART in block
                yield number, apart, block
            block = "" if line == "```python" else None
        elif block is not None:
            block += f"{line}\n"
        elif line.startswith("## "):
            apart = False
        elif line.startswith("| ") and not line.startswith("| tensor-optix |"):
            yield number, apart, [cell.strip() for cell in line[1:-1].split(" | ")]


def run(names, apart):
    """Run the blocks and the rows, in their order, in `names`."""
    for number, needs, part in parts():
        code = part if isinstance(part, str) else re.match("`(.*?)`", part[1])
        code = code if isinstance(code, str) or code is None else code[1]
        if needs is not apart or code is None or code.startswith("pip "):
            continue
        try:
            exec(code, names)
        except Exception as error:
            error.add_note(f"before line {number} of MIGRATING.md: {code}")
            raise


def kinds(names, *wanted):
    return [type(names[name]).__name__ for name in wanted]


def test_every_row_names_a_call_and_says_what_does_the_same():
    rows = [(number, part) for number, _, part in parts() if isinstance(part, list)]
    assert len(rows) > 60
    calls = [cells[0] for _, cells in rows]
    assert len({*calls}) == len(calls) - 1  # `opt.run()` with callbacks too
    for number, cells in rows:
        assert len(cells) == 3 and cells[0].strip("`("), f"line {number}"
        assert cells[1].startswith(("`", *NONE)), f"line {number}: {cells[1]}"


def test_the_extras_that_are_to_be_installed_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = re.findall(rf"pip install {project['name']}(?:\[([\w,]+)\])?`", TEXT)
    extras = {extra for part in found for extra in part.split(",") if extra}
    assert len(found) >= 9 and extras >= {"torch", "tensorflow", "all"}
    assert extras <= set(project["optional-dependencies"])


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the rows have left behind."""
    for package in ("torch", "tensorboardX"):
        pytest.importorskip(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setitem(sys.modules, "wandb", MagicMock())  # it would ask its server
        patch.setattr(optix, "RLOptimizer", partial(optix.RLOptimizer, **QUICK))
        found = {"here": Path.cwd()}
        run(found, apart=False)
        yield found


def test_every_row_runs_and_does_what_its_left_side_says(names):
    made = [
        ("own", "TorchPPOAgent"),
        ("gaussian", "TorchGaussianPPOAgent"),
        ("recurrent", "TorchRecurrentPPOAgent"),
        ("dqn", "TorchDQNAgent"),
        ("rainbow", "TorchRainbowDQNAgent"),
        ("sac", "TorchSACAgent"),
        ("td3", "TorchTD3Agent"),
        ("flax", "FlaxPPOAgent"),
        ("chosen", "TorchSACAgent"),
        ("steady", "TorchTD3Agent"),
    ]
    for name, kind in made:
        assert type(names[name]).__name__ == kind
    assert names["mine"].rate == 0.2 and (names["mine"].weights == 0.1).all()
    assert names["batch"].window_steps == 200 and names["vector"].window_steps == 1600
    assert names["live"].lanes == 1
    assert names["stats"]["total_steps"] >= 512 and names["stats"]["restarts"] == 0
    assert names["result"].message == "the budget of rounds is spent"
    assert names["phase"] is optix.Phase.STOPPED
    assert names["best"].eval_metrics.episode_id == 0
    best, agent = names["opt"].best_snapshot, names["agent"]
    assert best.hyperparams["clip_ratio"] == agent.hyperparams["clip_ratio"]
    # the registry gave it back what the run had left
    again = type(agent).for_env(names["env"])
    again.load_weights(str(best.weights_path))
    for name, array in again.state().items():
        np.testing.assert_allclose(agent.state()[name], array, rtol=1e-6)
    assert names["optimizer"].lanes == 2 and names["tuned"].agent is agent
    tuners = [names[f"{name}_tuner"] for name in ("momentum", "backoff", "adaptive")]
    assert [tuner.lanes for tuner in (*tuners, names["pbt_tuner"])] == [2, 2, 2, 4]
    assert names["search"].agent is None  # until it runs
    probs = [one.action_probs(np.ones(4)) for one in names["ensemble"].agents]
    mean = (2 * probs[0] + probs[1]) / 3
    np.testing.assert_allclose(names["ensemble"].action_probs(np.ones(4)), mean)
    told = names["notes"].told
    assert told[0] == "on_loop_start" and told[-1] == "on_loop_stop"
    assert told.count("on_episode_end") == 1  # the second round
    assert list(Path(names["here"], "tb").glob("events*"))
    assert names["WandbCallback"](project="run").project == "run"
    assert names["normalized"].shape == (4,) and names["obs_norm"].count == 8
    assert names["rows"].obs["goal"].shape == (16,) and names["valid"].all()
    assert names["sample"].items.obs["at"].shape == (8,)
    assert [snapshot.step for _, snapshot in names["kept"]] == [0]
    assert names["registry"].best.score == 1.0 and names["regime"] == "trending"
