"""The best trials again on fresh keys: the winner of a noisy search is the luckiest."""

from collections.abc import Callable

from optix.trials.study import Study, best_first, enqueue_again


def ask_again(
    search: Study,
    confirm: Study,
    count: int,
    repeats: int,
    kept: Callable[[int], bool] = lambda number: True,
) -> bool:
    """Let the best trials wait for their confirmations; those that are there stay.

    Args:
        search: whose best trials they are.
        confirm: where they wait.
        count: how many trials.
        repeats: confirmations of each.
        kept: whether the runs of a trial are there; without them it is not the best one,
            from which a long run goes on.

    Returns:
        Whether there is one to play.
    """
    there = {
        (trial.user_attrs["of"], trial.user_attrs["repeat"])
        for trial in confirm.of_state()
    }
    complete = [t for t in search.of_state("COMPLETE") if kept(t.number)]
    for trial in best_first(complete)[:count]:
        missing = [r for r in range(repeats) if (trial.number, r) not in there]
        enqueue_again(confirm, trial.number, trial.params, missing)
    return confirm.unfinished()
