"""How much each member of an ensemble counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks


def normalised(weights: Any, count: int) -> np.ndarray:
    """Return weights [count] float64 whose sum is 1; None weighs all alike.

    Raises:
      ValueError: weights of another number, negative, not finite, or all zero.

    >>> normalised([1, 3], 2).tolist(), normalised(None, 2).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    if weights is None:
        return np.full(count, 1 / count)
    given = np.asarray(weights).tolist()
    if not isinstance(given, list) or len(given) != count:
        said = len(given) if isinstance(given, list) else repr(given)
        raise checks.OptionError(
            f"weights must be one for each of the {count} agents, got {said}"
        )
    array = np.array([checks.within("a weight", x, 0.0, 1e300) for x in given])
    if not array.sum() > 0:
        raise checks.OptionError(f"weights must not all be zero, got {given}")
    array = array / array.max()  # their sum may be too large for a float
    return array / array.sum()


def shares(weights: jax.Array, alive: jax.Array) -> jax.Array:
    """Return weights [M] float32 whose sum is 1, of those that are alive.

    Traced weights can not be refused: those that are negative or not finite count
    nothing. Where no weight is left all that are alive count alike, and where nobody is
    alive, all.

    Args:
      weights: [M].
      alive: [M] bool.

    >>> shares(jnp.array([1.0, jnp.nan, 3.0]), jnp.array([True, True, False])).tolist()
    [1.0, 0.0, 0.0]
    """
    weights, alive = jnp.asarray(weights, jnp.float32), jnp.asarray(alive, bool)
    counts = alive & jnp.isfinite(weights) & (weights > 0)
    # so that no sum is too large, and no reciprocal too small for a float
    kept = jnp.where(counts, jnp.minimum(weights, 1e30), 0.0)
    kept = kept / jnp.where(counts.any(), kept.max(), 1.0)
    alike = jnp.where(alive.any(), alive, True).astype(jnp.float32)
    kept = jnp.where(counts.any(), kept, alike)
    return kept / kept.sum()
