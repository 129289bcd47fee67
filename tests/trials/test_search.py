"""Searches of a learner whose score is known: `1 - (rate - 0.8)**2`, rounds apart."""

import json
import math

import numpy as np
import optuna
import pytest

from optix.callbacks.base import LoopCallback
from optix.callbacks.jsonl import read_log
from optix.loop.loop import loop
from optix.run.folder import RunFolderError
from optix.run.pause import Pause
from optix.trials.pruning import STARTUP
from optix.trials.search import search
from optix.trials.storages import SearchError
from optix.trials.train_from import best_run, train_from
from optix.trials.worker import Worker
from optix.tuners.fixed import fixed
from tests.toys import target_learner

SPACE = {"rate": ("float", 0.1, 2.0)}
ROUNDS = 10


NOISY = loop(
    target_learner(noise=0.1, fails_above=1.8),
    fixed(),
    final_scores=2,
    max_non_finite=2,
)


def play(made=NOISY, space=SPACE, trials=12, **options):
    return search(
        made, space, trials, ROUNDS, **{"progress": False, "slots": 3, **options}
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search that is kept, two seeds a trial."""
    directory = tmp_path_factory.mktemp("search") / "it"
    result = play(directory=directory, seeds=2, confirm=2, repeats=2, trials=14)
    return directory, result


def test_the_best_is_near_the_optimum_and_confirmed_on_fresh_keys(found):
    _, result = found
    assert abs(result.params["rate"] - 0.8) < 0.5
    assert len(result.trials) == 14 and result.paused is None
    confirmed = [trial for trial in result.trials if trial.confirmed]
    assert len(confirmed) == 2 and all(len(t.confirmed) == 2 for t in confirmed)
    best = max(confirmed, key=lambda trial: np.mean(trial.confirmed))
    assert best == result.best and result.score == np.mean(best.confirmed)
    for trial in confirmed:  # near the truth, and not the scores that chose it
        truth = 1 - (trial.params["rate"] - 0.8) ** 2
        assert np.allclose(trial.confirmed, truth, atol=0.4)
        assert len({trial.score, *trial.confirmed}) == 3


def test_what_is_not_a_number_fails_and_what_is_hopeless_is_pruned(found):
    directory, result = found
    states = {trial.state for trial in result.trials}
    assert states == {"COMPLETE", "PRUNED", "FAIL"}
    for trial in result.trials:
        assert (trial.state == "FAIL") == (trial.params["rate"] > 1.8)
        if trial.state == "FAIL":
            assert trial.error.startswith("run 0 of 2: ") and "NaN" in trial.error
            assert 0 < trial.rounds <= 2 * ROUNDS
        if trial.state == "PRUNED":
            assert trial.rounds < 2 * ROUNDS and trial.rounds >= 2 * 2  # the warm-up
            assert trial.env_steps == 10 * trial.rounds
        if trial.state == "COMPLETE":
            assert trial.rounds == 2 * ROUNDS
    assert 0 < result.saved < 1
    lost = sum(2 * ROUNDS - t.rounds for t in result.trials if t.state == "PRUNED")
    assert result.saved == pytest.approx(lost / (14 * 2 * ROUNDS))
    # the journal is one of Optuna's, as optuna-dashboard opens it
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(directory / "study.journal"))
    )
    study = optuna.load_study(study_name="search", storage=storage)
    assert [t.state.name for t in study.trials] == [t.state for t in result.trials]
    reported = [t for t in study.trials if t.intermediate_values]
    assert len(reported) > STARTUP


def test_what_is_kept(found):
    directory, result = found
    names = {path.name for path in directory.iterdir()}
    assert names >= {"history.png", "parallel.png", "importances.png", "search.json"}
    order = sorted(
        (t for t in result.trials if t.state == "COMPLETE"), key=lambda t: -t.score
    )
    kept = {int(path.name) for path in (directory / "trials").iterdir()}
    assert kept == {trial.number for trial in order[:2]}
    said = json.loads((directory / "search_result.json").read_text())
    assert said["best"]["number"] == result.best.number
    assert said["message"] == result.message
    assert result.table().row_count == min(10, len(order))


def test_a_search_that_is_over_says_so_again_and_more_trials_go_on(found):
    directory, result = found
    again = play(directory=directory, seeds=2, confirm=2, repeats=2, trials=14)
    assert again.trials == result.trials and again.best == result.best
    more = play(directory=directory, seeds=2, confirm=2, repeats=2, trials=15)
    assert more.trials[:14] == tuple(
        now._replace(confirmed=now.confirmed) for now in more.trials[:14]
    )
    assert [t.params for t in more.trials[:14]] == [t.params for t in result.trials]
    assert len(more.trials) == 15
    drawn = [trial.params["rate"] for trial in more.trials]
    assert len(set(drawn)) == 15  # nothing is drawn a second time


@pytest.mark.filterwarnings("error")  # nothing is missing from its log
def test_the_long_run_goes_on_from_the_whole_state_of_the_best_trial(found, tmp_path):
    directory, _ = found
    best = json.loads((directory / "search_result.json").read_text())["best"]
    logged = best_run(directory) / "wandb.json"
    logged.write_text("{}")  # of a run at W&B that another run must not go on with
    seen = []

    class Note(LoopCallback):
        def on_rounds(self, rounds):
            seen.extend(rounds.reports.round.tolist())
            assert np.allclose(rounds.reports.centre["rate"], best["params"]["rate"])

    result = train_from(
        directory,
        tmp_path / "long",
        NOISY,
        max_rounds=ROUNDS + 3,
        callbacks=[Note()],
        progress=False,
    )
    assert sorted(seen) == [
        ROUNDS,
        ROUNDS,
        ROUNDS + 1,
        ROUNDS + 1,
        ROUNDS + 2,
        ROUNDS + 2,
    ]
    assert np.asarray(result.state.round).tolist() == [ROUNDS + 3] * 2
    assert not (tmp_path / "long" / logged.name).exists()
    # the log begins with the trial's own rounds, and the long run's follow
    trial, long = (
        [(x["round"], x["seed"], x["score"]) for x in read_log(path / "log.jsonl")]
        for path in (best_run(directory), tmp_path / "long")
    )
    both = [(round, seed) for round in range(ROUNDS + 3) for seed in range(2)]
    assert sorted(where[:2] for where in long) == both
    assert sorted(trial) == sorted(long)[: 2 * ROUNDS]
    curves = np.asarray(result.state.curve)  # of the state, which has every round
    assert np.array_equal(
        [[score for _, s, score in sorted(long) if s == seed] for seed in range(2)],
        curves[:, : ROUNDS + 3],
    )
    # and what it came from is as it was
    with pytest.raises(RunFolderError, match="holds a run already"):
        train_from(directory, tmp_path / "long", NOISY)


@pytest.fixture(scope="module")
def in_turn():
    return play(slots=1, vectorize=False, confirm=0, sampler="random")


@pytest.mark.parametrize("way", [(3, False), (3, True)])
def test_a_trial_is_the_same_in_any_slot(in_turn, way):
    """Its key depends on its number alone, so its scores are those of one in turn."""
    slots, vectorize = way
    result = play(
        slots=slots, vectorize=vectorize, confirm=0, pruner="none", sampler="random"
    )
    assert len(result.trials) == 12
    both = [
        (a.score, b.score)
        for a, b in zip(in_turn.trials, result.trials, strict=True)
        if a.state == "COMPLETE"
    ]
    assert len(both) >= STARTUP and np.allclose(*zip(*both, strict=True), atol=1e-6)
    for a, b in zip(in_turn.trials, result.trials, strict=True):
        assert a.params == b.params and b.state != "PRUNED"


def test_a_pause_loses_nothing_but_what_was_under_way(tmp_path, monkeypatch):
    pause, dispatches = Pause(), []
    dispatch = Worker._dispatch

    def counted(self, *arguments):
        dispatch(self, *arguments)
        dispatches.append(1)
        if len(dispatches) == 15:  # two are complete, two under way, one waits
            pause.stop("enough")

    monkeypatch.setattr(Worker, "_dispatch", counted)
    options = dict(directory=tmp_path / "it", pruner="none", confirm=1, repeats=1)
    options |= dict(trials=5, slots=2, seeds=2, space={"rate": ("float", 0.1, 1.7)})
    first = play(pause=pause, **options)
    monkeypatch.undo()
    assert first.paused == "enough" and "go on with `optix search" in first.message
    states = [trial.state for trial in first.trials]
    assert states == ["COMPLETE", "COMPLETE", "RUNNING", "RUNNING", "WAITING"]
    done = [t for t in first.trials if t.state == "COMPLETE"]
    running = [t for t in first.trials if t.state == "RUNNING"]
    second = play(**options)
    assert len(second.trials) == 5 and second.best.confirmed
    later = {trial.number: trial for trial in second.trials}
    for trial in done:
        assert later[trial.number]._replace(confirmed=()) == trial
    for trial in running:
        assert trial.number not in later
        assert trial.params in [t.params for t in later.values()]


def test_all_failed_is_one_error_that_says_why(tmp_path):
    with pytest.raises(SearchError, match="3 have failed: the scores kept being NaN"):
        play(space={"rate": ("float", 1.9, 2.0)}, trials=3, directory=tmp_path / "it")


def test_only_what_is_kept_is_confirmed(tmp_path):
    """The best one is where a long run begins, also where none was to be confirmed."""
    options = dict(directory=tmp_path / "it", trials=6, pruner="none", repeats=1)
    options |= dict(space={"rate": ("float", 0.1, 1.7)}, sampler="random")
    play(confirm=0, **options)
    later = play(confirm=4, **options)
    confirmed = [trial.number for trial in later.trials if trial.confirmed]
    assert confirmed and later.best.number in confirmed
    for number in confirmed:
        assert (tmp_path / "it" / "trials" / str(number)).exists()
    assert best_run(tmp_path / "it").exists()


def test_all_pruned_is_one_error_that_says_so():
    hopeless = optuna.pruners.ThresholdPruner(lower=9.0)
    with pytest.raises(SearchError, match="complete, 3 were pruned; look into"):
        play(trials=3, pruner=hopeless)


def test_reports_are_of_rounds_that_there_are():
    storage = optuna.storages.InMemoryStorage()
    play(trials=1, report_every=3, confirm=0, storage=storage)
    (study,) = (s for s in storage.get_all_studies() if "confirm" not in s.study_name)
    (trial,) = storage.get_all_trials(study._study_id)
    assert list(trial.intermediate_values) == [3, 6, 9, ROUNDS]


def test_lists_and_numbers_of_numpy_are_values_as_any():
    tiny = dict(num_envs=2, num_steps=8, evaluation_episodes=1, progress=False)
    space = {
        "hidden": ("categorical", [4], [4, 4]),
        "discount": ("categorical", *np.float32([0.5, 0.25])),
    }
    found = search("CartPole-v1", space, 2, 1, sampler="random", confirm=0, **tiny)
    for trial in found.trials:
        assert trial.state == "COMPLETE", trial.error
        assert trial.params["hidden"] in ((4,), (4, 4))
        assert trial.params["discount"] in (0.5, 0.25)


def test_a_configuration_that_can_not_be_is_one_failed_trial():
    tiny = dict(num_envs=2, num_steps=8, hidden=(4,), evaluation_episodes=1)
    result = search(
        "CartPole-v1",
        {"num_minibatches": ("categorical", 2, 4, 3, 8), "discount": ("float", 0.9, 1)},
        2,
        1,
        sampler=optuna.samplers.GridSampler(
            {"num_minibatches": [2, 3], "discount": [0.9]}
        ),
        confirm=0,
        progress=False,
        score=lambda policy, hyperparams, key: hyperparams["discount"],
        **tiny,
    )
    states = {(t.params["num_minibatches"], t.state) for t in result.trials}
    assert states == {(2, "COMPLETE"), (3, "FAIL")}
    errors = {t.error for t in result.trials} - {None}
    assert len(errors) == 1 and "num_minibatches" in errors.pop()
    assert math.isclose(result.score, 0.9, abs_tol=1e-6)
