"""The regime of a history of scores, outside JAX."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.math.regime import DEFAULTS, Regime, Thresholds, classify, initial_regime


class RegimeDetector:
    """Tells the regime of a history of scores, outside JAX.

    It remembers its last answer, which takes less evidence to keep than to change.

    Args:
      window: scores that a trend is looked for in.
      thresholds: where regimes begin and end.

    Example:
        >>> detector = RegimeDetector(window=10)
        >>> detector.detect([10.0, 11.0, 12.0, 13.0, 14.0, 15.0])
        'trending'
        >>> detector.detect([3.0, 3.0, 3.0, 3.0, 3.0, 3.0])
        'ranging'
    """

    def __init__(self, window: int = 30, thresholds: Thresholds = DEFAULTS):
        """See the class."""
        self._size = initial_regime(window).scores.shape[0]
        checks.record("thresholds", thresholds, Thresholds, "name those to change")
        self._thresholds = thresholds
        self._classify = jax.jit(classify)
        self.regime = Regime.RANGING

    def detect(self, metrics_history: Sequence[Any]) -> str:
        """Return "trending", "ranging" or "volatile".

        Args:
          metrics_history: scores, oldest first, or records with a `primary_score`.
        """
        scores = np.array(
            [getattr(item, "primary_score", item) for item in metrics_history], float
        )
        scores = scores[np.isfinite(scores)][-self._size :]
        # origin and unit go in float64: float32 would lose the digits of a large origin,
        # and may not hold the unit
        padded = np.zeros(self._size, np.float32)
        if scores.size:
            centred = scores - scores[-1]
            unit = np.abs(centred).max()
            padded[-scores.size :] = centred / (unit if unit > 0 else 1.0)
        found = self._classify(padded, scores.size, self.regime, self._thresholds)
        self.regime = Regime(int(found))
        return self.regime.name.lower()
