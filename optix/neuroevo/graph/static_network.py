"""How a static graph runs, and trains: a `Network` of ordinary operations."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import export

from optix import checks
from optix.neuroevo.graph.build import draw
from optix.neuroevo.graph.cells import CELLS, point
from optix.neuroevo.graph.optimizer import not_outwards
from optix.neuroevo.graph.static import StaticGraph, StaticWeights, static_weights
from optix.types import Network, PyTree


class StaticCarry(NamedTuple):
    """What is remembered from one step to the next."""

    past: jax.Array  # [..., D, S] float32 outputs that delayed edges hear, newest first
    h: jax.Array  # [..., G] float32
    c: jax.Array  # [..., G] float32


# what the network is given and gives, for `jax.export`
for _record in (StaticWeights, StaticCarry):
    export.register_namedtuple_serialization(
        _record, serialized_name=f"optix.{_record.__name__}"
    )


def static_network(
    frozen: StaticGraph, read: Callable[[jax.Array], PyTree], *, keep_weights: bool
) -> Network:
    """Return the network of a static graph; `graph_network` says what is what."""
    graph = frozen.graph

    def init(key):
        weights = graph.weights if keep_weights else draw(graph, key).weights
        return static_weights(frozen, weights), ()

    def initial_carry(batch):
        if not frozen.recurrent:
            return ()
        past = jnp.zeros((batch, _depth(frozen), len(frozen.heard)))
        cells = jnp.zeros((batch, len(frozen.cells)))
        return StaticCarry(past, cells, cells)

    def apply(params, structure, carry, obs):
        del structure
        carry, outputs = static_step(frozen, params, carry, obs)
        return carry, read(outputs)

    def sequence(params, structure, carry, obs, ended):
        if not frozen.recurrent:
            return apply(params, structure, (), obs)

        def advance(carry, inputs):
            carry, outputs = static_step(frozen, params, carry, inputs[0])
            # at rest everything is 0
            carry = jax.tree.map(
                lambda x: jnp.where(inputs[1].reshape(-1, *[1] * (x.ndim - 1)), 0.0, x),
                carry,
            )
            return carry, outputs

        carry, outputs = jax.lax.scan(jax.checkpoint(advance), carry, (obs, ended))
        return carry, read(outputs)

    signed = graph.dale == "clamp" and any(b.sign.any() for b in _parts(frozen))
    return Network(
        init,
        initial_carry,
        apply,
        sequence,
        (lambda: optax.chain(optax.scale_by_adam(eps=1e-5), _keep_sign(frozen)))
        if signed
        else None,
    )


def static_step(
    frozen: StaticGraph, params: StaticWeights, carry: Any, obs: jax.Array
) -> tuple[Any, jax.Array]:
    """Advance by one step.

    Args:
      frozen: the graph.
      params: its weights.
      carry: of the step before, with the axes of `obs`; () without memory.
      obs: [..., I].

    Returns:
      The carry, and the outputs [..., O].

    Raises:
      ValueError: another number of inputs.
    """
    if obs.shape[-1] != frozen.num_inputs:
        raise checks.OptionError(
            f"observations must have the graph's {frozen.num_inputs} numbers, got shape "
            f"{obs.shape}"
        )
    delayed = None
    if frozen.rows:
        places = [
            (delay - 1) * len(frozen.heard) + frozen.heard.index(slot)
            for delay, slot in frozen.rows
        ]
        past = carry.past.reshape(*obs.shape[:-1], -1)
        kernel = _effective(frozen, params.delayed, frozen.mask, frozen.sign)
        delayed = _pick(past, places) @ kernel
    values, cells, first = [obs], [], 0
    for block, raw, bias in zip(frozen.blocks, params.kernel, params.bias, strict=True):
        total = bias
        if block.sources:
            heard = _joined([values[below] for below in block.sources])
            total = total + heard @ _effective(frozen, raw, block.mask, block.sign)
        if delayed is not None:
            total = total + delayed[..., first : first + len(block.slots)]
        total = jnp.broadcast_to(total, (*obs.shape[:-1], len(block.slots)))
        values.append(_respond(block, params.gate, carry, cells, total))
        first += len(block.slots)
    return _remembered(frozen, carry, values, cells)


def _respond(block, gate, carry, cells, total):
    """The outputs of a level's neurons; the states of its cells go to `cells`."""
    parts, first = [], 0
    for kind, count in block.runs:
        x = total[..., first : first + count]
        first += count
        if kind not in CELLS:
            each = point(kind)
            tanh = jnp.tanh(0.5 * x if each.halved else x)
            parts.append(each.value(x, tanh))
            continue
        cell, start = CELLS[kind], sum(h.shape[-1] for h, _ in cells)
        own = slice(start, start + count)
        h, c = carry.h[..., own], carry.c[..., own]
        if not cell.trainable:
            h, c = jax.lax.stop_gradient((h, c))
        cells.append(cell.step(gate[..., own], x, h, c))
        parts.append(cells[-1][0])
    return _joined(parts)


