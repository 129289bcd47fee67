"""Every file of a run's folder, damaged in every way, and everyone who reads it.

The rule: what is damaged is told by name and done without where that is possible; where
it is not, that is an error, and nothing has been touched.
"""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from optix.checkpoints import store
from optix.checkpoints.record import _digest
from optix.checkpoints.registry import CheckpointError, CheckpointRegistry
from optix.checks import OptionError
from optix.loop.loop import loop
from optix.run import train as driver
from optix.run.evaluate import evaluate
from optix.run.folder import RunFolder, RunFolderError
from optix.run.train import resume, train
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

QUIET = {"progress": False, "checkpoint_seconds": 0.0}


def noisy(windows, key):
    return windows + jax.random.uniform(key)


@pytest.fixture(scope="module")
def run():
    options = {"max_rounds": 12, "final_scores": 1, "dormant_threshold": 10**6}
    return loop(scripted_learner(noisy), fixed(), **options)


@pytest.fixture(autouse=True, scope="module")
def quick(run):
    """The programs are compiled once, and no picture is drawn."""
    made, patch = driver.programs(run, False), pytest.MonkeyPatch()
    patch.setattr(driver, "programs", lambda *args: made)
    patch.setattr("optix.callbacks.curve.learning_curve", lambda *args: None)
    yield
    patch.undo()


class Whole:
    """The folder of a run that has ended, and what is right."""

    def __init__(self, run, directory):
        self.directory = directory
        self.result = train(run, directory=directory, **QUIET)
        (directory / "curve.png").write_bytes(b"a picture")
        self.played = evaluate(directory, 2, loop=run)
        self.best = sorted(int(p.name) for p in (directory / "best").iterdir())
        self.states = sorted(int(p.name) for p in (directory / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    return Whole(run, tmp_path_factory.mktemp("faults") / "run")


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole.directory, tmp_path / "run"))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def told(messages, path):
    """Whether a message names the path, or the snapshot that it is a part of."""
    places = [path, *[p for p in path.parents if p.name.isdigit()]]
    return any(str(place) in str(m) for m in messages for place in places)


