"""Work over the lanes of a tuner: side by side, forked, frozen."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from optix.trees import repeat, select, take
from optix.types import LANE_AXIS, LoopState, PyTree


def over_lanes(
    lanes: int,
    function: Callable,
    in_axes: Sequence[int | None],
    out_axes: Sequence[int | None] | int,
) -> Callable:
    """Map a function of one lane over the lanes; axes are 0, or None where shared.

    A single lane is not mapped at all: batched by one, XLA:CPU runs a third slower.
    """
    if lanes > 1:
        return jax.vmap(function, in_axes, out_axes, axis_name=LANE_AXIS)

    def single(*args):
        out = function(
            *(
                arg if axis is None else take(arg, 0)
                for axis, arg in zip(in_axes, args, strict=True)
            )
        )
        if isinstance(out_axes, int):
            return repeat(out, 1)
        return tuple(
            part if axis is None else repeat(part, 1)
            for axis, part in zip(out_axes, out, strict=True)
        )

    return single


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
