"""Tickets of a study: as many as were asked for, whatever becomes of those who play."""

from types import SimpleNamespace

import jax
import numpy as np
import optuna
import pytest

from optix.trials import plan as plans
from optix.trials.confirm import ask_again
from optix.trials.leases import Lease
from optix.trials.record import best_of, record
from optix.trials.samplers import quiet
from optix.trials.storages import JOURNAL, storage_at
from optix.trials.study import CONFIRM, MAX_DEATHS, SEARCH, open_study, root
from optix.trials.worker import key_of

ABOUT = dict(
    agent="ppo",
    trials=4,
    rounds=10,
    report_every=None,
    seeds=1,
    seed=0,
    confirm=2,
    repeats=2,
    sampler="random",
    pruner="none",
)
SPACE = {"learning_rate": ("log_float", 1e-4, 1e-2), "hidden": ("categorical", (4,), 8)}
PLAN = plans.plan("CartPole-v1", SPACE, {}, **ABOUT)


@pytest.fixture(autouse=True)
def silent():
    with quiet():
        yield


def opened(path, part=SEARCH, searched=PLAN):
    return open_study(searched, storage_at(path, None), None, "search", "token", part)


class Dead(Lease):
    """A lease that takes the workers of its list for dead."""

    def __init__(self, study, *names):
        super().__init__(study)
        self.names = names

    def dead(self, owner, what=None):
        return owner in self.names


def test_trials_of_a_dead_worker_wait_again_with_parameters_and_key(tmp_path):
    study = opened(tmp_path)
    study.fill(4)
    gone, here = SimpleNamespace(name="gone/1/a"), Dead(study.inner, "gone/1/a")
    lost = study.take(gone)
    mine = study.take(here)
    assert study.put_back(here) == [lost.number]
    assert study.put_back(here) == []
    study.tell(mine, 1.0, {})
    rest = [study.take(here) for _ in range(3)]
    assert study.take(here) is None
    assert [trial.number for trial in rest] == [2, 3, 4]
    again = rest[-1]
    assert again.params == lost.params and root(again) == lost.number
    same = [jax.random.key_data(key_of(5, t)).tolist() for t in (lost, again)]
    assert same[0] == same[1]
    # the one that was taken for dead is too late; nothing of it counts
    study.report(lost, 9.0, 1)
    study.tell(lost, 9.0, {})
    assert study.inner.trials[lost.number].state.name == "FAIL"
    assert "worker was gone" in study.inner.trials[lost.number].user_attrs["error"]
    numbers = [trial.number for trial in study.of_state()]
    assert numbers == [1, 2, 3, 4]
    study.fill(4)
    assert len(study.of_state()) == 4
    study.fill(6)
    assert len(study.of_state()) == 6


def test_a_trial_that_kills_its_workers_fails_at_last(tmp_path):
    study = opened(tmp_path)
    study.fill(1)
    gone = SimpleNamespace(name="gone/1/a")
    here = Dead(study.inner, gone.name)
    for _ in range(MAX_DEATHS):
        assert study.take(gone) is not None
        study.put_back(here)
    assert study.take(gone) is None and not study.unfinished()
    (trial,) = study.of_state()
    assert trial.state.name == "FAIL" and "3. time" in trial.user_attrs["error"]


def test_what_a_kill_in_between_has_cost_is_mended(tmp_path):
    study = opened(tmp_path)
    study.fill(2)
    trial = study.take(SimpleNamespace(name="gone/1/a"))
    study.fail(trial, "its worker was gone", lost=True)  # and then the power went
    assert len(study.of_state()) == 1
    study.mend()
    study.mend()
    assert len(study.of_state()) == 2
    # a torn line at the end of the journal does not make it unreadable
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":5,"wor')
    study = opened(tmp_path)
    study.inner.set_user_attr("more", 1)
    assert len(opened(tmp_path).of_state()) == 2


def test_a_ticket_is_taken_once(tmp_path):
    studies = [opened(tmp_path), opened(tmp_path)]
    studies[0].fill(6)
    lease = SimpleNamespace(name="here/1/a")
    taken = [studies[turn % 2].take(lease) for turn in range(7)]
    assert [trial and trial.number for trial in taken] == [*range(6), None]
    # whoever comes too late for the last one makes no more of them
    late = studies[1].inner.ask()
    studies[0].fill(7)
    assert late.number == 6
    study = studies[1]._replace(inner=_Twice(studies[1].inner, late))
    found = study.take(lease)
    assert found is not None and found.number == 7
    assert [t.number for t in study.of_state()] == [*range(6), 7]


class _Twice:
    """A study whose first `ask` comes too late: the ticket has gone to another one."""

    def __init__(self, inner, late):
        self._inner, self._late = inner, late

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def ask(self):
        if self._late is not None:
            late, self._late = self._late, None
            return late
        return optuna.Study.ask(self._inner)


def test_confirmations_decide_and_a_failed_one_is_no_winner(tmp_path):
    search, confirm = opened(tmp_path), opened(tmp_path, CONFIRM)
    search.fill(4)
    lease = SimpleNamespace(name="here/1/a")
    for score in (1.0, 5.0, 4.0, None):
        trial = search.take(lease)
        if score is None:
            search.fail(trial, "ValueError: no")
        else:
            search.tell(trial, score, {"rounds": 10, "env_steps": 80})
    assert best_of(search, record(search, confirm)).number == 1
    assert ask_again(search, confirm, 2, 2)
    ask_again(search, confirm, 2, 2)  # those that are there stay
    keys = set()
    for scores in ((2.0, 3.0), (3.0, 3.5)):
        for score in scores:
            trial = confirm.take(lease)
            keys.add(tuple(jax.random.key_data(key_of(0, trial)).tolist()))
            confirm.tell(trial, score, {})
    keys |= {
        tuple(jax.random.key_data(key_of(0, t)).tolist()) for t in search.of_state()
    }
    assert len(keys) == 8  # all of them fresh
    assert confirm.take(lease) is None
    trials = record(search, confirm)
    assert trials[1].confirmed == (2.0, 3.0) and trials[2].confirmed == (3.0, 3.5)
    assert best_of(search, trials).number == 2
    assert trials[3].error == "ValueError: no" and trials[3].score is None
    assert trials[0].rounds == 10 and trials[0].params.keys() == SPACE.keys()
    # the luckiest of them breaks down on a fresh key
    ask_again(search, confirm, 2, 3)
    for _ in range(2):
        trial = confirm.take(lease)
        if trial.user_attrs["of"] == 2:
            confirm.fail(trial, "NaN")
        else:
            confirm.tell(trial, 2.0, {})
    trials = record(search, confirm)
    assert np.isnan(trials[2].confirmed).any()
    assert best_of(search, trials).number == 1
