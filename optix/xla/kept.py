"""Functions whose results XLA:CPU keeps instead of computing them again for every use."""

import jax
import jax.numpy as jnp

from optix.xla.stored import stored
from optix.xla.threefry import unrolled

_normal = stored(jax.random.normal, static_argnames=("shape",))
_product = stored(jnp.matmul)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return standard normal draws, hashed once however often they are used.

    >>> normal(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return _normal(unrolled(key), shape)


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return `x @ y` as an operation of its own.

    XLA:CPU fuses a product with a constant matrix wrongly into a softmax of 256 rows.
    """
    return _product(x, y)
