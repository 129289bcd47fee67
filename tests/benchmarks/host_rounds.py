"""What a round of a seed costs on the host: reports, log and console.

    python -m tests.benchmarks.host_rounds

Prints microseconds of process time per seed and round, best of five dispatches: for the
reports in their order, for the log, for the console where there is no terminal, and for
a callback of a user that is told of every round, for comparison.
"""

import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from optix.callbacks.base import Hooks, LoopCallback
from optix.callbacks.console import Console
from optix.callbacks.jsonl import JsonlLog
from optix.run.programs import CAPACITY, rows
from tests.callbacks.reports import report
from tests.callbacks.test_console import a_state

ROUNDS = 32
METRICS = ("entropy", "value_loss", "policy_loss", "kl", "clipped", "explained")
HYPERPARAMS = ("learning_rate", "clip_ratio", "discount", "gae_lambda", "value_weight")


class Each(LoopCallback):
    """A user's callback that is told of every round."""

    def on_episode_end(self, episode_id, eval_metrics):
        pass


def reports_of(seeds, tuned):
    """A dispatch of all seeds with the numbers of a PPO run."""
    one = report(0, 123.456, **{name: 0.1 + i for i, name in enumerate(METRICS)})
    values = {name: np.float32(0.3 + i) for i, name in enumerate(HYPERPARAMS)}
    one = one._replace(
        centre=values, hyperparams={n: v[None] for n, v in values.items()}
    )
    noise = np.random.default_rng(0)

    def many(leaf):
        leaf = np.asarray(leaf)
        shape = (seeds, CAPACITY, *leaf.shape)
        if leaf.dtype == np.float32:  # numbers with all their digits, as in a run
            return (leaf * noise.uniform(0.5, 1.5, shape)).astype(np.float32)
        return np.broadcast_to(leaf, shape).copy()

    reports = jax.tree.map(many, one)
    if not tuned:
        constant = {n: np.full_like(v, 0.3) for n, v in reports.centre.items()}
        reports = reports._replace(centre=constant)
    return reports, np.full(seeds, ROUNDS)


def microseconds(act, seeds):
    """Process time of a call per seed and round."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        act()
        times.append(time.process_time() - begin)
    return 1e6 * min(times) / (seeds * ROUNDS)


def measured(seeds, tuned):
    """Microseconds of rows, log, console, all three, and a user's own hook."""
    reports, rounds = reports_of(seeds, tuned)
    batch = rows(reports, rounds)
    centres = [dict.fromkeys(HYPERPARAMS, 0.5)] * seeds
    path = Path(tempfile.mkdtemp()) / "log.jsonl"
    log, console = JsonlLog(path), Console(a_state(seeds), "toy", io.StringIO())
    ours = Hooks([log, console], centres)
    ours.start()
    costs = [microseconds(lambda: rows(reports, rounds), seeds)]
    for observers in ([log], [console], [log, console], [Each()]):
        hooks = Hooks(observers, centres)
        costs.append(microseconds(lambda h=hooks: h.rounds(batch), seeds))
    ours.stop()
    row, logged, shown, both, own = costs
    return row, logged, shown, row + both, own


def main():
    """Print the table."""
    print("seeds  hyperparameters   rows    log  console    all  user's own hook")
    for tuned in (False, True):
        for seeds in (64, 256):
            row, log, console, both, own = measured(seeds, tuned)
            print(
                f"{seeds:5d}  {'tuned' if tuned else 'constant':15s} {row:6.2f} {log:6.2f}"
                f" {console:8.2f} {both:6.2f} {own:16.2f}"
            )


if __name__ == "__main__":
    main()
