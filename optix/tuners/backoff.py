"""Signs only: steps grow while probes agree and shrink where they contradict."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.tuners.probing import Rule, probing
from optix.types import Tuner

STEP_SIZE = 0.15
_UP, _DOWN = 1.3, 0.7
_SHORTEST, _LONGEST = 0.25, 3.0  # step, in units of the step size


class BackoffState(NamedTuple):
    """The length of the next step of each hyperparameter, and where the last one went."""

    length: jax.Array  # [D] float32 in units of the step size
    sign: jax.Array  # [D] float32 -1 or 1, 0 before any step


def backoff(
    bounds: Mapping[str, tuple[float, float]],
    *,
    lanes: int = 2,
    log: Iterable[str] | None = None,
    step_size: float | jax.Array = STEP_SIZE,
    probe: float | jax.Array = 0.8,
    up: float | jax.Array = _UP,
    down: float | jax.Array = _DOWN,
) -> Tuner:
    """Return a tuner that takes only the sign of the difference of two probes.

    It measures as `spsa` does. Each hyperparameter has a length of step of its own, as
    in resilient backpropagation (Rprop, Riedmiller and Braun 1993): a step in the same
    direction as the one before makes it longer, one back makes it shorter. One score far
    off weighs no more than any other, so scores with heavy tails or that swing do least
    harm here. On synthetic problems it is the slowest of the rules.

    Args:
        bounds: {name: (low, high)} of what to tune.
        lanes: 2, two forks of one state; or 1, one probe after the other, which does
            harm to real learners where two lanes do not.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        step_size: the first step: .15 is a factor 1.16, or for a linear parameter 2 %
            of its range; later ones are a quarter to three times of it. May be traced.
        probe: distance of the probes from the centre, in the same unit; may be traced.
        up: factor of a step in the direction of the last one, at least 1; may be traced.
        down: factor of a step back, in (0, 1]; may be traced.

    Raises:
        ValueError: as `spsa`, or factors out of range.

    Example:
        >>> tuner = backoff({"learning_rate": (1e-5, 1e-1)})
        >>> state = tuner.init({"learning_rate": 1e-3}, jax.random.key(0))
        >>> [round(float(x), 5) for x in sorted(tuner.ask(state)["learning_rate"])]
        [0.00045, 0.00223]
    """
    return probing(
        bounds,
        by_sign(up, down),
        lanes=lanes,
        log=log,
        step_size=step_size,
        probe=probe,
    )


def by_sign(up: float | jax.Array = _UP, down: float | jax.Array = _DOWN) -> Rule:
    """Return the rule of `backoff`: steps of a length that agreement makes."""
    up = checks.within_or_traced("up", up, 1.0, math.inf)
    down = checks.within_or_traced("down", down, 1e-3, 1.0)

    def init(size):
        return BackoffState(jnp.ones(size, jnp.float32), jnp.zeros(size, jnp.float32))

    def step(state, comparison):
        sign = jnp.sign(comparison.difference) * comparison.direction
        agreed = sign * state.sign
        factor = jnp.select([agreed > 0, agreed < 0], [up, down], 1.0)
        length = jnp.clip(state.length * factor, _SHORTEST, _LONGEST)
        moved = jnp.isfinite(sign) & (sign != 0)  # no comparison, or a draw
        new = BackoffState(length, sign)
        new = jax.tree.map(lambda x, y: jnp.where(moved, x, y), new, state)
        return new, jnp.where(moved, new.length * sign, 0.0)

    return Rule(init, step)
