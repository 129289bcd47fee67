"""The median of what any trial reported, against a slow reference; spaces and labels."""

import itertools
import math
import statistics

import numpy as np
import optuna
import pytest

from optix.trials.leases import Lease
from optix.trials.pruning import below_median, pruner, round_median
from optix.trials.samplers import quiet, sampler
from optix.trials.storages import storage_at
from optix.trials.study import _suggest, settings


@pytest.fixture(autouse=True)
def silent():
    with quiet():
        yield


def slow_reference(value, others, startup):
    """Sort by hand, count by hand."""
    known = sorted(other for other in others if other == other)
    if len(known) < startup:
        return False
    middle = len(known) // 2
    median = (
        known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
    )
    assert median == pytest.approx(statistics.median(known))
    return value != value or value < median


def test_the_median_against_a_slow_reference():
    rng = np.random.default_rng(0)
    decided = []
    for _ in range(500):
        others = rng.choice([0.0, 1.0, 2.0, 2.5, math.nan], rng.integers(0, 9)).tolist()
        value = float(rng.choice([-1.0, 0.5, 1.0, 2.2, math.nan]))
        startup = int(rng.integers(1, 6))
        decided.append(below_median(value, others, startup))
        assert decided[-1] == slow_reference(value, others, startup)
    assert 0.2 < np.mean(decided) < 0.8


def lockstep(pruner_, curves, warm_up=0):
    """Play trials side by side; return {number: round at which it was pruned}."""
    study = optuna.create_study(direction="maximize", pruner=pruner_)
    live = {number: study.ask() for number in range(len(curves))}
    ends = {}
    for round_ in itertools.count():
        if round_ == len(curves[0]):
            return ends
        for number, trial in live.items():
            trial.report(curves[number][round_], round_)
        for number, trial in list(live.items()):
            if trial.should_prune():
                ends[number] = round_
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                del live[number]


def test_trials_in_lockstep_are_pruned_and_never_during_the_warm_up():
    rng = np.random.default_rng(1)
    curves = [(level + rng.normal(size=8) * 0.1).tolist() for level in range(9)]
    # Optuna's own looks at complete trials only
    assert not lockstep(optuna.pruners.MedianPruner(5), curves)
    ends = lockstep(round_median(warm_up=3, startup=5), curves)
    assert set(ends) == {0, 1, 2, 3} and set(ends.values()) == {3}
    # what was pruned still counts, so that the bar does not rise for want of bad ones
    for number, end in ends.items():
        others = [c[end] for n, c in enumerate(curves) if n != number]
        assert slow_reference(curves[number][end], others, 5)


def test_failed_trials_and_first_trials_decide_nothing():
    study = optuna.create_study(direction="maximize", pruner=round_median(0, startup=2))
    for value in (5.0, 6.0):
        trial = study.ask()
        trial.report(value, 0)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    trial = study.ask()
    assert not trial.should_prune()  # it has reported nothing
    trial.report(1.0, 0)
    assert not trial.should_prune()
    for value in (5.0, 6.0):
        other = study.ask()
        other.report(value, 0)
    assert trial.should_prune()


def test_pruners_and_samplers_by_name_and_of_optuna():
    assert isinstance(pruner("asha", 50, 5), optuna.pruners.SuccessiveHalvingPruner)
    assert isinstance(pruner("none", 50, 5), optuna.pruners.NopPruner)
    own = optuna.pruners.HyperbandPruner()
    assert pruner(own, 50, 5) is own
    own = optuna.samplers.BruteForceSampler()
    assert sampler(own, 0, 0, 0) is own
    for name, kind in (("tpe", "TPESampler"), ("random", "RandomSampler")):
        drawn = []
        for begun, worker in ((0, 0), (0, 0), (5, 0), (0, 1)):
            chosen = sampler(name, 3, begun, worker)
            assert type(chosen).__name__ == kind
            study = optuna.create_study(sampler=chosen)
            drawn.append(study.ask().suggest_float("x", 0, 1))
        # seeded; and neither another worker nor a search that goes on draws it again
        assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_a_space_is_that_of_optuna():
    """Each tuple suggests from the distribution that a user of Optuna would write."""
    kinds = optuna.distributions
    space = {
        "rate": ("log_float", 1e-4, 1e-2),
        "share": ("float", 0.1, 0.9),
        "size": ("int", 1, 5),
        "wide": ("log_int", 2, 64),
        "kind": ("categorical", "a", None, (4, 4), 2.5, True),
    }
    trial = optuna.create_study(sampler=sampler("random", 0, 0, 0)).ask()
    for name, entry in space.items():
        _suggest(trial, name, entry)
    assert trial.distributions == {
        "rate": kinds.FloatDistribution(1e-4, 1e-2, log=True),
        "share": kinds.FloatDistribution(0.1, 0.9),
        "size": kinds.IntDistribution(1, 5),
        "wide": kinds.IntDistribution(2, 64, log=True),
        "kind": kinds.CategoricalDistribution(("a", None, "(4, 4)", 2.5, True)),
    }
    drawn = settings(space, {**trial.params, "kind": "(4, 4)"})
    assert drawn == {**trial.params, "kind": (4, 4)}


def test_a_lease_is_lost_by_silence_alone_and_ends_at_once(tmp_path):
    """By the observer's clock; a process of another machine can not be looked at."""
    study = optuna.create_study(storage=storage_at(tmp_path, None))
    now = [0.0]
    ours = Lease(study, patience=30.0, clock=lambda: now[0])
    theirs = "elsewhere/7/abc"
    study.set_user_attr(f"worker {theirs}", 4)
    for seconds, count, dead in (
        *((0.0, 4, False), (29.0, 4, False), (29.5, 5, False)),
        *((59.0, 5, False), (59.6, 5, True), (60.0, 6, False), (61.0, -1, True)),
    ):
        now[0] = seconds
        study.set_user_attr(f"worker {theirs}", count)
        assert ours.dead(theirs) is dead, seconds
    # a trial that nobody has put a name to
    now[0] = 100.0
    assert not ours.dead(None, 3)
    now[0] = 131.0
    assert ours.dead(None, 3) and not ours.dead(None, 4)
    assert not ours.dead(ours.name)
    with ours:
        other = Lease(study, patience=30.0)
        assert not other.dead(ours.name)
    assert other.dead(ours.name)
    machine, _, rest = ours.name.split("/")
    assert other.dead(f"{machine}/{2**22 + 1}/{rest}")  # no such process here
