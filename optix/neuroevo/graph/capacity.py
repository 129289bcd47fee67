"""More room for a graph: the one change that changes shapes, on the host.

New slots are free, and zero everywhere, so that the function stays what it is. The names
of neurons and edges, their places, stay too.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.graph import NeuronGraph, Structure

Tree = TypeVar("Tree")


def grow_capacity(
    graph: NeuronGraph,
    capacity: int | None = None,
    max_delay: int | None = None,
    max_cells: int | None = None,
) -> NeuronGraph:
    """Return the same graph with more room; whatever runs it is compiled once more.

    Without sizes, the slots for neurons and those for gated cells double. A run goes on
    with a grown graph by `pad_like`. Leading axes, of a population, are kept.

    Args:
        graph: to grow.
        capacity: slots for neurons; None keeps it if another size is given.
        max_delay: the longest delay.
        max_cells: slots for gated cells.

    Raises:
        ValueError: something else than a graph, less room than there is.

    Example:
        >>> from optix.neuroevo.graph.build import layered
        >>> grow_capacity(layered(4, (8,), 2)).capacity
        28
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    if capacity is None and max_delay is None and max_cells is None:
        capacity, max_cells = 2 * graph.capacity, 2 * graph.max_cells
    size = _at_least("capacity", capacity, graph.capacity)
    deepest = _at_least("max_delay", max_delay, graph.max_delay)
    cells = _at_least("max_cells", max_cells, graph.max_cells)
    trailing = {
        "edge": (deepest + 1, size, size),
        "bias": (size,),
        "gate": (4, 3, cells),
        "cell": (cells,),
        "output": (graph.num_outputs,),
    }

    def grown(part):
        """The shapes of weights or structure."""
        fields = {
            name: grown(x) if name == "version" else trailing.get(name, (size,))
            for name, x in part._asdict().items()
        }
        return part._replace(**fields)

    shapes = jax.tree.map(
        lambda x, shape: jax.ShapeDtypeStruct(shape, x.dtype),
        (graph.weights, graph.structure),
        (grown(graph.weights), grown(graph.structure)),
    )
    weights, structure = pad_like((graph.weights, graph.structure), shapes)
    return graph.replace(weights=weights, structure=structure)


def pad_like(tree: Tree, like: Any) -> Tree:
    """Return a policy, an optimizer's state, a carry, a whole run with more room.

    Args:
        tree: of any arrays; those that have a graph's axes grow at their ends.
        like: of the same form, arrays or shapes of what a new run with the grown graph
            begins with, from `jax.eval_shape` say. Leading axes may be missing.

    Raises:
        ValueError: an array that would have to shrink.

    Example:
        >>> pad_like({"bias": jnp.ones(2)}, {"bias": jnp.zeros(4)})["bias"].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    return jax.tree.map(_pad, tree, like, is_leaf=_is_structure)


def _pad(x, like):
    if not _is_structure(x):
        return _pad_array(x, like.shape)
    padded = jax.tree.map(_pad, tuple(x), tuple(like))
    structure = Structure(*padded)
    before, after = x.alive.shape[-1], like.alive.shape[-1]
    is_old = jnp.arange(like.cell.shape[-1]) < x.cell.shape[-1]
    free = ~is_old | (structure.cell == before)
    is_new = jnp.arange(after) >= before
    return structure._replace(
        level=jnp.where(is_new, 1, structure.level),  # as of every free slot
        cell=jnp.where(free, after, structure.cell),
    )


def _pad_array(x, shape):
    leading = jnp.ndim(x) - len(shape)
    old = jnp.shape(x)[max(leading, 0) :]
    growth = [(0, new - size) for size, new in zip(old, shape, strict=False)]
    if leading < 0 or any(more < 0 for _, more in growth):
        raise checks.OptionError(
            f"an array of shape {jnp.shape(x)} must have room in the new shape {shape}; "
            "make the new graph by grow_capacity"
        )
    if not any(more for _, more in growth):
        return x
    return jnp.pad(x, [(0, 0)] * leading + growth)


def _at_least(name, value, now):
    if value is None:
        return now
    if checks.positive_int(name, value, 0) < now:
        raise checks.OptionError(
            f"{name} must be at least the present {now}, got {value}"
        )
    return value


def _is_structure(x):
    return isinstance(x, Structure)