def _remembered(frozen, carry, values, cells):
    """The carry after a step, and the outputs [..., O]."""
    levels = [range(frozen.num_inputs), *(block.slots for block in frozen.blocks)]
    place = {
        slot: (level, n)
        for level, slots in enumerate(levels)
        for n, slot in enumerate(slots)
    }
    ends = range(frozen.num_inputs, frozen.graph.first_hidden)
    outputs = _collect(values, [place[slot] for slot in ends])
    if not frozen.recurrent:
        return (), outputs
    past, (h, c) = carry.past, (carry.h, carry.c)
    if frozen.rows:
        new = _collect(values, [place[slot] for slot in frozen.heard])
        past = jnp.concatenate([new[..., None, :], past[..., :-1, :]], -2)
    if cells:
        h, c = (_joined(list(states)) for states in zip(*cells, strict=True))
    return StaticCarry(past, h, c), outputs


def _effective(frozen, raw, mask, sign):
    """The matrix that signals are multiplied by; what is not needed is not computed."""
    if sign.any():
        side = sign.astype(np.float32)
        if frozen.graph.dale == "softplus":
            bound = side * jax.nn.softplus(raw)
        else:
            # beyond its side a weight counts as 0, but its gradient passes
            bound = jnp.where(raw * side < 0, raw - jax.lax.stop_gradient(raw), raw)
        raw = jnp.where(sign == 0, raw, bound)
    return raw if mask.all() else jnp.where(mask, raw, 0.0)


def _joined(parts):
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def _collect(values, places):
    """The outputs of neurons by level and place there."""
    if len({level for level, _ in places}) == 1:
        return _pick(values[places[0][0]], [place for _, place in places])
    starts = np.cumsum([0, *(x.shape[-1] for x in values)])
    return _pick(_joined(values), [int(starts[level]) + n for level, n in places])


def _pick(x: jax.Array, places: Sequence[int]) -> jax.Array:
    """Places along the last axis, as a slice where they lie side by side."""
    first, count = places[0], len(places)
    if list(places) == list(range(first, first + count)):
        return x if count == x.shape[-1] else x[..., first : first + count]
    return jnp.take(x, np.array(places), axis=-1)


def _depth(frozen):
    return max((delay for delay, _ in frozen.rows), default=0)


def _parts(frozen):
    """Whatever has a matrix with signs, in the order of the parameters."""
    return (*frozen.blocks, frozen)


def _keep_sign(frozen: StaticGraph) -> optax.GradientTransformation:
    """Weights under Dale's law stay on their side, as by `keep_sign` of `optimizer`."""

    def update(updates, state, params=None):
        assert params is not None
        kernels = zip(params.kernel, updates.kernel, frozen.blocks, strict=True)
        kernel = tuple(not_outwards(w, part.sign, u) for w, u, part in kernels)
        delayed = not_outwards(params.delayed, frozen.sign, updates.delayed)
        return updates._replace(kernel=kernel, delayed=delayed), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
