"""Files of runs, by `optix.load` and the command; what stands in their way."""

import builtins
import json
import os
import re
import stat

import jax
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.cli import main
from optix.make import make
from optix.neuroevo.graph.build import layered
from optix.onnx import export_graph
from optix.onnx.file import save
from optix.run.folder import RunFolder
from optix.run.loaded_agent import LoadedAgent
from tests.numpy_agent import NumpyAgent
from tests.onnx.parity import TOLERANCE, Played, moved

onnx = pytest.importorskip("onnx")
SIZES = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "num_minibatches": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run as `optix.train` leaves it, of which nothing was trained."""
    recipe = {"environment": "Pendulum-v1", "agent": "ppo", "options": SIZES}
    config = {
        "environment": "Pendulum-v1",
        "recipe": recipe,
        "seeds": 1,
        "seed": 0,
        "vectorize": False,
        "drop_stopped": None,
        "budgets": {},
        "platform": {},
    }
    loop = make("Pendulum-v1", "ppo", **SIZES)
    state = jax.jit(jax.vmap(loop.init))(jax.random.split(jax.random.key(0), 1))
    best = state.best._replace(score=np.array([-321.5], np.float32))
    policy = best.policy._replace(params=moved(jax.device_get(best.policy.params)))
    path = tmp_path_factory.mktemp("runs") / "run"
    with RunFolder.create(path, config) as run:
        run.save_best(state._replace(best=best._replace(policy=policy)), loop, 0)
    return path


def test_the_command_writes_the_best_policy_of_a_run(folder, tmp_path, capsys):
    path = tmp_path / "policy.onnx"
    assert main(["export", str(folder), str(path)]) == 0
    assert f"{path}: the best policy of {folder}" in capsys.readouterr().out
    player, played = optix.load(folder), Played(path)
    obs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(
        played(observation=obs)["action"], player.act(obs), **TOLERANCE
    )
    assert played.about["agent"] == "ppo"
    assert played.about["environment"] == "Pendulum-v1"
    assert float(played.about["score"]) == pytest.approx(player.score, rel=1e-5)


def test_a_file_is_replaced_at_once_or_not_at_all(folder, tmp_path, monkeypatch):
    path = tmp_path / "policy.onnx"
    path.write_text("what was there")
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    player = optix.load(folder)
    with pytest.raises(ZeroDivisionError):
        player.export_onnx(path)
    assert path.read_text() == "what was there" and len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    player.export_onnx(str(path))
    onnx.checker.check_model(onnx.load(path))
    assert list(tmp_path.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_the_command_says_what_is_wrong(folder, tmp_path, capsys):
    wrong = {
        (str(tmp_path), "policy.onnx"): "no run",
        (str(folder), str(tmp_path / "none" / "policy.onnx")): "make .*none first",
        (str(folder), str(tmp_path)): "must name a file, got the folder",
    }
    for arguments, message in wrong.items():
        assert main(["export", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith("optix: ") and said.count("\n") == 1
        assert re.search(message, said), said


def test_a_run_without_a_best_policy_is_refused(tmp_path, folder, capsys):
    empty = tmp_path / "run"
    empty.mkdir()
    (empty / "run.json").write_text((folder / "run.json").read_text())
    assert main(["export", str(empty), str(tmp_path / "policy.onnx")]) == 2
    assert "finite score" in capsys.readouterr().err
    assert not (tmp_path / "policy.onnx").exists()


def without(name):
    original = builtins.__import__

    def refuse(module, *args, **kwargs):
        if module.split(".")[0] == name:
            raise ImportError(f"No module named {name!r}")
        return original(module, *args, **kwargs)

    return refuse


def test_a_missing_package_is_named(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtins, "__import__", without("onnx"))
    path = tmp_path / "policy.onnx"
    with pytest.raises(ImportError, match=r"needs the package onnx; .*\[onnx\]"):
        export_graph(layered(2, (2,), 1), path)
    assert main(["export", str(folder), str(path)]) == 2
    assert "tensor-optix-jax[onnx]" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("path", ["", None, 3])
def test_a_path_is_a_text(path):
    with pytest.raises(OptionError, match=r"path must name a file"):
        export_graph(layered(2, (2,), 1), path)


def test_a_model_that_is_wrong_is_not_written(tmp_path):
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 2])
    node = helper.make_node("Nothing", ["x"], ["y"])
    graph = helper.make_graph([node], "wrong", [value], [])
    with pytest.raises(onnx.checker.ValidationError):
        save(helper.make_model(graph), tmp_path / "wrong.onnx")
    assert not list(tmp_path.iterdir())


class Writing(NumpyAgent):
    """A host agent that writes a file of its own."""

    def export_onnx(self, path):
        assert isinstance(path, str)
        export_graph(layered(4, (2,), 2), path)


def test_a_host_agent_writes_its_own_file(tmp_path):
    loaded = LoadedAgent(Writing(), {}, 12.5)
    loaded.export_onnx(tmp_path / "policy.onnx")
    assert Played(tmp_path / "policy.onnx").about["score"] == "12.5"


def test_a_host_agent_that_can_not_says_so(tmp_path):
    loaded = LoadedAgent(NumpyAgent(), {}, 12.5)
    with pytest.raises(NotImplementedError, match="does not offer export_onnx"):
        loaded.export_onnx(tmp_path / "policy.onnx")
    assert not (tmp_path / "policy.onnx").exists()


def test_metadata_may_be_more_than_texts(tmp_path):
    about = {"numbers": [1, 2.5], "nothing": None}
    export_graph(layered(2, (2,), 1), tmp_path / "graph.onnx", about=about)
    said = Played(tmp_path / "graph.onnx").about
    assert json.loads(said["numbers"]) == [1, 2.5] and "nothing" not in said