def outcome(act, folder, path):
    """Return "error", "told" or "silent", and what was returned."""
    before = contents(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = act()
        except (RunFolderError, CheckpointError) as error:
            assert told([error], path), error
            assert contents(folder) == before
            return "error", None
    return ("told" if told([w.message for w in caught], path) else "silent"), result


def gone(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def a_folder(path):
    gone(path)
    path.mkdir()


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)


DAMAGE = {
    "missing": gone,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(
        path.read_bytes()[: -len(path.read_bytes()) // 2]
    ),
    "flipped": flipped,
    "other type": lambda path: path.write_text("[1]\n"),
    "text": lambda path: path.write_text("not this\n"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a folder": a_folder,
}


def check(folder, run, whole, path, reading, going_on):
    """Read, and go on, and compare with what is expected of both."""
    before = contents(folder)
    kind, played = outcome(lambda: evaluate(folder, 2, loop=run), folder, path)
    assert kind in reading, ("evaluate", kind)
    assert contents(folder) == before
    if kind == "silent":
        assert played.stored == whole.played.stored and played.final
        np.testing.assert_array_equal(played.scores, whole.played.scores)
    if kind == "told":
        assert played.stored != whole.played.stored  # another policy, and it is said
    kind, result = outcome(lambda: resume(folder, run, **QUIET), folder, path)
    assert kind in going_on, ("resume", kind)
    if kind != "error":  # from wherever it went on: bit for bit
        np.testing.assert_array_equal(result.state.curve, whole.result.state.curve)
        np.testing.assert_array_equal(result.scores, whole.result.scores)
        again = evaluate(folder, 2, loop=run)
        assert again.stored == whole.played.stored and again.final


SILENT, TOLD, ERROR = {"silent"}, {"told"}, {"error"}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("name", "reading", "going_on"),
    [
        ("run.json", ERROR, ERROR),
        ("log.jsonl", SILENT, TOLD),
        (".lock", SILENT, SILENT),
        ("result.json", SILENT, SILENT),  # it is written anew
        ("curve.png", SILENT, SILENT),
    ],
)
def test_files(folder, run, whole, name, damage, reading, going_on):
    path = folder / name
    DAMAGE[damage](path)
    if name == "run.json" and damage == "missing":
        path = folder  # it is no run at all
    if damage == "a folder":
        going_on = {"log.jsonl": ERROR, ".lock": ERROR, "result.json": TOLD}.get(
            name, going_on
        )
    check(folder, run, whole, path, reading, going_on)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_record_of_the_best(folder, run, whole, damage):
    path = folder / "best" / str(whole.best[-1]) / "record" / "metadata"
    DAMAGE[damage](path)
    check(folder, run, whole, path, TOLD, TOLD)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_record_of_the_last_checkpoint(folder, run, whole, damage):
    path = folder / "checkpoints" / str(whole.states[-1]) / "record" / "metadata"
    DAMAGE[damage](path)
    check(folder, run, whole, path, SILENT, TOLD)


@pytest.mark.parametrize("damage", ["missing", "torn", "flipped", "a folder"])
@pytest.mark.parametrize("registry", ["best", "checkpoints"])
def test_the_other_files_of_a_snapshot(folder, run, whole, registry, damage):
    """All at once would hide one: so each in turn, in a copy of its own."""
    snapshot = folder / registry / str(max(whole.best[-1], whole.states[-1]))
    either = SILENT | TOLD  # some hold nothing that is read
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    data = [path for path in files if path.parent.name == "d"]
    assert data
    for path in data[-1:] + [p for p in files if p not in data]:
        if path.parent.name == "record":
            continue
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        path = copy / path.relative_to(folder)
        DAMAGE[damage](path)
        reading = either if registry == "best" else SILENT
        going_on = either if registry == "checkpoints" else SILENT
        check(copy, run, whole, path, reading, going_on)
        shutil.rmtree(copy)


@pytest.mark.parametrize("damage", ["a file", "missing", "empty"])
@pytest.mark.parametrize("registry", ["best", "checkpoints"])
@pytest.mark.parametrize("part", ["all", "snapshot"])
def test_folders(folder, run, whole, registry, damage, part):
    path = folder / registry
    if part == "snapshot":
        path = path / str(max(whole.best[-1], whole.states[-1]))
    gone(path)
    if damage != "missing":
        path.write_text("") if damage == "a file" else path.mkdir()
    if part == "all":
        # without its policies a run plays on, for the state holds them as well
        going_on = SILENT if registry == "best" and damage != "a file" else ERROR
        check(
            folder, run, whole, path, ERROR if registry == "best" else SILENT, going_on
        )
    elif damage == "missing":  # as if it had been pruned: nobody can know
        assert resume(folder, run, **QUIET).scores == whole.result.scores
    else:
        kinds = (TOLD, TOLD) if registry == "best" else (SILENT, TOLD)
        check(folder, run, whole, path, *kinds)


def test_all_records_of_the_best_are_damaged(folder, run, whole):
    for path in folder.glob("best/*/record/metadata"):
        path.write_bytes(b"")
    kind, _ = outcome(lambda: evaluate(folder, 2, loop=run), folder, folder / "best")
    assert kind == "error"
    with pytest.warns(UserWarning, match="is damaged"):
        resume(folder, run, **QUIET)
    assert CheckpointRegistry(folder / "best").best.metadata["final"]


def test_all_checkpoints_are_damaged(folder, run, whole):
    for path in folder.glob("checkpoints/*/record/metadata"):
        path.write_bytes(b"")
    kind, _ = outcome(
        lambda: resume(folder, run, **QUIET), folder, folder / "checkpoints"
    )
    assert kind == "error"


def of_the_future(snapshot):
    record = store.read_record(snapshot)
    del record["sha256"]
    record["format"] = 2
    record["sha256"] = _digest(record)
    (snapshot / "record" / "metadata").write_text(json.dumps(record))


def test_a_future_format(folder, run, whole):
    newest = folder / "best" / str(whole.best[-1])
    of_the_future(newest)
    before = contents(newest)
    kind, played = outcome(lambda: evaluate(folder, 2, loop=run), folder, newest)
    assert kind == "told" and not played.final
    kind, _ = outcome(lambda: resume(folder, run, **QUIET), folder, newest)
    assert kind == "told" and contents(newest) == before  # intact, if not for us

    newest = folder / "checkpoints" / str(whole.states[-1])
    of_the_future(newest)
    kind, _ = outcome(lambda: resume(folder, run, **QUIET), folder, newest)
    assert kind == "error"
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    for act in (resume, evaluate):
        with pytest.raises(RunFolderError, match="has format 2.*reads format 1"):
            act(folder, loop=run)


WRONG = [None, True, -1, 1.5, 10**20, "x", [], {}, [1], {"a": 1}]
RIGHT = {  # what is right of `WRONG`, by its place
    "format": [],
    "environment": [None, "x"],
    "recipe": [None],
    "objects": [[]],
    "seeds": [],
    "seed": [],
    "vectorize": [True],
    "drop_stopped": [None, True, False],
    "max_snapshots": [],
    "devices": [],
    "data_devices": [],
    "budgets": [{}],
    "platform": [{}],
}


def test_entries_of_the_description(folder, run):
    """Each is missing, or of another type: an error that names it, and no more."""
    path = folder / "run.json"
    config = json.loads(path.read_text())
    config.pop("checksum")
    assert set(config) == set(RIGHT)
    for name in config:
        path.write_text(json.dumps({k: v for k, v in config.items() if k != name}))
        optional = "objects", "drop_stopped", "max_snapshots", "devices", "data_devices"
        if name not in optional:
            with pytest.raises(RunFolderError, match=rf"run.json.*{name}"):
                RunFolder.open(folder, write=False)
        for value in WRONG:
            path.write_text(json.dumps(config | {name: value}))
            if any(type(value) is type(r) and value == r for r in RIGHT[name]):
                RunFolder.open(folder, write=False)
                continue
            with pytest.raises(
                RunFolderError, match=rf"run.json.*({name.rstrip('s')}|recipe)"
            ):
                RunFolder.open(folder, write=False)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"format": "1"}, "format must be the integer 1, got '1'"),
        ({"budgets": {"max_round": 3}}, "did you mean 'max_rounds'"),
        ({"budgets": {"max_rounds": 0}}, "max_rounds must be an integer >= 1"),
        ({"budgets": {"target_score": float("nan")}}, "not JSON"),
        ({"budgets": {"target_score": {"float": "nan"}}}, "target_score must be"),
        ({"budgets": {"target_score": {"float": 3}}}, "must be of"),
        ({"recipe": {"environment": "E", "agent": "ppo"}}, "recipe.options is missing"),
        ({"memory_lost": 3}, "memory_lost must be"),
        ({"objects": [3]}, "a name of objects must be a str"),
        ({"platform": {"jax": 3}}, "platform.jax must be a str"),
        (
            {"recipe": {"environment": "E", "agent": "ppo", "options": {}}},
            "environment must be that of the recipe",
        ),
    ],
)
def test_what_an_entry_must_be_is_said(folder, entry, words):
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    with pytest.raises(RunFolderError, match=words):
        RunFolder.open(folder, write=True)


