"""Neuromodulation: the kind of time a run goes through sets how plastic it is.

While scores trend, what works is kept; while they range, the graph may rewire; while
they are wild, it explores more and changes less.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from optix import checks
from optix.math.regime import (
    DEFAULTS,
    Regime,
    RegimeState,
    Thresholds,
    initial_regime,
    update_regime,
)
from optix.types import Transform

REGIMES = tuple(regime.name.lower() for regime in Regime)
FACTORS = {  # {name: {regime: factor}}; of these, what a loop has
    "hebbian/rate": {"trending": 0.5, "ranging": 2.0, "volatile": 0.3},
    "entropy_coefficient": {"trending": 0.5, "ranging": 2.0, "volatile": 1.5},
    "topology/utilisation_limit": {"trending": 1.5, "ranging": 0.5, "volatile": 1.2},
    "topology/importance_limit": {"trending": 1.5, "ranging": 0.8, "volatile": 0.3},
}


def neuromodulation(
    factors: Mapping[str, Mapping[str, float]] | None = None,
    *,
    window: int = 30,
    thresholds: Thresholds = DEFAULTS,
) -> Transform:
    """Return the transform that multiplies hyperparameters by the regime of the scores.

    The factors are on what the tuner asks for, within its bounds; the tuner never hears
    of them. Scores that fall trend too: what to do then is a matter of rollback.

    Args:
      factors: {hyperparameter: {regime: factor}}, with a factor of 1 for a regime left
        out; None takes those of `FACTORS` that the loop has.
      window: rounds that a trend is looked for in; see `optix.math.regime`.
      thresholds: where regimes begin and end.

    Raises:
      ValueError: unknown regimes, factors that are not positive, a window below five;
        from the loop, a name that it does not have; without `factors`, no name at all.

    >>> neuromodulation({"entropy_coefficient": {"volatile": 3.0}}).hyperparams
    {}
    """
    table = FACTORS if factors is None else factors
    if not isinstance(table, Mapping):
        raise checks.OptionError(
            f"factors must be a mapping {{name: {{regime: factor}}}}, got {table!r}"
        )
    for name, by_regime in table.items():
        if not isinstance(by_regime, Mapping):
            raise checks.OptionError(
                f"factors of {name!r} must be a mapping {{regime: factor}}, got "
                f"{by_regime!r}"
            )
        checks.known_names(f"regime of {name}", by_regime, REGIMES)
        for regime, factor in by_regime.items():
            checks.within(
                f"factor of {name} when {regime}", factor, 0.0, 1e9, open_ends=True
            )
    checks.record("thresholds", thresholds, Thresholds, "name those to change")
    for name, threshold in thresholds._asdict().items():
        checks.within(f"{name} of thresholds", threshold, 0.0, 1e9)
    initial_regime(window)  # refuses a window that is too short

    def init(policy) -> RegimeState:
        del policy
        return initial_regime(window)

    def update(state, policy, rollout, report, signals):
        del report
        state = update_regime(state, signals.score, thresholds)
        if factors is None:
            names = [name for name in table if name in signals.hyperparams]
            if not names:
                raise checks.OptionError(
                    "neuromodulation needs a loop with one of "
                    f"{', '.join(table)}, got {', '.join(signals.hyperparams)}; pass "
                    "factors="
                )
        else:
            names = list(table)  # the loop refuses what it does not know
        modulation = {
            name: jnp.array([table[name].get(regime, 1.0) for regime in REGIMES])[
                state.regime
            ]
            for name in names
        }
        return state, policy, rollout, modulation

    return Transform(init, update, {}, trajectory=False)
