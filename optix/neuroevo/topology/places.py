"""Neurons and edges by their numbers, which are traced.

What a traced number says shows in a bool; a Python integer that no graph of the shape
could have is an error, and so is a float: it is a weight in the wrong place.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix.neuroevo.graph.graph import NeuronGraph, is_hidden


def integer(name: str, value: Any, low: int, high: int, remedy: str = "") -> jax.Array:
    """Return the value as [] int32, or raise if it is no integer or not in range."""
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if isinstance(value, int | np.integer) and not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}{remedy}")
    return jnp.asarray(value, jnp.int32)


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
