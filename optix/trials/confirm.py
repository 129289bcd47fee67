"""The best trials again on fresh keys: the winner of a noisy search is the luckiest."""

from optix.trials.study import Study, best_first, enqueue_again


def ask_again(search: Study, confirm: Study, count: int, repeats: int) -> bool:
    """Let the best trials wait for their confirmations; those that are there stay.

    Args:
        search: whose best trials they are.
        confirm: where they wait.
        count: how many trials.
        repeats: confirmations of each.

    Returns:
        Whether there is one to play.
    """
    there = {
        (trial.user_attrs["of"], trial.user_attrs["repeat"])
        for trial in confirm.of_state()
    }
    for trial in best_first(search.of_state("COMPLETE"))[:count]:
        missing = [r for r in range(repeats) if (trial.number, r) not in there]
        enqueue_again(confirm, trial.number, trial.params, missing)
    return confirm.unfinished()