def test_a_number_that_was_changed_is_told(folder):
    path = folder / "run.json"
    config = json.loads(path.read_text())
    for entry in ({"seed": config["seed"] + 1}, {"checksum": "x"}, {"more": 1}):
        path.write_text(json.dumps(config | entry))
        with pytest.raises(RunFolderError, match="run.json.*match their checksum"):
            RunFolder.open(folder, write=False)
    config.pop("checksum")  # as the message says, and as earlier versions wrote it
    path.write_text(json.dumps(config | {"seed": config["seed"] + 1}))
    read = RunFolder.open(folder, write=False)
    assert read.config["seed"] == config["seed"] + 1 and "checksum" not in read.config


@pytest.mark.parametrize("name", ["run.json.tmp", "log.jsonl.tmp"])
def test_a_folder_where_a_file_is_written_is_named(folder, run, name):
    (folder / name).mkdir()
    with pytest.raises(OptionError, match=f"{name} must be a file to be written"):
        resume(folder, run, max_rounds=99, **QUIET)


def test_a_mistake_in_a_budget_touches_nothing(folder, run, whole):
    before = contents(folder)
    for budgets in (
        {"max_rounds": 10**11},
        {"max_rounds": 0},
        {"target_score": float("nan")},
        {"max_env_steps": 1.5},
        {"max_round": 3},
    ):
        with pytest.raises(ValueError, match="|".join(budgets)):
            resume(folder, run, **budgets)
    for options in ({"memory_every": 0}, {"checkpoint_seconds": -1}):
        with pytest.raises(ValueError, match="|".join(options)):
            resume(folder, run, **options)
    with pytest.raises(ValueError, match="unknown hook"):
        resume(folder, run, callbacks=[type("Odd", (), {"on_end": 0})()])
    assert contents(folder) == before
