"""A jaxpr as one list of steps: calls inlined, dead steps gone, what is known computed.

What does not depend on the inputs, weights made ready and normalisers say, is computed
here and now; only the rest becomes nodes. Loops whose number of turns is known are
unrolled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from optix.checks import OptionError
from optix.onnx.emitter import Emitter, Tensor, Value

LOOPS = ("scan", "while", "cond")
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")  # parameters that hold one


class UnsupportedError(OptionError):
    """An operation that has no ONNX form here."""

    def __init__(self, operation: str, detail: str = ""):
        """Name it."""
        super().__init__(
            f"a policy must be made of operations that ONNX has a form of here, got "
            f"{operation}{detail}; write that part of the network by other ones"
        )
        self.operation = operation


class Fixed(NamedTuple):
    """A value that stands in the program itself."""

    value: Any


Atom = int | Fixed  # the number of a variable, or a constant


class Step(NamedTuple):
    """One operation."""

    primitive: Any
    params: dict[str, Any]
    inputs: list[Atom]
    outputs: list[int]
    forms: list[Any]  # shape and dtype of each output


Rule = Callable[[Emitter, dict[str, Any], list[Value], list[Any]], list[Value]]


def run(
    emitter: Emitter,
    closed: Any,
    arguments: Sequence[Value],
    rules: dict[str, Rule],
    *,
    inner: bool = False,
) -> list[Value]:
    """Emit a program for some arguments and return what it gives.

    Args:
      emitter: takes the nodes.
      closed: a closed jaxpr of one row.
      arguments: tensors and arrays.
      rules: {primitive: rule}.
      inner: it is the body of a loop, whose few known steps are not worth compiling.

    Raises:
      UnsupportedError: an operation without a rule.
    """
    numbers = itertools.count(len(arguments))
    steps: list[Step] = []
    outputs = _inline(closed, list(range(len(arguments))), steps, numbers)
    steps = _needed(steps, outputs)
    values: dict[int, Value] = dict(enumerate(arguments))
    unknown = {n for n, value in values.items() if isinstance(value, Tensor)}
    known, rest = [], []
    for step in steps:
        if unknown & _variables(step.inputs):
            unknown.update(step.outputs)
            rest.append(step)
        else:
            known.append(step)
    _compute(known, rest, outputs, values, compiled=not inner)

    def read(atom):
        return atom.value if isinstance(atom, Fixed) else values[atom]

    for step in rest:
        given = [read(atom) for atom in step.inputs]
        for number, value in zip(
            step.outputs, _emit(emitter, step, given, rules), strict=True
        ):
            values[number] = value
    return [read(atom) for atom in outputs]


def _emit(emitter, step, given, rules):
    name = step.primitive.name
    if all(0 in form.shape for form in step.forms):
        return [np.zeros(form.shape, form.dtype) for form in step.forms]
    if not any(isinstance(value, Tensor) for value in given):
        return _bind(step, given)  # in a loop it may have become known
    if name in LOOPS:
        return _LOOP_RULES[name](emitter, step.params, given, rules)
    if name not in rules:
        raise UnsupportedError(name)
    out = rules[name](emitter, step.params, given, step.forms)
    return [
        np.zeros(form.shape, form.dtype) if 0 in form.shape else value
        for value, form in zip(out, step.forms, strict=True)
    ]


def _inline(closed, atoms, steps, numbers):
    """Append the steps of a program and return the atoms it gives."""
    jaxpr = getattr(closed, "jaxpr", closed)
    consts = [Fixed(value) for value in getattr(closed, "consts", ())]
    env: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, atoms, strict=True))

    def read(variable):
        if isinstance(variable, core.Literal):
            return Fixed(_typed(variable))
        return env[variable]

    for eqn in jaxpr.eqns:
        given = [read(variable) for variable in eqn.invars]
        called = next((eqn.params[n] for n in _CALLED if n in eqn.params), None)
        if called is not None and eqn.primitive.name not in LOOPS:
            given = _inline(called, given, steps, numbers)
        else:
            outputs = [next(numbers) for _ in eqn.outvars]
            forms = [variable.aval for variable in eqn.outvars]
            steps.append(Step(eqn.primitive, eqn.params, given, outputs, forms))
            given = outputs
        env.update(zip(eqn.outvars, given, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _typed(literal):
    return np.asarray(literal.val, literal.aval.dtype)


def _variables(atoms):
    return {atom for atom in atoms if isinstance(atom, int)}


def _needed(steps, outputs):
    """The steps that the outputs depend on."""
    needed = _variables(outputs)
    kept = []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            needed |= _variables(step.inputs)
            kept.append(step)
    return kept[::-1]


def _compute(known, rest, outputs, values, *, compiled):
    """Put what the known steps give, and others need, into `values`."""
    read = _variables([*outputs, *(atom for step in rest for atom in step.inputs)])
    wanted = sorted(read & {number for step in known for number in step.outputs})
    if not wanted:
        return
    # constants are handed over too, or the compiler would spend its time on them
    fixed = {}
    for place, step in enumerate(known):
        for index, atom in enumerate(step.inputs):
            if isinstance(atom, Fixed):
                fixed[place, index] = atom.value

    def compute(given, fixed):
        found = dict(given)
        for place, step in enumerate(known):
            inputs = [
                fixed[place, index] if isinstance(atom, Fixed) else found[atom]
                for index, atom in enumerate(step.inputs)
            ]
            found.update(zip(step.outputs, _bind(step, inputs), strict=True))
        return [found[number] for number in wanted]

    given = {
        number: value
        for number, value in values.items()
        if not isinstance(value, Tensor)
    }
    results = (jax.jit(compute) if compiled else compute)(given, fixed)
    for number, value in zip(wanted, results, strict=True):
        of_key = jnp.issubdtype(value.dtype, jax.dtypes.extended)
        values[number] = value if of_key else np.asarray(value)


def _bind(step, inputs):
    inputs = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
    given = step.primitive.bind(*inputs, **step.params)
    return list(given) if step.primitive.multiple_results else [given]


def _while(emitter, params, given, rules):
    ahead = params["cond_nconsts"], params["body_nconsts"]
    condition, body = given[: ahead[0]], given[ahead[0] : sum(ahead)]
    carry = given[sum(ahead) :]
    while True:
        (more,) = run(
            emitter, params["cond_jaxpr"], condition + carry, rules, inner=True
        )
        if isinstance(more, Tensor):
            raise UnsupportedError("while", " whose turns depend on the input")
        if not more:
            return carry
        carry = run(emitter, params["body_jaxpr"], body + carry, rules, inner=True)


def _scan(emitter, params, given, rules):
    consts, carries = _sizes(params)
    fixed, carry = given[:consts], given[consts : consts + carries]
    series = given[consts + carries :]
    order = range(params["length"])
    turns = []
    for t in reversed(order) if params["reverse"] else order:
        now = [_row_of(emitter, x, t) for x in series]
        out = run(emitter, params["jaxpr"], fixed + carry + now, rules, inner=True)
        carry = out[:carries]
        turns.append(out[carries:])
    if params["reverse"]:
        turns.reverse()
    return carry + [_stacked(emitter, rows) for rows in zip(*turns, strict=True)]


def _sizes(params):
    """How many constants and carries a scan has; from jax 0.11 on trees say so."""
    if "ft_in" not in params:
        return params["num_consts"], params["num_carry"]
    consts, carries, _ = params["ft_in"].unpack()
    return len(consts), len(carries)


def _row_of(emitter, x, t):
    if not isinstance(x, Tensor):
        return x[t]
    index = np.array(t, np.int64)
    return emitter.emit("Gather", x, index, shape=x.shape[1:], dtype=x.dtype, axis=1)


def _stacked(emitter, rows):
    if not any(isinstance(row, Tensor) for row in rows):
        return np.stack([np.asarray(row) for row in rows])
    rows = [emitter.batched(row) for row in rows]
    shape = rows[0].shape
    rows = [emitter.reshape(row, (1, *shape)) for row in rows]
    shape = (len(rows), *shape)
    return emitter.emit("Concat", *rows, shape=shape, dtype=rows[0].dtype, axis=1)


def _cond(emitter, params, given, rules):
    index, *operands = given
    if not isinstance(index, Tensor):
        branch = params["branches"][int(index)]
        return run(emitter, branch, operands, rules, inner=True)
    outcomes = [
        run(emitter, branch, operands, rules, inner=True)
        for branch in params["branches"]
    ]
    forms = [variable.aval for variable in params["branches"][0].jaxpr.outvars]
    return [
        rules["select_n"](emitter, {}, [index, *values], [form])[0]
        for values, form in zip(zip(*outcomes, strict=True), forms, strict=True)
    ]


_LOOP_RULES = {"while": _while, "scan": _scan, "cond": _cond}
