"""A user's function of the agent as what `host` takes for its validation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optix import checks


class ScoreFunction:
    """Scores an agent by `function(agent) -> float`.

    What the function does to the agent's weights is undone, and an agent that remembers
    begins an episode for it.

    function: the score, of one number; NaN tells that it has none.
    validation: another pipeline that plays beside it, without deciding, or None.
    told: (score, what validation came to), in the order of the calls.
    release: called after the function, so that the weights are put back.
    """

    def __init__(self, function: Callable[[Any], Any], validation: Any = None):
        """See the class."""
        self.function, self.validation = function, validation
        self.told: list[tuple[float, float]] = []
        self.release: Callable[[], Any] = lambda: None

    def evaluate(self, agent: Any, seed: int, episodes: int) -> float:
        """Return the score.

        Raises:
            TypeError: the function returns no number.
        """
        # first: the function may leave other weights behind
        played = None
        if self.validation is not None:
            played = float(self.validation.evaluate(agent, seed, episodes))
        agent.begin_episode(np.ones(1, bool))
        value = self.function(agent)
        self.release()
        score = _number(value)
        if played is not None:
            self.told.append((score, played))
        return score


def _number(value: Any) -> float:
    try:
        if not isinstance(value, bool | str) and np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError):
        pass  # said below
    raise TypeError(
        f"checkpoint_score_fn must return a number, got {value!r}; higher is better, and "
        "NaN is for none"
    )


def judge_of(validation: Any, function: Any) -> Any:
    """Return what decides: the function if there is one, else the pipeline, or None.

    Raises:
        ValueError: either is something else.
    """
    if function is None:
        return validation
    checks.function(
        "checkpoint_score_fn", function, "it takes the agent and returns a number"
    )
    if validation is not None and not callable(getattr(validation, "evaluate", None)):
        raise checks.OptionError(
            f"val_pipeline must have the method evaluate, got {validation!r}; use "
            "optix.host.BatchPipeline(env) for a Gymnasium environment"
        )
    return ScoreFunction(function, validation)


def validations(
    told: list[tuple[float, float]], lane_scores: np.ndarray
) -> list[float]:
    """Return for each round what the validation came to, mean over its lanes.

    Args:
        told: as `ScoreFunction.told`, of these rounds and in their order.
        lane_scores: [N, L] float32, -inf where a lane is not sound.
    """
    position, last, means = 0, {}, []
    for row in lane_scores.astype(np.float32):
        found = []
        for score in row.tolist():
            # of a policy that was scored before, the score is not asked for again
            for place in range(position, len(told)):
                if np.float32(told[place][0]) == np.float32(score):
                    position, last[score] = place + 1, told[place][1]
                    break
            if score in last:
                found.append(last[score])
        means.append(float(np.mean(found)) if found else float("nan"))
    return means
