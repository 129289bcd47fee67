"""The same bits as JAX's own, whatever the draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.xla.threefry import fold_in, plain, split, unrolled

KEY = jax.random.key(123)
DRAWS = {
    "split": lambda key: jax.random.key_data(jax.random.split(key, (3, 5))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 7)),
    "split_again": lambda key: jax.random.normal(jax.random.split(key)[1]),
    "normal": lambda key: jax.random.normal(key, (7, 3)),
    "uniform": lambda key: jax.random.uniform(key),
    "randint": lambda key: jax.random.randint(key, (5,), 0, 1000),
    "uint8": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "uint16": lambda key: jax.random.bits(key, (9,), jnp.uint16),
    "many": lambda key: jax.random.normal(key, (16, 16)),
    "many_and_odd": lambda key: jax.random.bits(key, (3, 333), jnp.uint8),
    "empty": lambda key: jax.random.uniform(key, (0, 3)),
    "permutation": lambda key: jax.random.permutation(key, 50),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_same_bits(draw):
    np.testing.assert_array_equal(jit(draw)(KEY), jit(draw)(unrolled(KEY)))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_same_bits_under_vmap(draw):
    keys = jax.random.split(KEY, 4)
    many = jit(jax.vmap(lambda key: draw(unrolled(key))))(keys)
    np.testing.assert_array_equal(many, jit(jax.vmap(draw))(keys))


def test_64_bits():
    with jax.enable_x64(True):
        for key in (KEY, jax.random.key(0)):
            for count in (4, 301):
                expected = jax.random.bits(key, (count,), jnp.uint64)
                np.testing.assert_array_equal(
                    expected, jax.random.bits(unrolled(key), (count,), jnp.uint64)
                )


def test_other_kinds_of_keys_stay_as_they_are():
    key = jax.random.key(0, impl="rbg")
    assert unrolled(key) is key
    assert unrolled(unrolled(KEY)).dtype == unrolled(KEY).dtype
    assert plain(KEY) is KEY and plain(key) is key


def test_keys_of_jax_itself_come_back():
    for found, expected in (
        (plain(unrolled(KEY)), KEY),
        (split(KEY), jax.random.split(KEY)),
        (split(KEY, (3, 2)), jax.random.split(KEY, (3, 2))),
        (fold_in(KEY, 7), jax.random.fold_in(KEY, 7)),
    ):
        assert found.dtype == KEY.dtype
        data = [jax.random.key_data(key) for key in (found, expected)]
        np.testing.assert_array_equal(*data)
