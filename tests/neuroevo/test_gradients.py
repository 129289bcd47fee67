"""Gradient utilisation: noise of known strength and dependence, and a NumPy loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit
from scipy import stats

from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.graph import Weights
from optix.neuroevo.graph.optimizer import graph_optimizer, topology_adam
from optix.neuroevo.growth.conditions import shares_in_use
from optix.neuroevo.growth.gradients import (
    GradientMoments,
    gradient_moments,
    utilised,
)

GRAPHS, HIDDEN, STEPS = 60, 24, 80
B1, B2 = 0.9, 0.999

graph = layered(5, (HIDDEN,), 3)
LIVE = np.asarray(graph.structure.edge)
FIRST = graph.first_hidden


def hidden_share(graph, moments, level):
    """The share of hidden neurons in use."""
    used = utilised(graph.structure, moments, level)
    return used[FIRST : FIRST + HIDDEN].mean()


share = jax.jit(jax.vmap(hidden_share, in_axes=(None, 0, None)))
used_neurons = jax.jit(jax.vmap(utilised, in_axes=(None, 0, None)))


def noise(rng, dependence=0.0):
    """Gradients of one step of all graphs; those into a neuron share a part of it."""
    own = rng.standard_normal((GRAPHS, *LIVE.shape))
    shared = rng.standard_normal((GRAPHS, 1, graph.capacity, 1))
    bias = rng.standard_normal((GRAPHS, graph.capacity))
    apart, together = np.sqrt(1 - dependence), np.sqrt(dependence)
    edge = LIVE * (apart * own + together * shared)
    return edge, apart * bias + together * shared[:, 0, :, 0]


def moments(gradients, steps=STEPS, size=1.0):
    """Decaying means after `steps` of `gradients(rng)`, of all graphs, in float64."""
    rng = np.random.default_rng(steps)
    mu = nu = (0.0, 0.0)
    for _ in range(steps):
        grads = [size * x for x in gradients(rng)]
        mu = [B1 * m + (1 - B1) * g for m, g in zip(mu, grads, strict=True)]
        nu = [B2 * n + (1 - B2) * g**2 for n, g in zip(nu, grads, strict=True)]
    zeros = jnp.zeros((GRAPHS, *graph.weights.gate.shape))
    mu, nu = (
        Weights(*(jnp.asarray(x, jnp.float32) for x in m), zeros) for m in (mu, nu)
    )
    count = jax.tree.map(lambda x: jnp.full(x.shape, steps), mu)
    decays = jnp.broadcast_to(jnp.array([B1, B2]), (GRAPHS, 2))
    return GradientMoments(mu, nu, count, decays)


@pytest.mark.parametrize("steps", [12, STEPS, 500])
@pytest.mark.parametrize("dependence", [0.0, 0.5, 1.0])
def test_of_noise_about_the_level_counts(steps, dependence):
    found = moments(lambda rng: noise(rng, dependence), steps)
    for level, low, high in ((0.05, 0.025, 0.085), (0.2, 0.14, 0.26)):
        assert low < float(share(graph, found, level).mean()) < high


@pytest.mark.parametrize("steps", [5, STEPS])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_a_constant_gradient_is_use(steps, size):
    found = moments(lambda _: noise(np.random.default_rng(7)), steps, size)
    np.testing.assert_array_equal(share(graph, found, 0.05), 1.0)


def test_the_scale_of_the_loss_drops_out():
    plain, small, large = (
        share(graph, moments(lambda rng: noise(rng, 0.3), size=size), 0.05)
        for size in (1.0, 1e-12, 1e12)
    )
    for scaled in (small, large):
        assert np.mean(scaled != plain) < 0.05
        np.testing.assert_allclose(scaled, plain, atol=2 / HIDDEN)


def test_utilisation_rises_with_the_signal():
    def with_signal(size):
        def gradients(rng):
            edge, bias = noise(rng, 0.2)
            return edge + size * LIVE, bias

        return float(share(graph, moments(gradients), 0.05).mean())

    found = [with_signal(size) for size in (0.0, 0.2, 0.5, 1.5)]
    assert found == sorted(found) and found[-1] > 0.99 and found[2] > 4 * found[0]


def test_only_the_neurons_with_a_direction_count():
    steady = np.zeros(graph.capacity, bool)
    steady[FIRST : FIRST + HIDDEN // 2] = True

    def gradients(rng):
        edge, bias = noise(rng)
        incoming = LIVE & steady[:, None] & np.ones(graph.capacity, bool)
        return np.where(incoming, 1.0, edge), bias

    used = np.asarray(used_neurons(graph.structure, moments(gradients), 0.05))
    assert used[:, FIRST : FIRST + HIDDEN // 2].mean() > 0.99
    assert used[:, FIRST + HIDDEN // 2 :].mean() < 0.085


def reference(moments, level, counts):
    """Which neurons are utilised, one by one, by scipy's Student t."""
    edge, alive = np.asarray(LIVE), np.asarray(graph.structure.alive)
    used = np.zeros(graph.capacity, bool)
    mu, nu = ([np.asarray(x, np.float64) for x in part] for part in moments[:2])

    def chance(mean, square, count):
        v1, v2 = ((1 - b) / (1 + b) * (1 + b**count) / (1 - b**count) for b in (B1, B2))
        mean, square = mean / (1 - B1**count), square / (1 - B2**count)
        part = mean**2 / square * v2 / v1
        degrees = 1 / v2 - 1
        t = np.sqrt(part * degrees / (1 - part))
        return 2 * stats.t.sf(t, degrees)

    for neuron in np.flatnonzero(alive):
        chances = []
        for place in zip(*np.nonzero(edge), strict=True):
            chances += [
                chance(mu[0][place], nu[0][place], counts[0][place])
                for end in place[1:]
                if end == neuron and nu[0][place] > 0
            ]
        if nu[1][neuron] > 0:
            chances.append(chance(mu[1][neuron], nu[1][neuron], counts[1][neuron]))
        if chances:
            statistic = np.mean(1 / np.tan(np.pi * np.array(chances)))
            used[neuron] = 0.5 - np.arctan(statistic) / np.pi < level
    return used


