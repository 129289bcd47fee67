"""Whether all numbers of a tree are finite, beside NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.trees import all_finite

SIZES = ((), (3, 5), (0,), (128, 128), (300, 200))  # below and above what is joined


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_number_in_any_leaf_is_found(wrong):
    leaves = [np.ones(size, np.float32) for size in SIZES]
    check = jax.jit(all_finite)
    assert check(leaves)
    rng = np.random.default_rng(0)
    for number, leaf in enumerate(leaves):
        if leaf.size:
            spoilt = leaf.copy()
            spoilt.flat[rng.integers(leaf.size)] = wrong
            assert not check([*leaves[:number], spoilt, *leaves[number + 1 :]]), number


def test_what_is_no_float_is_finite():
    assert all_finite({"count": jnp.int32(7), "on": jnp.array([True])})
    assert all_finite(())


def test_each_of_a_batch_is_told_by_itself():
    leaves = [jnp.ones((2, *size)).at[1].set(jnp.nan) for size in SIZES]
    np.testing.assert_array_equal(jax.vmap(all_finite)(leaves), [True, False])
