"""What a controller is given: regions' limits, and room to grow."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.cells import CELLS, is_gated
from optix.neuroevo.graph.graph import NeuronGraph, is_hidden


def check_room(graph: NeuronGraph, operator: str, kind: str) -> None:
    """Raise where the operator would be refused at every try."""
    structure = graph.structure
    if operator != "edge" and structure.alive.all():
        raise checks.OptionError(
            f"all {graph.capacity} slots are taken, so the graph can not grow; build it "
            "with a larger capacity, or use grow_capacity"
        )
    hidden = is_hidden(graph)
    if operator == "duplicate" and not hidden.any():
        raise checks.OptionError(
            "operator 'duplicate' needs a hidden neuron, got a graph without; operator "
            "'neuron' grows from none"
        )
    copied = operator == "duplicate" and is_gated(structure.kind[hidden]).all()
    gated = copied or (operator == "neuron" and kind in CELLS)
    if gated and (structure.cell < graph.capacity).all():
        raise checks.OptionError(
            f"all {graph.max_cells} slots for gated cells are taken, so the graph can not "
            "grow; build it with a larger max_cells, or use grow_capacity"
        )


def region_limits(graph: NeuronGraph, given: Any, num_regions: int) -> jax.Array:
    """The largest number of neurons of each region, [R] int32."""
    if given is None:
        given = graph.capacity
    if isinstance(given, Real):
        given = [given] * num_regions
    if not isinstance(given, Mapping):
        if isinstance(given, str) or not hasattr(given, "__len__"):
            raise checks.OptionError(
                f"max_neurons must be numbers of neurons, got {given!r}"
            )
        if len(given) != num_regions:
            raise checks.OptionError(
                f"max_neurons must have a number for each of the {num_regions} regions, "
                f"got {given!r}; {{region: number}} may leave some out"
            )
        given = dict(enumerate(given))
    for region in given:
        if region not in range(num_regions):
            raise checks.OptionError(
                f"max_neurons must name regions 0 to {num_regions - 1}, got {region!r}"
            )
    limits = [
        checks.positive_int("max_neurons", given.get(region, graph.capacity))
        for region in range(num_regions)
    ]
    return jnp.array(limits, jnp.int32)
