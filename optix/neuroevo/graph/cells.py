"""What a neuron does with its input: point neurons and gated cells.

A kind is one function of the input, and a number by which graphs and checkpoints know it.
Numbers never change: a new kind goes to the end of its table. Kinds of one's own, see
`register_activation`, have the numbers from 64 on, each by its name.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks


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


def _silu(x, tanh):
    return x * (0.5 + 0.5 * tanh)


POINTS = {  # every graph may have them
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

MORE = {  # a graph has them if it is built with them: they would slow all others down
    "sin": Point(False, lambda x, tanh: jnp.sin(x)),
    "cos": Point(False, lambda x, tanh: jnp.cos(x)),
    "gaussian": Point(False, lambda x, tanh: jnp.exp(-jnp.square(x))),
    "abs": Point(False, lambda x, tanh: jnp.abs(x)),
    "square": Point(False, lambda x, tanh: jnp.square(x)),
    "softplus": Point(False, lambda x, tanh: jax.nn.softplus(x)),
    "silu": Point(True, _silu),
    "gelu": Point(False, lambda x, tanh: jax.nn.gelu(x)),
    "leaky_relu": Point(False, lambda x, tanh: jnp.maximum(x, 0.01 * x)),
    "hard_tanh": Point(False, lambda x, tanh: jnp.clip(x, -1.0, 1.0)),
}
KINDS = (*POINTS, *CELLS)  # every graph may have them; their numbers are their places
_BUILT_IN = (*KINDS, *MORE)
_FIRST_OWN, _OWN_NUMBERS = 64, 64  # numbers are int8
_own: dict[str, tuple[int, Callable]] = {}


def register_activation(name: str, function: Callable[[jax.Array], jax.Array]) -> int:
    """Make a function a kind of neuron, by name, and return its number.

    Programs that read graphs with it register it first. Its number follows from its name,
    so that the order of registrations does not matter, and what a name means can not be
    changed.

    Args:
      name: an identifier.
      function: of [...] float32, each number by itself, as differentiable as learning
        needs; pure.

    Raises:
      ValueError: a name that is taken, or whose number is, and a function that is none
        or does more than turn each number into another.

    >>> from optix.neuroevo.graph.build import layered
    >>> number = register_activation("cubic", lambda x: x**3)
    >>> int(layered(4, (8,), 2, kind="cubic").structure.kind[-1]) == number
    True
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise checks.OptionError(
            f"name must be an identifier, like 'cubed', got {name!r}"
        )
    if not callable(function):
        raise checks.OptionError(
            f"function must be a function of an array, got {function!r}"
        )
    if name in _BUILT_IN or (name in _own and _own[name][1] is not function):
        raise checks.OptionError(
            f"the activation {name!r} is there and can not be changed: graphs were built "
            "with it; take another name"
        )
    number = _FIRST_OWN + zlib.crc32(name.encode()) % _OWN_NUMBERS
    for other, (taken, _) in _own.items():
        if taken == number and other != name:
            raise checks.OptionError(
                f"the activations {name!r} and {other!r} have the same number {number}, "
                "which follows from the name; take another name"
            )
    _check_elementwise(name, function)
    _own[name] = number, function
    return number


def _check_elementwise(name: str, function: Callable) -> None:
    x = np.linspace(-1.5, 1.5, 6, dtype=np.float32)
    rule = f"the activation {name!r} must turn each number of an array into another"
    try:
        whole, parts = jnp.asarray(function(x)), jax.vmap(function)(x)
    except Exception as error:
        raise checks.OptionError(f"{rule}, got {error!r} for an array of 6") from error
    if whole.shape != x.shape or whole.dtype != x.dtype:
        raise checks.OptionError(
            f"{rule}, got {whole.dtype}{whole.shape} for float32(6,)"
        )
    if not np.allclose(whole, parts, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise checks.OptionError(f"{rule}, got values that depend on their neighbours")


def known_kinds() -> tuple[str, ...]:
    """Return the names of all kinds, own ones included."""
    return (*_BUILT_IN, *_own)


def check_kinds(names: Any, what: str = "kind of neuron") -> None:
    """Raise ValueError for the first name that is no kind of neuron, with the nearest."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise checks.OptionError(
            f"{what} must be a sequence of one name or more, got {names!r}"
        )
    checks.known_names(what, names, known_kinds())


def kind_number(name: str) -> int:
    """Return the number of a kind; ValueError if there is none of the name."""
    check_kinds([name])
    return _own[name][0] if name in _own else _BUILT_IN.index(name)


def kind_name(number: int) -> str:
    """Return the name of a kind; ValueError if there is none of the number."""
    if 0 <= number < len(_BUILT_IN):
        return _BUILT_IN[number]
    for name, (taken, _) in _own.items():
        if taken == number:
            return name
    raise checks.OptionError(
        f"no activation has the number {number}; call register_activation with the name "
        "and function that the graph was built with"
    )


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return kinds, each once, in the order of their numbers."""
    return tuple(sorted(set(names), key=kind_number))


def point(name: str) -> Point:
    """Return an activation; one of a user's own sees only its own neurons' inputs."""
    if name not in _own:
        return (POINTS | MORE)[name]
    number, function = _own[name]
    del number
    return Point(False, lambda x, tanh: function(x))


def is_gated(kind: jax.Array) -> jax.Array:
    """Return whether a kind is a gated cell."""
    return (kind >= len(POINTS)) & (kind < len(POINTS) + len(CELLS))


def is_one_of(kind: jax.Array, names: Sequence[str]) -> jax.Array:
    """Return whether kinds are among those of `names`."""
    numbers = np.array([kind_number(name) for name in names])
    return (jnp.asarray(kind)[..., None] == numbers).any(-1)


def initial_gate(kind: jax.Array) -> jax.Array:
    """Return the gates that cells of `kind` [...] begin with, [..., 4, 3] float32.

    They are 0 of point neurons.
    """
    points = [((0.0,) * 3,) * 4 for _ in POINTS]
    table = jnp.array(points + [cell.gate for cell in CELLS.values()])
    return table.at[kind].get(mode="fill", fill_value=0.0)


def activate(kind: jax.Array, x: jax.Array, kinds: Sequence[str] = KINDS) -> jax.Array:
    """Return the output of point neurons of `kind` [N] at input `x` [..., N].

    `kinds`, static, are those that may be among them; of others it is the input.
    """
    points = {name: point(name) for name in kinds if name not in CELLS}
    halved = is_one_of(kind, [name for name in points if points[name].halved])
    tanh = jnp.tanh(jnp.where(halved, 0.5 * x, x))
    chosen = x
    for name, each in points.items():
        if name == "linear":
            continue
        here = kind == kind_number(name)
        # an infinite slope beside the own neurons would be NaN times 0
        own = jnp.where(here, x, 0.5) if name in _own else x
        chosen = jnp.where(here, each.value(own, tanh), chosen)
    return chosen


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
