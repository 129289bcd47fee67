"""Categorical distributions over values: a support of atoms, and moving between them."""

import chex
import jax
import jax.numpy as jnp

from optix import checks


def support(
    low: jax.Array | float, high: jax.Array | float, num_atoms: int
) -> jax.Array:
    """Return evenly spaced values, [num_atoms] float32.

    Args:
      low: [] the first one, may be traced.
      high: [] the last one, above `low`; may be traced. Reversed bounds give NaN, which
        a loop reports and undoes.
      num_atoms: static, at least 2.

    Raises:
      ValueError: fewer than two atoms.
    """
    checks.positive_int("num_atoms", num_atoms, minimum=2)
    chex.assert_rank([jnp.asarray(low), jnp.asarray(high)], 0)
    atoms = jnp.linspace(low, high, num_atoms, dtype=jnp.float32)
    return jnp.where(jnp.less(low, high), atoms, jnp.nan)


def project(
    support_from: jax.Array, probabilities: jax.Array, support_to: jax.Array
) -> jax.Array:
    """Move a distribution to another support (C51, https://arxiv.org/abs/1707.06887).

    Each atom's mass is shared by the two nearest values of the new support, so that its
    mean is kept; what lies outside goes to the nearest end. A small matrix of weights
    takes the place of the paper's scatter: under vmap it is one batched product.

    Args:
      support_from: [N] values in any order.
      probabilities: [N] of these values.
      support_to: [M] evenly spaced rising values, M >= 2; may be traced.

    Returns:
      [M] float32 probabilities with the same sum.
    """
    chex.assert_rank([support_from, probabilities, support_to], 1)
    chex.assert_equal_shape([support_from, probabilities])
    low, high = support_to[0], support_to[-1]
    spacing = (high - low) / (support_to.shape[0] - 1)
    distance = jnp.abs(jnp.clip(support_from, low, high) - support_to[:, None])
    weights = jnp.clip(1 - distance / spacing, 0.0, 1.0)  # [M, N]
    # on accelerators the default precision would lose a thousandth of the mass
    return jnp.dot(weights, probabilities, precision=jax.lax.Precision.HIGHEST)
