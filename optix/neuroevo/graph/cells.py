"""What a neuron does with its input: point neurons and gated cells.

A kind is one function of the input. Adding one is adding a line to its table: gradients,
mutations, checkpoints and the drawing follow from it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Point(NamedTuple):
    """An activation function.

    All point neurons share one hyperbolic tangent, the dearest part of a step.

    halved: the tangent is of half the input.
    value: `(input, tangent) -> output`.
    """

    halved: bool
    value: Callable[[jax.Array, jax.Array], jax.Array]


def _elu(x, tanh):
    # exp(x) - 1 without cancellation
    below = jnp.minimum(tanh, 0.0)
    return jnp.where(x > 0, x, 2.0 * below / (1.0 - below))


POINTS = {
    "linear": Point(False, lambda x, tanh: x),
    "relu": Point(False, lambda x, tanh: jnp.maximum(x, 0.0)),
    "tanh": Point(False, lambda x, tanh: tanh),
    "sigmoid": Point(True, lambda x, tanh: 0.5 + 0.5 * tanh),
    "elu": Point(True, _elu),
}


def gru(gate, x, h, c):
    """A gated recurrent unit (https://arxiv.org/abs/1406.1078) of one neuron."""
    del c  # its inner state is its output
    update, reset, _ = _gates(gate, x, h)
    new = jnp.tanh(gate[3, 0] * reset * h + gate[3, 1] * x + gate[3, 2])
    h = h + update * (new - h)
    return h, h


def lstm(gate, x, h, c):
    """Long short-term memory (https://doi.org/10.1162/neco.1997.9.8.1735) of one."""
    write, show, keep = _gates(gate, x, h)
    new = jnp.tanh(gate[3, 0] * h + gate[3, 1] * x + gate[3, 2])
    c = keep * c + write * new
    return show * jnp.tanh(c), c


def _gates(gate, x, h):
    """The three gates; what two kinds share, XLA computes once."""
    return tuple(
        jax.nn.sigmoid(gate[row, 0] * h + gate[row, 1] * x + gate[row, 2])
        for row in range(3)
    )


class Cell(NamedTuple):
    """A neuron with a state of its own.

    trainable: gradients flow back through the state, else it is data.
    step: `(gate [4, 3, ...], input, h, c) -> (h, c)`, elementwise; the rows of `gate` are
        three gates and the candidate, its columns the weights of state and input, and a
        bias.
    gate: the parameters at first: the candidate is the input, and what is in the state
        stays for a few steps.
    """

    trainable: bool
    step: Callable[..., tuple[jax.Array, jax.Array]]
    gate: tuple[tuple[float, float, float], ...]


_GRU = ((0.0, 0.0, -1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0))
_LSTM = ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
CELLS = {
    "gru": Cell(False, gru, _GRU),
    "lstm": Cell(False, lstm, _LSTM),
    "trainable_gru": Cell(True, gru, _GRU),
    "trainable_lstm": Cell(True, lstm, _LSTM),
}

KINDS = (*POINTS, *CELLS)  # a neuron's kind is its place here


def is_gated(kind: jax.Array) -> jax.Array:
    """Return whether a kind is a gated cell."""
    return kind >= len(POINTS)


def initial_gate(kind: jax.Array) -> jax.Array:
    """Return the gates that cells of `kind` [...] begin with, [..., 4, 3] float32.

    They are 0 of point neurons.
    """
    points = [((0.0,) * 3,) * 4 for _ in POINTS]
    return jnp.array(points + [cell.gate for cell in CELLS.values()])[kind]


def activate(kind: jax.Array, x: jax.Array) -> jax.Array:
    """Return the output of point neurons of `kind` [N] at input `x` [..., N]."""
    halved = jnp.array([point.halved for point in POINTS.values()] + [False])
    tanh = jnp.tanh(jnp.where(halved[jnp.minimum(kind, len(POINTS))], 0.5 * x, x))
    values = [point.value(x, tanh) for point in POINTS.values()]
    return _choose(kind, values)


def advance(
    kind: jax.Array, gate: jax.Array, x: jax.Array, h: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the new (h, c) of gated cells of `kind` [G]; `x`, `h`, `c` are [..., G].

    The state of a kind that is not trainable passes no gradient.
    """
    trainable = jnp.array([cell.trainable for cell in CELLS.values()])
    number = jnp.clip(kind - len(POINTS), 0, len(CELLS) - 1)
    h, c = (
        jnp.where(trainable[number], state, jax.lax.stop_gradient(state))
        for state in (h, c)
    )
    functions = dict.fromkeys(cell.step for cell in CELLS.values())
    outcomes = {step: step(gate, x, h, c) for step in functions}  # each once
    kinds = [outcomes[cell.step] for cell in CELLS.values()]
    new_h, new_c = zip(*kinds, strict=True)
    return _choose(number, new_h), _choose(number, new_c)


def _choose(number, values):
    """The value of each neuron's kind; the first one for a number that is none."""
    chosen = values[0]
    for index, value in enumerate(values[1:], 1):
        chosen = jnp.where(number == index, value, chosen)
    return chosen
