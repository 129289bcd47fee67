"""The permutation from one sort: complete, and fair by chi-square."""

import jax
import numpy as np
import pytest
from scipy import stats

from optix.xla.permutation import random_permutation


@pytest.mark.parametrize("size", [1, 2, 5, 128, 129, 2**16 + 1])
def test_every_index_once(size):
    order = random_permutation(jax.random.key(size), size)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_too_many_for_one_word():
    size = 2**20 + 1  # takes the other way
    order = random_permutation(jax.random.key(0), size)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [3, 8])
def test_every_index_is_anywhere_equally_often(size):
    draws = 4000
    keys = jax.random.split(jax.random.key(1), draws)
    orders = np.asarray(jax.vmap(lambda k: random_permutation(k, size))(keys))
    counts = np.stack([(orders == index).sum(0) for index in range(size)])
    # rows and columns have fixed sums, so this many degrees of freedom
    statistic = ((counts - draws / size) ** 2 / (draws / size)).sum()
    assert stats.chi2.sf(statistic, (size - 1) ** 2) > 1e-3
    # and every order of the first two is as frequent as any other
    pairs = np.unique(orders[:, 0] * size + orders[:, 1], return_counts=True)[1]
    assert len(pairs) == size * (size - 1)
    assert stats.chisquare(pairs).pvalue > 1e-3


@pytest.mark.parametrize("size", [2**16])
def test_a_large_one_mixes(size):
    """Sixteen blocks of indices fall into sixteen blocks of places evenly."""
    order = np.asarray(random_permutation(jax.random.key(2), size))
    block = size // 16
    table = np.histogram2d(np.arange(size) // block, order // block, bins=16)[0]
    statistic = ((table - block / 16) ** 2 / (block / 16)).sum()
    assert 1e-3 < stats.chi2.sf(statistic, 15 * 15) < 1 - 1e-3


def test_neighbours_are_in_order_half_the_time():
    """Ties stay in index order; they must be too few to show."""
    size = 2**16
    order = np.asarray(random_permutation(jax.random.key(3), size))
    place = np.argsort(order)
    rising = (np.diff(place) > 0).sum()
    # adjacent comparisons are dependent: the variance of the number of rises is n / 12
    assert abs(rising - size / 2) < 4 * np.sqrt(size / 12)


def test_keys_differ():
    orders = [random_permutation(jax.random.key(seed), 100) for seed in (0, 1)]
    assert (orders[0] != orders[1]).any()
