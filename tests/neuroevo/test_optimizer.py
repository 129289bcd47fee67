"""Adam by version against its equations, entry by entry, and against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit

from optix.neuroevo.graph.graph import Structure, Weights
from optix.neuroevo.graph.optimizer import (
    graph_optimizer,
    keep_sign,
    seen_share,
    topology_adam,
)

B1, B2, EPS = 0.9, 0.999, 1e-8
STEPS = 12


def weights(rng=None, scale=1.0):
    """Weights of 4 neurons, delays to 1 and 2 gated cells."""
    shapes = (2, 4, 4), (4,), (4, 3, 2)
    draw = rng.normal if rng else lambda scale, size: np.zeros(size)
    return Weights(
        *(jnp.asarray(draw(scale=scale, size=s), jnp.float32) for s in shapes)
    )


def structure(sign=(0, 0, 0, 0)):
    version = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.uint8), weights())
    alive = jnp.ones(4, bool)
    return Structure(
        edge=jnp.ones((2, 4, 4), bool),
        alive=alive,
        kind=jnp.zeros(4, jnp.int8),
        sign=jnp.array(sign, jnp.int8),
        region=jnp.zeros(4, jnp.int8),
        level=jnp.zeros(4, jnp.int32),
        cell=jnp.arange(2),
        output=jnp.arange(3, 4),
        version=version,
    )


def fresh_adam(grads):
    """The last update of an Adam that saw `grads` [K, ...] and nothing before, float64."""
    mu = nu = np.zeros(grads.shape[1:])
    for grad in grads.astype(np.float64):
        mu, nu = B1 * mu + (1 - B1) * grad, B2 * nu + (1 - B2) * grad**2
    count = len(grads)
    return mu / (1 - B1**count) / (np.sqrt(nu / (1 - B2**count)) + EPS)


def changes(rng):
    """Versions [STEPS] of random entries changing at random steps, some of them twice."""
    changed = jax.tree.map(lambda x: rng.random((STEPS, *x.shape)) < 0.1, weights())
    return jax.tree.map(lambda x: jnp.asarray(np.cumsum(x, 0), jnp.uint8), changed)


def gradients(rng):
    drawn = [weights(rng) for _ in range(STEPS)]
    return jax.tree.map(lambda *x: jnp.stack(x), *drawn)


def run(rule, grads, versions, params=None):
    """All updates [STEPS, ...] and the last state, in one scan."""
    params = weights() if params is None else params

    def step(state, inputs):
        grad, version = inputs
        updates, state = rule.update(grad, state, params, version=version)
        return state, updates

    state, updates = jax.lax.scan(step, rule.init(params), (grads, versions))
    return updates, state


def assert_fresh_where_changed(updates, grads, versions):
    for update, grad, version in zip(updates, grads, versions, strict=True):
        update, grad, version = map(np.asarray, (update, grad, version))
        since = np.zeros(version.shape[1:], int)
        for t in range(STEPS):
            since = np.where(version[t] != (version[t - 1] if t else 0), t, since)
            for place in np.ndindex(*since.shape):
                start = since[place]
                expected = fresh_adam(grad[(slice(start, t + 1), *place)])
                np.testing.assert_allclose(
                    update[(t, *place)], expected, rtol=2e-4, atol=2e-6
                )


def test_each_entry_is_a_fresh_adam_since_its_last_change():
    rng = np.random.default_rng(0)
    grads, versions = gradients(rng), changes(rng)
    updates, state = jit(lambda g, v: run(topology_adam(), g, v))(grads, versions)
    assert_fresh_where_changed(updates, grads, versions)
    np.testing.assert_array_equal(state.seen.edge, versions.edge[-1])
    assert state.count.edge.dtype == jnp.int32 and state.count.edge.min() < STEPS


@pytest.mark.parametrize("version", ["none", "unchanged"])
def test_equals_adam_of_optax_where_nothing_changes(version):
    rng = np.random.default_rng(1)
    grads = gradients(rng)
    versions = changes(rng) if version == "unchanged" else ()
    versions = jax.tree.map(jnp.zeros_like, versions)
    clip = optax.clip_by_global_norm(1.0)
    ours = optax.chain(clip, topology_adam(eps=1e-5), optax.scale(-0.01))
    theirs = optax.with_extra_args_support(
        optax.chain(clip, optax.scale_by_adam(eps=1e-5), optax.scale(-0.01))
    )
    for a, b in zip(
        jit(run, static_argnums=0)(ours, grads, versions)[0],
        jit(run, static_argnums=0)(theirs, grads, ())[0],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)


def test_structures_belong_to_the_weights_among_other_parameters():
    rng = np.random.default_rng(2)
    grads, versions = gradients(rng), changes(rng)
    structures = jax.vmap(lambda v: structure()._replace(version=v))(versions)
    params = {"actor": weights(), "critics": (jnp.zeros(3), weights()), "scale": 0.0}
    both = {
        "actor": grads,
        "critics": (jnp.ones((STEPS, 3)), grads),
        "scale": jnp.ones(STEPS),
    }
    still = jax.vmap(lambda _: structure())(jnp.arange(STEPS))
    version = {"actor": structures, "critics": ((), still), "memory": jnp.zeros(STEPS)}
    rule = optax.chain(optax.clip_by_global_norm(1e9), topology_adam())
    updates, _ = jit(run, static_argnums=0)(rule, both, version, params)
    alone, _ = jit(run, static_argnums=0)(topology_adam(), grads, structures)
    unchanged, _ = jit(run, static_argnums=0)(topology_adam(), grads, ())
    close = dict(rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(updates["actor"].edge, alone.edge, **close)
    np.testing.assert_allclose(updates["critics"][1].edge, unchanged.edge, **close)
    np.testing.assert_allclose(updates["scale"], 1.0, rtol=1e-4)
    assert float(jnp.abs(alone.edge - unchanged.edge).max()) > 0.1


def test_a_population_of_other_histories():
    rng = np.random.default_rng(3)
    grads = [gradients(rng) for _ in range(3)]
    versions = [changes(rng) for _ in range(3)]
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)  # noqa: E731
    together, _ = jit(jax.vmap(lambda g, v: run(topology_adam(), g, v)))(
        stack(grads), stack(versions)
    )
    for i in range(3):
        alone, _ = jit(lambda g, v: run(topology_adam(), g, v))(grads[i], versions[i])
        np.testing.assert_allclose(together.edge[i], alone.edge, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_the_share_of_gradients_seen(decay):
    count = jnp.array([1, 2, 5, 100, 10_000, 2**31 - 1])
    exact = 1 - np.float64(np.float32(decay)) ** np.asarray(count, np.float64)
    np.testing.assert_allclose(seen_share(decay, count), exact, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 0.3])
def test_clamped_weights_overshoot_by_one_step_at_most(size):
    """Gradients push outwards for long; weights stay near 0 and come back at once."""
    own = structure(sign=(1, -1, 0, 1))
    sign = np.array([1, -1, 0, 1], np.float32)
    rule = optax.chain(graph_optimizer("clamp"), optax.scale(-size))
    params = weights()._replace(edge=jnp.full((2, 4, 4), 2.5 * size) * sign)
    outwards = weights()._replace(edge=jnp.broadcast_to(jnp.array(sign), (2, 4, 4)))
    outwards = outwards._replace(edge=jnp.where(sign == 0, 1.0, outwards.edge))

    def step(carry, direction):
        params, state = carry
        grads = jax.tree.map(lambda x: direction * x, outwards)
        updates, state = rule.update(grads, state, params, version=own)
        params = optax.apply_updates(params, updates)
        return (params, state), params.edge

    direction = jnp.concatenate([jnp.ones(40), -jnp.full(60, 3.0)])
    _, path = jit(lambda: jax.lax.scan(step, (params, rule.init(params)), direction))()
    beyond = -np.asarray(path * sign)
    assert 0 < beyond.max() <= size
    # what no law binds goes as far as it is pushed
    np.testing.assert_allclose(path[39, :, :, 2], -40 * size, rtol=1e-3)
    assert (np.asarray(path[-1] * sign)[..., sign != 0] > size).all()


def test_softplus_and_signless_neurons_need_no_clamp():
    rng = np.random.default_rng(4)
    grads, params = weights(rng), weights(rng)
    for dale, own in (("softplus", structure((1, -1, 1, 1))), ("clamp", structure())):
        rule = keep_sign(dale)
        kept, _ = rule.update(grads, rule.init(params), params, version=own)
        np.testing.assert_array_equal(kept.edge, grads.edge)


def test_only_the_outward_part_is_left_out():
    params = weights()._replace(edge=jnp.array([1.0, 0.0, -1.0, 0.0]) + weights().edge)
    own = structure(sign=(1, 1, 1, -1))
    rule = keep_sign("clamp")
    for push, kept in ((1.0, [1, 0, 0, 1]), (-1.0, [-1, -1, -1, 0])):
        grads = weights()._replace(edge=jnp.full((2, 4, 4), push))
        update, _ = rule.update(grads, rule.init(params), params, version=own)
        np.testing.assert_array_equal(update.edge, np.broadcast_to(kept, (2, 4, 4)))


@pytest.mark.parametrize(
    "version",
    [{"other": jnp.zeros(2, jnp.uint8)}, structure(), jnp.zeros(3, jnp.uint8)],
    ids=["form", "structure", "shape"],
)
def test_a_version_of_another_form_is_refused(version):
    rule = topology_adam()
    params = jnp.zeros(2)
    with pytest.raises(ValueError, match="version must"):
        rule.update(params, rule.init(params), params, version=version)


def test_clamping_needs_the_structure():
    rule = keep_sign("clamp")
    with pytest.raises(ValueError, match=r"version=policy\.structure"):
        rule.update(weights(), rule.init(weights()), weights())


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"b1 must be in \(0, 1\), got 1"):
        topology_adam(b1=1.0)
    with pytest.raises(ValueError, match="dale must be one of"):
        graph_optimizer("clam")
