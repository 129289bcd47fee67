"""The folder of a run: whose it is, its lock, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from optix.checkpoints.registry import CheckpointError
from optix.loop.loop import loop
from optix.run.folder import RunFolder, RunFolderError
from optix.tuners.fixed import fixed
from tests.toys import target_learner

CONFIG = {
    "environment": "Toy-v0",
    "recipe": None,
    "seeds": 1,
    "seed": 0,
    "vectorize": False,
    "budgets": {},
    "platform": {},
}


def test_a_new_folder_appears_with_its_description_in_it(tmp_path):
    path = tmp_path / "runs" / "deep" / "one"
    with RunFolder.create(path, CONFIG) as folder:
        assert folder.config == {"format": 1, **CONFIG}
        assert sorted(os.listdir(path)) == [".lock", "run.json"]
    assert os.listdir(path.parent) == ["one"]
    (tmp_path / "empty").mkdir()
    with RunFolder.create(tmp_path / "empty", CONFIG):
        assert (tmp_path / "empty" / "run.json").exists()
    assert RunFolder.open(path, write=False).config == {"format": 1, **CONFIG}


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    with RunFolder.create(path, CONFIG):
        words = rf"run is in use by another run \(process {os.getpid()}\)"
        with pytest.raises(RunFolderError, match=words):
            RunFolder.open(path, write=True)
        with pytest.raises(RunFolderError, match=r"holds a run already.*optix resume"):
            RunFolder.create(path, CONFIG)
        RunFolder.open(path, write=False)  # looking is allowed
    RunFolder.open(path, write=True).close()


def test_of_two_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    original = RunFolder._take_lock

    def late(self):
        monkeypatch.setattr(RunFolder, "_take_lock", original)
        RunFolder.create(tmp_path, CONFIG).close()  # the other one is quicker
        original(self)

    monkeypatch.setattr(RunFolder, "_take_lock", late)
    with pytest.raises(RunFolderError, match="holds a run already"):
        RunFolder.create(tmp_path, CONFIG)
    RunFolder.open(tmp_path, write=True).close()  # the refusal has given the lock back


HOLDER = """
import os, sys, time
from optix.run.folder import RunFolder
folder = RunFolder.open(sys.argv[1], write=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)  # the child is there, and has let the lock go
    time.sleep(30)
    os._exit(0)
time.sleep(30)
"""


def test_a_killed_process_leaves_no_lock_not_even_by_its_children(tmp_path):
    path = tmp_path / "run"
    RunFolder.create(path, CONFIG).close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(RunFolderError, match=f"process {holder.pid}"):
            RunFolder.open(path, write=True)
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives on
        RunFolder.open(path, write=True).close()
    finally:
        os.kill(child, 9)
        holder.stdout.close()


@pytest.mark.parametrize("name", ["notes.txt", "run.json.bak", "checkpoints"])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunFolderError, match=f"something else \\({name}\\).*empty"):
        RunFolder.create(tmp_path, CONFIG)
    assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(RunFolderError, match="holds no run.*optix train ENV"):
        RunFolder.open(tmp_path, write=True)


def test_what_can_not_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.create(tmp_path / "file", CONFIG)
    with pytest.raises(RunFolderError, match="can not write to .*below"):
        RunFolder.create(tmp_path / "file" / "below", CONFIG)
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.open(tmp_path / "nowhere", write=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": null'])
def test_a_damaged_description_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run.json can not be read.*from a copy"):
        RunFolder.open(tmp_path, write=True)


def test_a_newer_format_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(RunFolderError, match="has format 99.*reads format 1"):
        RunFolder.open(tmp_path, write=True)


def test_a_change_of_the_description_is_kept(tmp_path):
    with RunFolder.create(tmp_path / "run", CONFIG) as folder:
        folder.configure(budgets={"max_rounds": 7})
    config = RunFolder.open(tmp_path / "run", write=False).config
    assert config == {"format": 1, **CONFIG, "budgets": {"max_rounds": 7}}


def test_checkpoints_of_another_environment_are_refused(tmp_path):
    """Even where every shape is the same."""
    run = loop(target_learner(), fixed())
    init = jax.jit(lambda key: jax.lax.map(run.init, jax.random.split(key, 1)))
    state = init(jax.random.key(0))
    for name in ("Toy-v0", "Other-v0"):
        config = {**CONFIG, "environment": name}
        with RunFolder.create(tmp_path / name, config) as folder:
            folder.save(state, run, 0)
    shutil.rmtree(tmp_path / "Toy-v0" / "checkpoints")
    shutil.copytree(
        tmp_path / "Other-v0" / "checkpoints", tmp_path / "Toy-v0" / "checkpoints"
    )
    with RunFolder.open(tmp_path / "Toy-v0", write=True) as folder:
        with pytest.raises(CheckpointError, match="environment Other-v0.*is in Toy-v0"):
            folder.load_state(state, run)
        with pytest.raises(RunFolderError, match="no policy with a finite score yet"):
            RunFolder(tmp_path / "nowhere", CONFIG).load_best(state.best, run)


def test_only_a_new_best_policy_is_written(tmp_path):
    run = loop(target_learner(), fixed())
    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.jit(jax.vmap(run.init))(keys)
    with RunFolder.create(tmp_path / "run", CONFIG) as folder:
        folder.save(state, run, 0)
        assert folder.best.steps() == []  # nothing has been scored yet
        best = state.best._replace(score=jnp.float32([0.5, 0.25]))
        state = state._replace(round=state.round + 1, best=best)
        folder.save(state, run, 0)
        assert folder.best.steps() == [2]
        later = state._replace(round=state.round + 1)
        folder.save(later, run, 0)
        assert folder.best.steps() == [2] and folder.states.steps() == [0, 2, 4]
        best = later.best._replace(score=later.best.score.at[1].add(1.0))
        folder.save(later._replace(round=state.round + 2, best=best), run, 1)
        assert folder.best.steps() == [2, 6]
        target = jax.tree.map(lambda x: x[0], state.best)
        loaded, snapshot = folder.load_best(target, run)
        assert loaded.score == best.score[1] and snapshot.metadata["seed"] == 1
        assert loaded.policy.params["rate"] == best.policy.params["rate"][1]
