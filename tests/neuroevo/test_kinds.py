"""Kinds of neurons: values, numbers that stay, and kinds of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.neuroevo.graph import cells
from optix.neuroevo.graph.build import layered, random_graph
from optix.neuroevo.graph.capacity import grow_capacity
from optix.neuroevo.graph.forward import initial_carry, sequence
from optix.neuroevo.growth.controller import topology_controller
from optix.neuroevo.topology.mutate import add_neuron
from tests.neuroevo import reference

NUMBERS = [  # of checkpoints; a change here makes old ones wrong
    *("linear", "relu", "tanh", "sigmoid", "elu"),
    *("gru", "lstm", "trainable_gru", "trainable_lstm"),
    *("sin", "cos", "gaussian", "abs", "square"),
    *("softplus", "silu", "gelu", "leaky_relu", "hard_tanh"),
]


def test_numbers_stay():
    assert [cells.kind_number(name) for name in NUMBERS] == list(range(len(NUMBERS)))
    assert list(map(cells.kind_name, range(len(NUMBERS)))) == NUMBERS
    assert cells.register_activation("halved", _halved) == 83
    assert cells.kind_name(83) == "halved"


def _halved(x):
    return x / 2


def test_all_kinds_compute_what_they_are():
    kinds = [name for name in NUMBERS if name not in cells.CELLS]
    number = jnp.array([cells.kind_number(name) for name in kinds])
    x = np.linspace(-4, 4, 9, dtype=np.float32)[:, None]
    table = reference.POINTS | reference.MORE
    found = cells.activate(number, x, NUMBERS)
    expected = [[table[name](float(row[0])) for name in kinds] for row in x]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_an_activation_of_ones_own_runs_learns_and_is_fixed():
    cells.register_activation("root", _root)
    graph = layered(2, (3,), 1, kind="root", output_kind="sigmoid")
    assert graph.kinds[-1] == "root" and grow_capacity(graph).kinds == graph.kinds

    def loss(weights, xs):
        own = graph.replace(weights=weights)
        return sequence(own, initial_carry(graph), xs, jnp.zeros(2, bool))[1][
            :, 2
        ].sum()

    xs = jnp.array([[0.5, -1.0], [0.3, 0.2]])
    value, slope = jax.jit(jax.value_and_grad(loss))(graph.weights, xs)
    w = np.asarray(graph.weights.edge[0])
    hidden = np.sqrt(np.abs(w[3:6, :2] @ xs.T))
    out = 1 / (1 + np.exp(-(w[2, 3:6] @ hidden)))
    assert float(value) == pytest.approx(out.sum(), rel=1e-5)
    assert bool(jnp.isfinite(slope.edge[0, 2]).all())
    cells.register_activation("root", _root)  # once more, the same
    with pytest.raises(ValueError, match="'root' is there and can not be changed"):
        cells.register_activation("root", jnp.abs)


def _root(x):
    return jnp.sqrt(jnp.abs(x))


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("tanh", jnp.tanh, "'tanh' is there and can not be changed"),
        ("two words", jnp.tanh, "name must be an identifier"),
        (None, jnp.tanh, "name must be an identifier"),
        ("nothing", None, "function must be a function"),
        ("total", jnp.sum, "must turn each number of an array into another"),
        ("softmaxed", jax.nn.softmax, "must turn each number"),
        ("failing", lambda x: x.nonsense, "must turn each number"),
    ],
)
def test_what_is_no_activation_is_refused(name, function, message):
    with pytest.raises(ValueError, match=message):
        cells.register_activation(name, function)


def test_a_graph_has_the_kinds_it_was_built_with():
    graph = layered(2, (3,), 1, capacity=8)
    with pytest.raises(ValueError, match=r"with_kinds\('sin'\) may have it"):
        add_neuron(graph, "sin")
    with pytest.raises(ValueError, match=r"with_kinds\('sin'\)"):
        topology_controller(graph, kind="sin")
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        layered(2, (3,), 1, output_kind="gausian")
    more = graph.with_kinds("sin")
    assert bool(add_neuron(more, "sin").ok)
    assert not bool(add_neuron(graph, jnp.int32(cells.kind_number("sin"))).ok)
    assert (
        random_graph(jax.random.key(0), 2, 3, 1, output_kind="abs").kinds[-1] == "abs"
    )
    # a kind that the graph may not have is not taken for another one
    structure = graph.structure._replace(kind=graph.structure.kind.at[3].set(9))
    wrong = graph.replace(structure=structure)
    out = sequence(wrong, initial_carry(graph), jnp.ones((1, 2)), jnp.zeros(1, bool))[1]
    assert bool(jnp.isnan(out[0, 2]))