@pytest.mark.parametrize("level", [0.05, 0.3])
def test_agrees_with_scipy_neuron_by_neuron(level):
    def gradients(rng):
        edge, bias = noise(rng, 0.2)
        return edge + 0.15 * LIVE, bias

    all_found = moments(gradients, 40)
    used = np.asarray(used_neurons(graph.structure, all_found, level))
    expected = []
    for row in range(6):
        one = jax.tree.map(lambda x: np.asarray(x[row]), all_found)  # noqa: B023
        expected.append(reference(one, level, one.count))
    assert 20 < np.sum(expected) < 6 * 30
    # where the approximation and the threshold meet
    assert (used[:6] != expected).sum() <= 2


def test_gates_are_part_of_their_neuron():
    gated = layered(2, (3,), 1, kind="gru")
    still = jax.tree.map(jnp.zeros_like, gated.weights)
    slot, neuron = 1, int(gated.structure.cell[1])
    steady = still._replace(gate=still.gate.at[2, 1, slot].set(1.0))
    rule = topology_adam()
    state = rule.init(gated.weights)
    update = jit(rule.update)
    for _ in range(8):
        _, state = update(steady, state, gated.weights)
    used = np.asarray(jit(utilised)(gated.structure, gradient_moments(state)))
    np.testing.assert_array_equal(np.flatnonzero(used), [neuron])


def test_the_moments_of_an_edge_that_is_gone_do_not_count():
    def gradients(rng):
        edge, bias = noise(rng)
        return edge + LIVE, 0.0 * bias

    bare = graph.structure._replace(edge=jnp.zeros_like(graph.structure.edge))
    assert not used_neurons(bare, moments(gradients), 0.05).any()


def test_one_count_of_all_entries_will_do():
    by_entry = moments(noise)
    by_all = by_entry._replace(count=jnp.full(GRAPHS, STEPS))
    for level in (0.05, 0.5):
        np.testing.assert_array_equal(
            used_neurons(graph.structure, by_all, level),
            used_neurons(graph.structure, by_entry, level),
        )


@pytest.mark.parametrize("rule", [topology_adam, graph_optimizer])
def test_moments_are_found_inside_a_chain(rule):
    chained = optax.chain(optax.clip_by_global_norm(1.0), rule(), optax.scale(-0.1))
    grads = jax.tree.map(jnp.ones_like, graph.weights)
    rule = optax.with_extra_args_support(chained)
    state = rule.init(graph.weights)
    _, state = jit(rule.update)(grads, state, graph.weights, version=graph.structure)
    found = gradient_moments(state)
    assert float(found.mu.edge.min()) > 0
    assert int(jax.tree.leaves(found.count)[0].max()) == 1


def test_no_hidden_neuron_is_idle_where_there_is_none():
    bare = layered(2, (), 1, capacity=6)
    state = topology_adam().init(bare.weights)
    assert shares_in_use(bare, state, 1).tolist() == [1.0]


def test_the_decays_are_the_optimizers_own():
    moments = gradient_moments(topology_adam(b1=0.5, b2=0.9).init(graph.weights))
    np.testing.assert_allclose(moments.decays, [0.5, 0.9], rtol=1e-6)
    plain = optax.scale_by_adam().init(graph.weights)
    with pytest.raises(ValueError, match="say how its means decay"):
        gradient_moments(plain)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (optax.sgd(0.1), "one Adam's mu, nu and count, got 0"),
        (optax.chain(graph_optimizer(), topology_adam()), "got 2"),
        (optax.flatten(optax.scale_by_adam()), r"give the agent optimizer="),
    ],
)
def test_states_without_moments_of_a_graph_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        gradient_moments(rule.init(graph.weights))
