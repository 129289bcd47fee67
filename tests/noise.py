"""Noise with a known autocorrelation."""

import numpy as np
from scipy import signal


def autoregressive(rng, runs, length, coefficient):
    """Stationary AR(1) noise of unit variance, [runs, length]."""
    shocks = rng.standard_normal((runs, length + 200))
    shocks *= np.sqrt(1 - coefficient**2)
    return signal.lfilter([1.0], [1.0, -coefficient], shocks, axis=1)[:, 200:]
