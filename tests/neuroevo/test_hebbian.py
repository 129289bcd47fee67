"""Hebbian learning against loops over edges, steps and environments."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.ppo import ProximalExtras
from optix.math.running import Moments, initial_moments
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.forward import Carry
from optix.neuroevo.graph.graph import effective_weights
from optix.neuroevo.growth.hebbian import coactivation, hebbian, hebbian_step
from optix.types import Policy, Report, Trajectory
from tests.neuroevo import reference

STEPS, ENVS = 11, 3
RATE, DECAY = 0.3, 0.05


def window(rng, neurons):
    signals = rng.standard_normal((STEPS, ENVS, neurons)).astype(np.float32)
    ended = rng.random((STEPS, ENVS)) < 0.25
    return signals, ended


def pairs(signals, ended, delay, post, pre):
    """What two neurons did at both ends of a delay, pair by pair."""
    return np.array(
        [
            (signals[t, b, post], signals[t - delay, b, pre])
            for b in range(ENVS)
            for t in range(delay, STEPS)
            if not ended[t - delay : t, b].any()
        ]
    ).reshape(-1, 2)


def expected_weight(before, both, sign, dale, rule, clip):
    """The effective weight of one edge after a step of the rule."""
    if not len(both):
        return before
    post, pre = both.astype(np.float64).T
    pull = np.mean(post * (pre - post * before if rule == "oja" else pre))
    after = before + RATE * pull - DECAY * before
    if clip is not None:
        after = min(max(after, -clip), clip)
    if sign == 0 or after == before:
        return after
    faintest = np.log1p(np.exp(-5.0)) if dale == "softplus" else 0.0
    return sign * max(sign * after, faintest)


def assert_learned(graph, learned, signals, ended, rule, clip=None):
    structure = graph.structure
    after = np.asarray(
        effective_weights(learned.weights, learned.structure, graph.dale)
    )
    moved = 0
    for delay, post, pre in zip(*np.nonzero(structure.edge), strict=True):
        before = reference.effective(graph, delay, post, pre)
        both = pairs(signals, ended, delay, post, pre)
        sign = int(structure.sign[pre])
        expected = expected_weight(before, both, sign, graph.dale, rule, clip)
        np.testing.assert_allclose(after[delay, post, pre], expected, atol=2e-5)
        moved += abs(expected - before) > 1e-3
    assert moved > 20
    absent = ~np.asarray(structure.edge)
    np.testing.assert_array_equal(
        np.asarray(learned.weights.edge)[absent], graph.weights.edge[absent]
    )
    np.testing.assert_array_equal(learned.weights.bias, graph.weights.bias)


@pytest.mark.parametrize("dale", ["clamp", "softplus"])
@pytest.mark.parametrize("rule", ["decay", "oja"])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_each_edge_follows_its_rule(dale, rule, clip):
    rng = np.random.default_rng(0)
    graph = reference.sample(rng, dale=dale, signed=True, capacity=11)
    signals, ended = window(rng, graph.capacity)

    @jit
    def learn(graph, signals, ended):
        active = coactivation(signals, ended, graph.max_delay)
        return hebbian_step(graph, active, RATE, DECAY, rule=rule, clip=clip)

    learned = learn(graph, signals, ended)
    assert_learned(graph, learned, signals, ended, rule, clip)


def test_delays_longer_than_an_episode_or_the_window_have_no_pairs():
    rng = np.random.default_rng(1)
    signals = window(rng, 4)[0][:2]
    active = jit(coactivation, static_argnums=2)(signals, np.ones((2, ENVS), bool), 3)
    np.testing.assert_array_equal(active.pairs, [2 * ENVS, 0, 0, 0])
    assert np.isfinite(active.product).all()
    graph = layered(1, (2,), 1, recurrent_delay=1)
    active = jax.tree.map(lambda x: x[:2], active)
    learned = jit(hebbian_step)(graph, active, RATE, DECAY)
    np.testing.assert_array_equal(learned.weights.edge[1], graph.weights.edge[1])
    assert np.any(learned.weights.edge[0] != graph.weights.edge[0])


def test_nothing_happens_at_rate_and_decay_zero():
    rng = np.random.default_rng(2)
    for dale in ("clamp", "softplus"):
        graph = reference.sample(rng, dale=dale, signed=True, scale=4.0)
        signals, ended = window(rng, graph.capacity)
        active = jit(coactivation, static_argnums=2)(signals, ended, graph.max_delay)
        learned = jit(hebbian_step)(graph, active, 0.0, 0.0)
        np.testing.assert_array_equal(learned.weights.edge, graph.weights.edge)


def test_oja_finds_the_first_principal_component():
    """Of inputs with a known covariance; plain Hebb without decay diverges."""
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((4, 4))
    inputs = rng.standard_normal((400, 1, 4)) @ mixing
    graph = layered(4, (), 1)
    ended = jnp.zeros((400, 1), bool)

    @jit
    def learn(graph):
        def step(_, graph):
            weights = graph.weights.edge[0, 4, :4]
            outputs = inputs @ weights
            signals = jnp.concatenate([inputs, outputs[..., None]], -1)
            active = coactivation(signals, ended, 0)
            return hebbian_step(graph, active, 0.02, rule="oja")

        return jax.lax.fori_loop(0, 3000, step, graph)

    assert graph.capacity == 5
    weights = np.asarray(learn(graph).weights.edge[0, 4, :4])
    covariance = np.einsum("tbi,tbj->ij", inputs, inputs) / 400
    first = np.linalg.eigh(covariance)[1][:, -1]
    np.testing.assert_allclose(np.linalg.norm(weights), 1.0, rtol=1e-3)
    np.testing.assert_allclose(abs(weights @ first), 1.0, rtol=1e-3)


def test_signals_are_those_of_acting():
    """A recurrent graph of all kinds, amid an episode, with normalised observations."""
    rng = np.random.default_rng(4)
    graph = jax.tree.map(jnp.asarray, reference.sample(rng, capacity=12))
    obs = (3 + 2 * rng.standard_normal((STEPS, ENVS, 3))).astype(np.float32)
    _, ended = window(rng, 1)
    moments = Moments(jnp.float32(9), jnp.full(3, 3.0), jnp.full(3, 4.0))
    start = [
        reference.State(
            rng.standard_normal((graph.max_delay, graph.capacity)),
            *rng.standard_normal((2, graph.max_cells)),
        )
        for _ in range(ENVS)
    ]
    signals = np.zeros((STEPS, ENVS, graph.capacity), np.float32)
    exact = reference.as_numpy(graph)
    for b, state in enumerate(start):
        for t in range(STEPS):
            state, signals[t, b] = reference.step(exact, state, (obs[t, b] - 3) / 2)
            if ended[t, b]:
                state = reference.rest(graph)
    carry = Carry(*(jnp.stack(x)[None] for x in zip(*start, strict=True)))
    trajectory = Trajectory(
        obs=obs,
        action=(),
        reward=jnp.zeros((STEPS, ENVS)),
        terminated=ended & (np.arange(ENVS) > 0),
        truncated=ended & (np.arange(ENVS) < 2),
        next_obs=(),
        extras={"carry": carry},
    )
    extras = ProximalExtras(moments, initial_moments(), jnp.int32(0))
    policy = Policy(graph.weights, graph.structure, extras=extras)
    transform = hebbian(graph, rule="oja")

    @jit
    def update(weights, rate, finite):
        signals = SimpleNamespace(
            hyperparams={"hebbian/rate": rate, "hebbian/decay": DECAY}
        )
        report = Report(jnp.int32(0), finite, {}, trajectory)
        return transform.update((), policy._replace(params=weights), 7, report, signals)

    state, learned, rollout, modulation = update(graph.weights, RATE, True)
    assert (state, int(rollout), modulation) == ((), 7, {})
    learned = graph.replace(weights=learned.params)
    assert_learned(graph, learned, signals, ended, "oja")
    _, unsound, *_ = update(graph.weights, RATE, False)
    np.testing.assert_array_equal(unsound.params.edge, graph.weights.edge)
    _, unsound, *_ = update(graph.weights, np.inf, True)
    np.testing.assert_array_equal(unsound.params.edge, graph.weights.edge)


def test_bad_arguments_are_refused():
    graph = layered(2, (2,), 1)
    with pytest.raises(ValueError, match="rule must be one of"):
        hebbian(graph, rule="hebb")
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 2"):
        hebbian(graph, decay=2)
    with pytest.raises(ValueError, match=r"clip must be in \(0, inf\), got 0"):
        hebbian(graph, clip=0)
    with pytest.raises(ValueError, match="graph must be a NeuronGraph"):
        hebbian(graph.weights)
    transform = hebbian(graph)
    with pytest.raises(ValueError, match="trajectory must be a Trajectory"):
        report = Report(jnp.int32(0), jnp.bool_(True), {})
        transform.update((), Policy(graph.weights), (), report, None)
