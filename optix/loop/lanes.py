"""Work over the lanes of a tuner: side by side, forked, frozen."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optix.trees import repeat, select, take
from optix.types import LANE_AXIS, LoopState, PyTree


def over_lanes(
    lanes: int, function: Callable, in_axes: Sequence[Any], out_axes: Any
) -> Callable:
    """Map a function of one lane over the lanes.

    A single lane is not mapped at all: batched by one, XLA:CPU runs a third slower.

    Args:
      lanes: how many.
      function: of one lane, with a tuple or one value as its result.
      in_axes: of each argument: 0, None where the lanes share it, or a record of these.
      out_axes: the same of the result.
    """
    if lanes > 1:
        return jax.vmap(function, tuple(in_axes), out_axes, axis_name=LANE_AXIS)

    def single(*args):
        out = function(*_along(tuple(in_axes), args, lambda tree: take(tree, 0)))
        return _along(out_axes, out, lambda tree: repeat(tree, 1))

    return single


def _along(axes: Any, tree: Any, change: Callable[[PyTree], PyTree]) -> Any:
    """Return the tree with the parts changed whose axis is 0."""
    if axes is None:
        return tree
    if isinstance(axes, int):
        return change(tree)
    parts = [_along(a, t, change) for a, t in zip(axes, tree, strict=True)]
    return type(axes)(*parts) if hasattr(axes, "_fields") else tuple(parts)


def fork(parents: jax.Array, lanes: PyTree, best: PyTree) -> PyTree:
    """Return lane `parents` [L] of the lanes [L, ...], or the best [...] for L."""
    count = parents.shape[0]

    def chosen(x, y):
        rows = x if count == 1 else x[jnp.minimum(parents, count - 1)]
        from_best = (parents == count).reshape(-1, *[1] * y.ndim)
        return jnp.where(from_best, y[None], rows)

    return jax.tree.map(chosen, lanes, best)


def freeze(old: LoopState, new: LoopState, memory: PyTree) -> LoopState:
    """Return `new` while `old` is active, else `old`; the memory is `memory`.

    The memory is too large to select from: the learner leaves it alone when told that
    its run has stopped.
    """

    def selected(state):
        # the key never changes, and a select would only copy it
        return state._replace(key=(), learner=state.learner._replace(memory=()))

    state = select(old.active, selected(new), selected(old))
    return state._replace(key=old.key, learner=state.learner._replace(memory=memory))
