"""The categorical projection against rlax and against the loop of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from optix.math.categorical import project, support

compiled = jax.jit(jax.vmap(project, in_axes=(0, 0, None)))


def distributions(seed, batch=32, atoms=21, scale=6.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(scale=scale, size=(batch, atoms)).astype(np.float32)
    mass = rng.dirichlet(np.full(atoms, 0.3), size=batch).astype(np.float32)
    return values, mass


def slow(values, mass, atoms):
    """Algorithm 1 of the paper: each atom split between its two neighbours."""
    result = np.zeros(len(atoms))
    spacing = (atoms[-1] - atoms[0]) / (len(atoms) - 1)
    for value, probability in zip(values, mass, strict=True):
        place = (np.clip(value, atoms[0], atoms[-1]) - atoms[0]) / spacing
        below = min(int(place), len(atoms) - 2)
        result[below + 1] += probability * (place - below)
        result[below] += probability * (1 - (place - below))
    return result


@pytest.mark.parametrize(("low", "high", "num_atoms"), [(-5, 5, 51), (0, 9, 2)])
def test_the_paper_and_rlax(low, high, num_atoms):
    values, mass = distributions(num_atoms)
    atoms = support(low, high, num_atoms)
    got = compiled(values, mass, atoms)
    assert got.shape == (32, num_atoms) and got.dtype == jnp.float32
    even = np.linspace(low, high, num_atoms)
    paper = [slow(v, m, even) for v, m in zip(values, mass, strict=True)]
    np.testing.assert_allclose(got, paper, atol=1e-5)
    oracle = jax.vmap(rlax.categorical_l2_project, (0, 0, None))
    np.testing.assert_allclose(got, oracle(values, mass, atoms), atol=1e-5)


def test_reversed_bounds_are_not_finite():
    """They may be traced, so only the numbers can tell."""
    for low, high in [(2.0, -2.0), (1.0, 1.0)]:
        assert np.isnan(jax.jit(support, static_argnums=2)(low, high, 5)).all()


def test_mass_is_kept_and_the_mean_where_inside():
    values, mass = distributions(1)
    narrow = compiled(values, mass, support(-2.0, 2.0, 11))
    np.testing.assert_allclose(narrow.sum(1), 1, atol=1e-5)
    atoms = support(-60.0, 60.0, 31)
    wide = compiled(values, mass, atoms)
    np.testing.assert_allclose(wide.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(wide @ atoms, (values * mass).sum(1), atol=1e-4)


def test_a_distribution_on_the_support_stays():
    atoms = support(-10.0, 10.0, 51)
    _, mass = distributions(2, atoms=51)
    np.testing.assert_allclose(
        compiled(jnp.tile(atoms, (32, 1)), mass, atoms), mass, atol=1e-5
    )


def test_what_lies_outside_goes_to_the_ends():
    got = project(jnp.array([-99.0, jnp.inf]), jnp.array([0.3, 0.7]), support(0, 4, 5))
    np.testing.assert_allclose(got, [0.3, 0, 0, 0, 0.7], atol=1e-6)


def test_the_support_may_be_traced_and_differ():
    values, mass = distributions(3, batch=3)
    lows, highs = jnp.array([-1.0, -5.0, 0.0]), jnp.array([1.0, 9.0, 2.0])

    @jax.jit
    @jax.vmap
    def both(value, probability, low, high):
        return project(value, probability, support(low, high, 7))

    got = both(values, mass, lows, highs)
    for row in range(3):
        expected = slow(values[row], mass[row], np.linspace(lows[row], highs[row], 7))
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="num_atoms must be an integer >= 2, got 1"):
        support(0.0, 1.0, 1)
    with pytest.raises(AssertionError):
        project(jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.arange(3.0))
    with pytest.raises(AssertionError):
        project(jnp.zeros(3), jnp.zeros(4), jnp.arange(3.0))
