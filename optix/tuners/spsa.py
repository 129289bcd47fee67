"""Simultaneous perturbation: every hyperparameter at once, two measurements a step."""

from collections.abc import Iterable, Mapping

import jax

from optix.tuners.probing import Rule, initial_scale, probing, standardised
from optix.types import Tuner

STEP_SIZE = 0.2


def spsa(
    bounds: Mapping[str, tuple[float, float]],
    *,
    lanes: int = 2,
    log: Iterable[str] | None = None,
    step_size: float | jax.Array = STEP_SIZE,
    probe: float | jax.Array = 0.8,
) -> Tuner:
    """Return a tuner by simultaneous perturbation (SPSA, Spall 1992).

    A random direction in all hyperparameters is tried forwards and backwards. The
    difference of the scores, divided by its running root mean square so that the scale
    of the scores does not matter, moves the centre along it. What lanes, probes and
    bounds mean is told by `optix.tuners.probing.probing`.

    Args:
        bounds: {name: (low, high)} of what to tune.
        lanes: 2, two forks of one state; or 1, one probe after the other, which does
            harm to real learners where two lanes do not.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        step_size: typical move of the centre: .2 is a factor 1.22, or for a linear
            parameter 3 % of its range (which counts as three decades). May be traced.
        probe: distance of the probes from the centre, in the same unit: .8 is a factor
            2.2, or 12 % of a linear range. May be traced.

    Raises:
        ValueError: reversed bounds, a logarithmic one that is not positive, lanes that
            are neither 1 nor 2, gains that are not positive; from `init`, a bound whose
            name the hyperparameters do not have.

    Example:
        >>> tuner = spsa({"learning_rate": (1e-5, 1e-1)})
        >>> state = tuner.init({"learning_rate": 1e-3}, jax.random.key(0))
        >>> [round(float(x), 5) for x in sorted(tuner.ask(state)["learning_rate"])]
        [0.00045, 0.00223]
    """
    return probing(
        bounds,
        in_proportion(),
        lanes=lanes,
        log=log,
        step_size=step_size,
        probe=probe,
    )


def in_proportion() -> Rule:
    """Return the rule of `spsa`: a step in proportion to the difference."""

    def step(scale, comparison):
        scale, ratio = standardised(scale, comparison.difference)
        return scale, ratio * comparison.direction

    return Rule(lambda size: initial_scale(), step)
