"""Signals and gradients against the definition, neuron by neuron, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.neuroevo.graph import forward
from optix.neuroevo.graph.build import layered
from optix.neuroevo.graph.graph import Structure, Weights
from tests.neuroevo import reference

GRAPHS, STEPS = 200, 7


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def population(count, **options):
    """Random graphs of mixed kinds, their inputs, and all of them stacked."""
    rng = np.random.default_rng(0)
    graphs = [
        reference.as_numpy(
            reference.sample(
                rng, dale=("clamp", "softplus")[n % 2], signed=n % 4 > 1, **options
            )
        )
        for n in range(count)
    ]
    obs = rng.standard_normal((count, STEPS, graphs[0].num_inputs))
    ended = rng.random((count, STEPS)) < 0.2
    return graphs, obs, ended


def stacked(graphs):
    """One pytree of graphs of one Dale mode."""
    return jax.tree.map(lambda *x: jnp.stack(x), *graphs)


def by_mode(graphs, *arrays):
    """The graphs and arrays of each Dale mode, for which the mode is static."""
    for part in (slice(0, None, 2), slice(1, None, 2)):
        yield graphs[part], *(x[part] for x in arrays)


def definition(graph, obs, ended):
    """The outputs [T, N] by the reference, at rest again after each end."""
    state, outputs = reference.rest(graph), []
    for row, end in zip(obs, ended, strict=True):
        state, now = reference.step(graph, state, row)
        state = reference.rest(graph) if end else state
        outputs.append(now)
    return np.stack(outputs)


def run(graph, obs, ended):
    return forward.sequence(graph, forward.initial_carry(graph), obs, ended)[1]


def test_sequences_are_those_of_the_definition(float64):
    everything = population(GRAPHS)
    for graphs, obs, ended in by_mode(*everything):
        outputs = jit(jax.vmap(run))(stacked(graphs), obs, ended)
        for graph, x, end, given in zip(graphs, obs, ended, outputs, strict=True):
            np.testing.assert_allclose(
                given, definition(graph, x, end), rtol=0, atol=1e-12
            )


def test_gradients_are_central_differences(float64):
    # of a random direction in all parameters, and of single entries of each kind
    everything = population(GRAPHS, kinds=SMOOTH)
    rng = np.random.default_rng(1)
    for graphs, obs, ended in by_mode(*everything):
        many = stacked(graphs)
        readout = jnp.asarray(rng.standard_normal((STEPS, many.capacity)))

        def losses(weights, many=many, obs=obs, ended=ended, readout=readout):
            outputs = jax.vmap(run)(many.replace(weights=weights), obs, ended)
            return jnp.sum(outputs * readout, (1, 2))

        grads = jit(jax.grad(lambda w, f=losses: f(w).sum()))(many.weights)
        losses = jit(losses)
        for _ in range(4):
            direction = jax.tree.map(
                lambda x: jnp.asarray(rng.standard_normal(x.shape)), many.weights
            )
            direction = on_the_right_side(many, direction)
            slope = sum(
                jnp.sum(g * d, range(1, g.ndim))
                for g, d in zip(grads, direction, strict=True)
            )
            np.testing.assert_allclose(
                slope, central(losses, many.weights, direction), rtol=1e-6, atol=1e-6
            )


SMOOTH = ("linear", "tanh", "sigmoid", "elu", "trainable_gru", "trainable_lstm")


def on_the_right_side(many, direction):
    """No step through 0 of a clamped weight, where the function has a corner."""
    safe = jnp.abs(many.weights.edge) > 1e-3
    return direction._replace(edge=direction.edge * safe * many.structure.edge)


def central(losses, weights, direction, size=1e-5):
    def at(distance):
        return losses(jax.tree.map(lambda w, d: w + distance * d, weights, direction))

    return (at(size) - at(-size)) / (2 * size)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_state_of_a_plain_cell_passes_no_gradient(float64, kind):
    def early(kind):
        graph = layered(1, (2,), 1, kind=kind)
        obs = jnp.array([[1.0], [0.0], [0.0]])

        def last(obs):
            return run(graph, obs, jnp.zeros(3, bool))[-1, graph.num_inputs]

        return jit(jax.grad(last))(obs)[0, 0]

    assert early(kind) == 0
    assert early(f"trainable_{kind}") != 0


def test_a_step_is_a_sequence_of_one(float64):
    (graph,), obs, _ = population(1)
    graph = jax.tree.map(jnp.asarray, graph)
    whole = jit(run)(graph, obs[0], jnp.zeros(STEPS, bool))
    ready, carry = forward.circuit(graph), forward.initial_carry(graph)
    step = jit(forward.step)
    for x, outputs in zip(obs[0], whole, strict=True):
        carry, now = step(ready, carry, x)
        np.testing.assert_allclose(now, outputs, atol=1e-14)


def test_a_population_shares_one_plain_loop():
    """Graphs of other depths under vmap: the loop's count stays one number."""
    graphs, obs, ended = population(4)
    many = stacked([jax.tree.map(jnp.asarray, g) for g in graphs[::2]])
    text = str(jax.make_jaxpr(jax.vmap(run))(many, obs[::2], ended[::2]))
    assert "while" in text
    conditions = [line for line in text.splitlines() if "cond_jaxpr" in line]
    assert conditions and not any("bool[2]" in line for line in conditions)


def test_free_slots_are_silent_and_shapes_are_fixed():
    graph = layered(2, (3,), 1, capacity=12)
    assert isinstance(graph.weights, Weights)
    assert isinstance(graph.structure, Structure)
    outputs = jit(run)(graph, jnp.ones((2, 2)), jnp.zeros(2, bool))
    assert outputs.shape == (2, 12)
    assert not outputs[:, 6:].any()
