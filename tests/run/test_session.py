"""Playing a run: what may pause it, what it tells, and what no fault may cost."""

import io
import subprocess
import sys
import threading

import pytest

from optix import Pause, RunInfo, resume, train
from optix.callbacks.base import LoopCallback
from optix.callbacks.jsonl import read_log
from optix.loop.loop import loop
from optix.run.folder import RunFolder
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

QUIET = {"progress": False, "checkpoint_seconds": 0.0}


def counting(**options):
    """A run whose score is the number of windows; quick to compile."""
    return loop(
        scripted_learner(lambda windows, key: windows),
        fixed(),
        **{"max_rounds": 10**6, "final_scores": 2, **options},
    )


class At(LoopCallback):
    """Does something after a round."""

    def __init__(self, round_, act):
        self.round, self.act, self.rounds = round_, act, 0

    def on_episode_end(self, episode_id, eval_metrics):
        self.rounds += 1
        if episode_id == self.round:
            self.act()


def test_a_callback_stops_the_run_and_it_can_go_on(tmp_path, capfd):
    pause = Pause()
    at = At(2, lambda: pause.stop("the trial was pruned"))
    result = train(
        counting(), directory=tmp_path / "run", callbacks=[at], pause=pause, **QUIET
    )
    assert result.paused == "the trial was pruned" and result.state.active.all()
    words = f"paused: the trial was pruned; continue with `optix resume {tmp_path}"
    assert words in capfd.readouterr().err
    saved = RunFolder.open(tmp_path / "run", write=False).states.latest
    assert saved.step == result.state.round[0] == at.rounds

    again = resume(tmp_path / "run", counting(), pause=pause, **QUIET)
    assert again.state.round[0] == saved.step  # a stopped handle stays stopped
    budget = saved.step + 3
    on = resume(tmp_path / "run", counting(), pause=Pause(), max_rounds=budget, **QUIET)
    assert on.paused is None and on.state.round[0] == budget


def test_another_thread_stops_several_runs_with_one_handle():
    pause = Pause()
    stop = At(3, lambda: threading.Thread(target=pause.stop).start())
    first = train(counting(), callbacks=[stop], pause=pause, progress=False)
    second = train(counting(), pause=pause, progress=False)
    assert first.paused == second.paused == "stopped by the caller"
    assert first.state.round[0] >= 4 and second.state.round[0] == 0
    assert "nothing was saved" in second.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pause": True}, "pause must be an optix.Pause or None, got True"),
        ({"pause": Pause}, "pause must be an optix.Pause"),
        ({"callbacks": [At]}, r"pass At\(\)"),
        ({"max_seconds": float("nan")}, "max_seconds must be > 0, got nan"),
    ],
)
def test_what_is_refused_leaves_no_folder(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        train(counting(), directory=tmp_path / "run", progress=False, **arguments)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=words):
        resume(tmp_path / "run", counting(), progress=False, **arguments)


@pytest.mark.parametrize("reason", ["", " ", None, 3])
def test_a_reason_is_a_text(reason):
    with pytest.raises(ValueError, match="reason must be a text"):
        Pause().stop(reason)


def test_a_clock_shorter_than_the_compiler_leaves_a_round_a_session(tmp_path):
    rounds = []
    for play in (train, resume, resume):
        options = {} if play is train else {"loop": counting()}
        subject = counting() if play is train else tmp_path / "run"
        where = {"directory": tmp_path / "run"} if play is train else {}
        result = play(subject, max_seconds=1e-9, **QUIET, **options, **where)
        assert result.paused == "max_seconds"
        rounds.append(int(result.state.round[0]))
    assert rounds == [1, 2, 3]


def test_the_start_hook_is_told_what_is_run(tmp_path):
    told = []

    class Told:
        def on_loop_start(self, info):
            told.append(info)

    short = counting(max_rounds=3)
    train(
        short, seeds=2, seed=7, directory=tmp_path / "run", callbacks=[Told()], **QUIET
    )
    resume(tmp_path / "run", short, max_rounds=4, callbacks=[Told()], **QUIET)
    first, second = told
    assert isinstance(first, RunInfo)
    assert (first.seeds, first.seed, first.directory) == (2, 7, tmp_path / "run")
    assert first.environment is first.agent is first.resumed_from is None
    assert first.hyperparams == ({"rate": 1.0},) * 2 and first.config["seeds"] == 2
    assert second.resumed_from == (3, 3) and second.config["budgets"] == {
        "max_rounds": 4
    }


def test_leaving_in_a_callback_saves(tmp_path):
    with pytest.raises(SystemExit, match="7"):
        train(
            counting(),
            directory=tmp_path / "run",
            callbacks=[At(2, lambda: sys.exit(7))],
            progress=False,
        )
    rounds = len(list(read_log(tmp_path / "run" / "log.jsonl")))
    assert rounds >= 3
    assert RunFolder.open(tmp_path / "run", write=False).states.latest.step == rounds


def test_a_closed_terminal_does_not_cost_the_result(monkeypatch):
    gone = io.StringIO()
    gone.close()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, gone)
    result = train(counting(), max_seconds=1e-9)
    assert result.paused == "max_seconds" and result.state.round[0] == 1


# ------------------------------------------------------------------- hosts that hang

HUNG = """
import signal, sys, time
from optix.host.learner import host
from optix.loop.loop import loop
from optix.run.train import train
from optix.tuners.fixed import fixed
from tests.host.test_learner_in_loop import Climber, Hill

class Watchdog(Exception):
    pass

def bark(*arguments):
    raise Watchdog

class Hangs(Climber):
    windows = 0

    def learn(self, episode_data):
        Hangs.windows += 1
        if Hangs.windows == 4:
            signal.alarm(1)
            time.sleep(1000)
        return super().learn(episode_data)

signal.signal(signal.SIGALRM, bark)
run = loop(host(Hangs(learning_rate=1.0), Hill()), fixed(), max_rounds=20, final_scores=2)
try:
    train(run, directory=sys.argv[1], progress=False, checkpoint_seconds=1000)
except Watchdog:
    print("barked")
"""


def test_an_exception_while_the_host_hangs_is_raised(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HUNG, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "barked\n" and done.returncode == 0, done.stderr
    assert "not saved" not in done.stderr  # what was played before is there
    rounds = len(list(read_log(tmp_path / "run" / "log.jsonl")))
    latest = RunFolder.open(tmp_path / "run", write=False).states.latest
    assert latest.step == rounds >= 1
