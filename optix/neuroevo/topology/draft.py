"""A graph while it is being changed.

Changes are thought in what signals feel, effective weights, and never mind the rest:
`open_draft` takes a graph apart and `close_draft` puts it together again, with Dale's
law, levels and versions, or gives the old one back where the change must be refused.

Neurons and edges are told by numbers, which are traced. What a traced number says shows
in a bool; a Python integer that no graph of the shape could have is an error, and so is a
float: it is a weight in the wrong place.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.neuroevo.graph.cells import KINDS, is_gated
from optix.neuroevo.graph.graph import (
    NeuronGraph,
    Structure,
    Weights,
    acyclic,
    effective_weights,
    is_hidden,
    levels,
    raw_weight,
)
from optix.neuroevo.topology.patch import Patch, no_patch
from optix.trees import all_finite, select

LINEAR = KINDS.index("linear")
_LARGEST = float(np.finfo(np.float32).max)


class Mutation(NamedTuple):
    """A changed graph, or the old one where the change was refused."""

    graph: NeuronGraph
    ok: jax.Array  # [] bool
    patch: Patch  # for the carries of running episodes; changes nothing if refused
    neuron: jax.Array  # [] int32 slot of the new neuron, N if there is none
    lost: jax.Array  # [] float32 sum of absolute weights that found no place: of paths
    # longer than the longest delay, of what Dale's law forbids, of a removed neuron that
    # nothing replaces; 0, up to rounding, where all is as the operation promises


class Draft(NamedTuple):
    """A graph taken apart."""

    weight: jax.Array  # [D + 1, N, N] float32 effective; what is missed, off edges
    edge: jax.Array  # [D + 1, N, N] bool
    bias: jax.Array  # [N] float32
    gate: jax.Array  # [4, 3, G] float32
    alive: jax.Array  # [N] bool
    kind: jax.Array  # [N] int8
    sign: jax.Array  # [N] int8
    region: jax.Array  # [N] int8
    cell: jax.Array  # [G] int32
    patch: Patch


def open_draft(graph: NeuronGraph) -> Draft:
    """Return the graph taken apart."""
    weights, structure = jax.tree.map(jnp.asarray, (graph.weights, graph.structure))
    return Draft(
        weight=effective_weights(weights, structure, graph.dale),
        edge=structure.edge,
        bias=weights.bias,
        gate=weights.gate,
        alive=structure.alive,
        kind=structure.kind,
        sign=structure.sign,
        region=structure.region,
        cell=structure.cell,
        patch=no_patch(graph),
    )


def close_draft(
    graph: NeuronGraph,
    draft: Draft,
    ok: jax.Array,
    *,
    neuron: jax.Array | None = None,
    lost: jax.Array | float = 0.0,
) -> Mutation:
    """Return the changed graph if it is `ok`, finite and without same-step cycles.

    Entries that are felt as before stay as they are; the others' versions go up by one.

    Args:
        graph: before the change.
        draft: after it.
        ok: [] bool what the operation says.
        neuron: [] int32 slot of the new neuron.
        lost: [] float32 what was lost before Dale's law was applied.
    """
    old, was = graph.weights, graph.structure
    before = effective_weights(old, was, graph.dale)
    kept = was.edge & (draft.weight == before)
    raw = jnp.where(kept, old.edge, raw_weight(draft.weight, draft.sign, graph.dale))
    weights = Weights(jnp.where(draft.edge, raw, 0.0), draft.bias, draft.gate)
    level = levels(draft.edge[0], graph.num_inputs)
    changed = Weights(
        edge=(weights.edge != old.edge) | (draft.edge != was.edge),
        bias=(weights.bias != old.bias) | (draft.alive != was.alive),
        gate=(weights.gate != old.gate) | (draft.cell != was.cell),
    )
    structure = Structure(
        edge=draft.edge,
        alive=draft.alive,
        kind=draft.kind,
        sign=draft.sign,
        region=draft.region,
        level=level,
        cell=draft.cell,
        output=was.output,
        version=jax.tree.map(lambda x, new: x + new, was.version, changed),
    )
    lost += jnp.abs(
        effective_weights(weights, structure, graph.dale) - draft.weight
    ).sum()
    # of the draft too: what overflows may have found no edge
    finite = all_finite((weights, draft.weight, jnp.asarray(lost)))
    ok = ok & acyclic(level, graph.num_inputs) & finite
    none = jnp.int32(graph.capacity)
    return Mutation(
        graph=select(ok, graph.replace(weights=weights, structure=structure), graph),
        ok=ok,
        patch=select(ok, draft.patch, no_patch(graph)),
        neuron=none if neuron is None else jnp.where(ok, neuron, none),
        lost=jnp.where(ok, lost, 0.0),
    )


def first(mask: jax.Array) -> jax.Array:
    """Return the first place where `mask` [K] holds, K where none does, [] int32."""
    return (jnp.cumsum(mask) == 0).sum(dtype=jnp.int32)


def free_slot(graph: NeuronGraph) -> jax.Array:
    """Return the first free slot of hidden neurons, N where there is none, [] int32."""
    hidden = jnp.arange(graph.capacity) >= graph.first_hidden
    return first(hidden & ~graph.structure.alive)


def occupy(
    draft: Draft,
    slot: jax.Array,
    *,
    kind: jax.Array,
    sign: jax.Array,
    region: jax.Array,
    bias: jax.Array,
    gate: jax.Array,
) -> tuple[Draft, jax.Array]:
    """Return a draft with a neuron without edges in `slot`, and whether it found room.

    A gated kind also takes the first free slot of the gates; other kinds take none, and
    `gate` [4, 3] is not used.
    """
    size, cells = draft.alive.shape[0], draft.cell.shape[0]
    place = first(draft.cell == size)
    room = (slot < size) & (~is_gated(kind) | (place < cells))
    here = (jnp.arange(cells) == place) & is_gated(kind)
    return draft._replace(
        bias=draft.bias.at[slot].set(bias),
        gate=jnp.where(here, gate[..., None], draft.gate),
        alive=draft.alive.at[slot].set(True),
        kind=draft.kind.at[slot].set(kind.astype(jnp.int8)),
        sign=draft.sign.at[slot].set(sign.astype(jnp.int8)),
        region=draft.region.at[slot].set(region.astype(jnp.int8)),
        cell=jnp.where(here, slot, draft.cell),
        patch=draft.patch._replace(
            source=draft.patch.source.at[slot].set(size),
            cell=jnp.where(here, cells, draft.patch.cell),
        ),
    ), room


def vacate(draft: Draft, gone: jax.Array) -> Draft:
    """Return a draft without the neurons `gone` [N]: slots are free, edges are gone."""
    size, cells = draft.alive.shape[0], draft.cell.shape[0]
    lost = gone[:, None] | gone
    its_cell = gone.at[draft.cell].get(mode="fill", fill_value=False)
    return draft._replace(
        weight=jnp.where(lost, 0.0, draft.weight),
        edge=draft.edge & ~lost,
        bias=jnp.where(gone, 0.0, draft.bias),
        gate=jnp.where(its_cell, 0.0, draft.gate),
        alive=draft.alive & ~gone,
        kind=jnp.where(gone, jnp.int8(LINEAR), draft.kind),
        sign=jnp.where(gone, jnp.int8(0), draft.sign),
        region=jnp.where(gone, jnp.int8(0), draft.region),
        cell=jnp.where(its_cell, size, draft.cell),
        patch=draft.patch._replace(
            source=jnp.where(gone, size, draft.patch.source),
            cell=jnp.where(its_cell, cells, draft.patch.cell),
        ),
    )


def connect(
    draft: Draft,
    source: jax.Array,
    destination: jax.Array,
    delay: jax.Array,
    weight: jax.Array | float,
) -> Draft:
    """Return a draft with one edge more."""
    return draft._replace(
        weight=draft.weight.at[delay, destination, source].set(weight),
        edge=draft.edge.at[delay, destination, source].set(True),
    )


def disconnect(
    draft: Draft, source: jax.Array, destination: jax.Array, delay: jax.Array
) -> Draft:
    """Return a draft with one edge less."""
    return draft._replace(
        weight=draft.weight.at[delay, destination, source].set(0.0),
        edge=draft.edge.at[delay, destination, source].set(False),
    )


def integer(name: str, value: Any, low: int, high: int, remedy: str = "") -> jax.Array:
    """Return the value as [] int32, or raise if it is no integer or not in range."""
    odd = isinstance(value, str | bool) or value is None
    if odd or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise checks.OptionError(f"{name} must be an integer, got {value!r}")
    if isinstance(value, int | np.integer) and not low <= value <= high:
        raise checks.OptionError(
            f"{name} must be in [{low}, {high}], got {value}{remedy}"
        )
    return jnp.asarray(value, jnp.int32)


def real(name: str, value: Any) -> jax.Array:
    """Return the value as [] float32, or raise if it is none; traced ones are as given."""
    rule = f"{name} must be a number that float32 holds"
    if isinstance(value, bool | str) or value is None:
        raise checks.OptionError(f"{rule}, got {value!r}")
    if isinstance(value, int | float | np.number) and not abs(value) <= _LARGEST:
        raise checks.OptionError(f"{rule}, got {value!r}")
    return jnp.asarray(value, jnp.float32)


def neuron_place(name: str, graph: NeuronGraph, value: Any) -> jax.Array:
    """Return a neuron's number, [] int32."""
    remedy = "; grow_capacity makes room for more neurons"
    return integer(name, value, 0, graph.capacity - 1, remedy)


def edge_place(
    graph: NeuronGraph, source: Any, destination: Any, delay: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return an edge's source, destination and delay, [] int32 each."""
    remedy = "; grow_capacity makes room for longer ones"
    return (
        neuron_place("source", graph, source),
        neuron_place("destination", graph, destination),
        integer("delay", delay, 0, graph.max_delay, remedy),
    )


def neuron_exists(graph: NeuronGraph, neuron: jax.Array) -> jax.Array:
    """Return whether there is such a neuron, [] bool."""
    return _holds(graph.structure.alive, neuron)


def hidden_exists(graph: NeuronGraph, neuron: jax.Array) -> jax.Array:
    """Return whether there is such a hidden neuron, [] bool."""
    return _holds(is_hidden(graph), neuron)


def edge_exists(
    graph: NeuronGraph, source: jax.Array, destination: jax.Array, delay: jax.Array
) -> jax.Array:
    """Return whether there is such an edge, [] bool."""
    return _holds(graph.structure.edge, delay, destination, source)


def _holds(mask, *place):
    """`mask` at a place, False outside."""
    there = jnp.asarray(mask).at[place].get(mode="fill", fill_value=False)
    return (jnp.stack(place) >= 0).all() & there
