"""JAX's own random bits, computed without a loop.

On a CPU, XLA runs the hash behind `jax.random` (Threefry,
https://www.thesalmons.org/john/random123/) as a loop of small operations. A step of a
few environments draws a dozen times, and the loops then cost more than the step. The
keys made here give the same bits in one fused operation, whose result is stored: fused
into every use, it would be hashed again there.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from optix.xla.stored import stored

_TAG = "unrolled"  # what JAX calls the kind of key
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def unrolled(key: jax.Array) -> jax.Array:
    """Return a key that gives the same bits as `key`, sooner.

    A key that is not of JAX's default kind is returned as it is.

    >>> key = jax.random.key(0)
    >>> bool(jax.random.normal(key) == jax.random.normal(unrolled(key)))
    True
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_IMPLEMENTATION)


def plain(key: jax.Array) -> jax.Array:
    """Return the key of JAX's own kind that `unrolled` was given.

    Any other key is returned as it is.

    >>> plain(unrolled(jax.random.key(0))).dtype
    key<fry>
    """
    if jax.random.key_impl(key) != _IMPLEMENTATION:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")


def split(key: jax.Array, shape: int | tuple[int, ...] = 2) -> jax.Array:
    """Return what `jax.random.split` does, sooner; the keys are of JAX's own kind."""
    return plain(jax.random.split(unrolled(key), shape))


def fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    """Return what `jax.random.fold_in` does, sooner; the key is of JAX's own kind."""
    return plain(jax.random.fold_in(unrolled(key), data))


def _hash(key, high, low):
    """Threefry-2x32 of 20 rounds on counters of two words."""
    first, second = key[0], key[1]
    schedule = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))
    high, low = high + first, low + second
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            high = high + low
            low = ((low << rotation) | (low >> (32 - rotation))) ^ high
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return high, low


def _counters(shape):
    """The position of each element, as two words."""
    size = math.prod(shape)
    if size >= 2**32:
        raise ValueError(f"one draw must have less than 2**32 elements, got {size}")
    low = jax.lax.iota(jnp.uint32, size).reshape(shape)
    return jnp.zeros_like(low), low


def _seed(seed):
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


@functools.partial(stored, static_argnames=("shape",))
def _split(key, shape):
    return jnp.stack(_hash(key, *_counters(shape)), -1)


@functools.partial(stored, static_argnames=("bit_width", "shape"))
def _random_bits(key, bit_width, shape):
    high, low = _hash(key, *_counters(shape))
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(jnp.dtype(f"uint{bit_width}"))


@stored
def _fold_in(key, data):
    return jnp.stack(_hash(key, jnp.uint32(0), data.astype(jnp.uint32)))


_IMPLEMENTATION = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag=_TAG,
)
