"""A search that is killed at random times, again and again.

Two kills; OPTIX_KILLS=10 is for whoever has changed what is written, and when.
"""

import os
import random
import subprocess
import sys
import time

from tests.trials.test_processes import KILLED, ROOT, trials_of
from tests.trials.test_search import play

KILLS = int(os.environ.get("OPTIX_KILLS", "2"))
GOES_ON = "import optix.trials.search; print('begins', flush=True);" + KILLED


def killed(directory, seconds):
    """Let the search go on, and kill it so long after its imports."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", GOES_ON.format(str(directory))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    said = process.communicate()[1]
    assert process.returncode in (-9, 0), said


def said_of(trial):
    return trial.state, trial.value, trial.params


def test_kills_lose_only_what_was_under_way_and_give_no_number_twice(tmp_path):
    directory, chance = tmp_path / "it", random.Random()
    finished, told = {}, []
    for _ in range(KILLS):
        told.append(round(chance.expovariate(1 / 6.0), 2))
        killed(directory, told[-1])
        now = trials_of(directory) if (directory / "study.journal").exists() else {}
        assert sorted(now) == list(range(len(now))), told
        assert all(said_of(now[n]) == said for n, said in finished.items()), told
        finished = {n: said_of(t) for n, t in now.items() if t.state.is_finished()}
    result = play(
        directory=directory, pruner="none", report_every=1, confirm=0, slots=2
    )
    after = trials_of(directory)
    assert sorted(after) == list(range(len(after))), told
    assert len(result.trials) == 12
    assert all(said_of(after[n]) == said for n, said in finished.items()), told
    # whatever a kill has ended is there again with its key, and comes to its end
    attempts = {}
    for number, trial in sorted(after.items()):
        attempts.setdefault(trial.user_attrs.get("key_of", number), []).append(trial)
    assert len(attempts) == 12, told
    for ended in attempts.values():
        assert len(ended) <= 1 + KILLS and ended[-1].state.is_finished(), told
        assert all(trial.state.name == "FAIL" for trial in ended[:-1]), told
