"""Wrong calls, each of which is one clear error and leaves nothing behind."""

import json
import sys

import optuna
import pytest

from optix.checks import OptionError
from optix.loop.loop import loop
from optix.run.folder import RunFolderError
from optix.run.train import train
from optix.trials import plan as plans
from optix.trials.command import parsed_space
from optix.trials.lead import RESULT
from optix.trials.plan import FILE
from optix.trials.search import join_search, resume_search, search
from optix.trials.storages import SearchError, storage_at
from optix.trials.study import SEARCH, open_study
from optix.trials.train_from import train_from
from optix.tuners.fixed import fixed
from tests.toys import target_learner
from tests.trials.test_search import NOISY, SPACE

RATE = {"learning_rate": ("log_float", 1e-4, 1e-2)}
TINY = dict(num_envs=2, num_steps=8, hidden=(4,), progress=False)

WRONG = [
    (dict(space={"learning_rate": ("flat", 0, 1)}), "did you mean 'float'"),
    (dict(space={"learning_rate": ("log_float", 0, 1)}), "must begin above 0"),
    (dict(space={"learning_rate": ("float", 1, 0)}), "finite with low < high"),
    (dict(space={"learning_rate": ("int", 0.5, 4)}), "whole bounds"),
    (dict(space={"learning_rate": ("categorical",)}), "has no values"),
    (
        dict(space={"num_envs": ("categorical", [2, 4])}),
        r"write \('categorical', 2, 4\)",
    ),
    (dict(space={"learning_rate": 3}), "learning_rate in space is 3"),
    (dict(space={}), "space must be"),
    (dict(space={"learning_rat": ("float", 0, 1)}), "did you mean 'learning_rate'"),
    (dict(space={"gae_lambda": ("float", 0.1, 2.0)}), "gae_lambda must be in"),
    (
        dict(space={"discount": ("categorical", 0.9, "x")}),
        "must be numbers|discount must",
    ),
    (dict(space={"hidden": ("categorical", (4,), 0)}), "hidden must"),
    (dict(learning_rate=1e-3), "learning_rate is in the space and given besides"),
    (dict(max_rounds=5), "max_rounds is rounds= in a search"),
    (dict(learning_rat=1e-3), "unknown option 'learning_rat'"),
    (dict(trials=0), "trials must be an integer >= 1"),
    (dict(rounds=0), "rounds must be an integer >= 1"),
    (dict(slots=0), "slots must be an integer >= 1"),
    (dict(seeds=0), "seeds must be an integer >= 1"),
    (dict(seed=-1), "seed must be an integer >= 0"),
    (dict(confirm=-1), "confirm must be an integer >= 0"),
    (dict(repeats=0), "repeats must be an integer >= 1"),
    (dict(report_every=99), "report_every must be at most"),
    (dict(sampler="tp"), "did you mean 'tpe'"),
    (dict(sampler=3), "sampler must be one of"),
    (dict(pruner="medium"), "did you mean 'median'"),
    (dict(pruner=3), "pruner must be one of"),
    (dict(agent="pp"), "did you mean 'ppo'"),
    (dict(environment="CartPol-v1"), "CartPole-v1"),
    (dict(workers=0), "workers must be an integer >= 1"),
    (dict(workers="rai"), "workers must be an integer >= 1"),
    (dict(workers=2), "workers need a directory"),
    (dict(storage="trials.db"), "storage must be a URL"),
    (dict(max_seconds=-1), "max_seconds must be > 0"),
    (dict(progress="yes"), "progress must be True or False"),
    (dict(vectorize=1), "vectorize must be True or False"),
    (dict(environment=NOISY, space=SPACE, agent="ppo"), "agent is that of the loop"),
    (dict(environment=NOISY, space=None), "space must be given beside a loop"),
    (dict(environment=NOISY, space={"rat": ("float", 0, 1)}), "did you mean 'rate'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[m for _, m in WRONG])
def test_a_wrong_call_is_one_clear_error(given, message):
    noisy = given.get("environment") is NOISY
    tiny = {"progress": False} if noisy else TINY
    call = {"environment": "CartPole-v1", "space": RATE, **tiny, **given}
    if "hidden" in (call["space"] or ()):
        call.pop("hidden")
    with pytest.raises(OptionError, match=message):
        search(**call)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:9/0",
        "sqlite:////no/such/folder/trials.db",
        "grpc://nowhere",
        "mysql+nothing://x",
    ],
)
def test_a_storage_that_does_not_answer(url):
    with pytest.raises(SearchError, match="does not answer"):
        search(NOISY, SPACE, 2, 2, storage=url, progress=False)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(sampler=3),
        dict(sampler="cmaes"),
        dict(sampler="gp"),
        dict(pruner=3),
        dict(storage="trials.db"),
        dict(storage="sqlite:////no/such/folder/trials.db"),
    ],
    ids=str,
)
def test_a_call_that_was_refused_leaves_no_folder(tmp_path, monkeypatch, wrong):
    """One would keep the mistake: the call that is right would be another search."""
    for package in ("cmaes", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    call = dict(directory=tmp_path / "it", progress=False, confirm=0)
    with pytest.raises((OptionError, SearchError)):
        search(NOISY, SPACE, 1, 2, **call, **wrong)
    assert not (tmp_path / "it").exists()


def test_a_storage_keeps_searches_without_a_folder_apart(tmp_path):
    """They go on where they are asked for again, and never with the trials of others."""
    storage, call = optuna.storages.InMemoryStorage(), dict(progress=False, confirm=0)
    first = search(NOISY, SPACE, 1, 2, storage=storage, **call)
    other = {"rate": ("int", 0, 1)}
    second = search(NOISY, other, 2, 2, storage=storage, **call)
    assert all(isinstance(trial.params["rate"], int) for trial in second.trials)
    again = search(NOISY, SPACE, 2, 2, storage=storage, **call)
    assert len(again.trials) == 2 and again.trials[0] == first.trials[0]


def begun(path, **changes):
    """Make the folder of a search without playing one."""
    path.mkdir()
    about = dict(agent="ppo", trials=2, rounds=2, report_every=1, seeds=1, seed=0)
    about |= dict(confirm=0, repeats=1, sampler="tpe", pruner="none", **changes)
    options = {name: value for name, value in TINY.items() if name != "progress"}
    plans.create(path, plans.plan("CartPole-v1", RATE, options, **about), None)


def again(path, **changes):
    call = dict(trials=2, rounds=2, confirm=0, repeats=1, pruner="none", **TINY)
    return search("CartPole-v1", RATE, directory=path, **call | changes)


def test_a_folder_of_another_search_or_of_something_else(tmp_path):
    begun(tmp_path / "it")
    for changes, message in (
        (dict(rounds=3, report_every=1), "whose rounds is 2, got 3"),
        (dict(seed=1), "whose seed is 0, got 1"),
        (dict(num_envs=4), "whose options is"),
        (dict(storage="sqlite:///x.db"), "whose storage is None, got 'sqlite"),
    ):
        with pytest.raises(OptionError, match=message):
            again(tmp_path / "it", **changes)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(RunFolderError, match="holds something else .chapter"):
        again(tmp_path / "thesis")
    with pytest.raises(RunFolderError, match="can not write to"):
        again(tmp_path / "thesis" / "chapter")
    # a journal that is not of the search.json beside it
    searched = plans.read(tmp_path / "it")["plan"]
    storage = storage_at(tmp_path / "it", None)
    open_study(searched, storage, None, SEARCH, "another", SEARCH)
    with pytest.raises(
        SearchError, match="holds another search that is called 'search'"
    ):
        again(tmp_path / "it")


def test_a_list_that_became_a_tuple_on_the_disk_is_the_same_search(tmp_path):
    about = dict(agent="ppo", trials=2, rounds=2, report_every=1, seeds=1, seed=0)
    about |= dict(confirm=0, repeats=1, sampler="tpe", pruner="none")
    searched = plans.plan("CartPole-v1", RATE, {"hidden": [4]}, **about)
    plans.create(tmp_path, searched, None)
    there = plans.read(tmp_path)["plan"]
    plans.must_agree(tmp_path, searched, there)
    with pytest.raises(OptionError, match="whose options is"):
        plans.must_agree(tmp_path, searched._replace(options={"hidden": [5]}), there)


def test_folders_that_hold_no_search(tmp_path):
    for call in (resume_search, join_search):
        with pytest.raises(RunFolderError, match="holds no search of optix"):
            call(tmp_path, progress=False)
    with pytest.raises(RunFolderError, match="neither a search nor a run"):
        train_from(tmp_path, tmp_path / "long")
    begun(tmp_path / "it")
    with pytest.raises(RunFolderError, match="has no best trial yet"):
        train_from(tmp_path / "it", tmp_path / "long")
    with pytest.raises(OptionError, match="must be an integer >= 2"):
        resume_search(tmp_path / "it", 1)
    (tmp_path / "it" / RESULT).write_text(json.dumps({"best": {"number": 3}}))
    with pytest.raises(RunFolderError, match="is not there any more"):
        train_from(tmp_path / "it", tmp_path / "long")
    with pytest.raises(OptionError, match="max_rounds must be an integer"):
        train_from(tmp_path / "it", tmp_path / "long", max_rounds=0)
    record = json.loads((tmp_path / "it" / FILE).read_text())
    for damage, message in (
        ("{", "can not be read"),
        (json.dumps(record | {"format": 2}), "its format is 2"),
        (json.dumps({"format": 1}), "lacks 'plan'"),
        (json.dumps(record | {"plan": None}), "made from objects"),
    ):
        (tmp_path / "it" / FILE).write_text(damage)
        with pytest.raises(RunFolderError, match=message):
            join_search(tmp_path / "it", progress=False)


def test_a_long_run_that_was_refused_leaves_nothing(tmp_path):
    """So the next call, which passes what was missing, finds a place for it."""
    short = loop(target_learner(), fixed(), final_scores=2, max_rounds=1)
    train(short, directory=tmp_path / "run", progress=False)
    for wrong, message in (
        (dict(loop=None), "run can not be rebuilt by name"),
        (dict(max_round=3), "did you mean 'max_rounds'"),
        (dict(max_seconds=-1), "max_seconds must be > 0"),
        (dict(devices=99), "99"),
    ):
        with pytest.raises((RunFolderError, ValueError), match=message):
            call = {"loop": short, "progress": False, **wrong}
            train_from(tmp_path / "run", tmp_path / "long", **call)
        assert not (tmp_path / "long").exists()
    long = train_from(
        tmp_path / "run", tmp_path / "long", short, max_rounds=2, progress=False
    )
    assert long.state.round.tolist() == [2]


def test_what_space_takes_on_the_command_line():
    assert parsed_space(["hidden=categorical:(4,):(8,8)"]) == {
        "hidden": ("categorical", (4,), (8, 8))
    }
    for text in ("learning_rate", "learning_rate=", "=float:0:1", "a=float"):
        with pytest.raises(OptionError, match="--space takes"):
            parsed_space([text])
