"""A while loop over many seeds that ends when all of them have stopped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from optix.types import LoopState


def until_stopped(
    step: Callable[[LoopState], LoopState],
) -> Callable[[LoopState], LoopState]:
    """Return `state -> state` that steps while any seed is active.

    A vmapped `while_loop` refuses host callbacks and selects its whole carry, replay
    included, at every turn. Here each vmap becomes one loop with one predicate around a
    vmapped step, at any depth of nesting; the step freezes seeds that have stopped.
    """

    @custom_vmap
    def run(state):
        return jax.lax.while_loop(lambda state: jnp.any(state.active), step, state)

    @run.def_vmap
    def run_batch(size, batched, state):
        (batched,) = batched
        state = jax.tree.map(
            lambda x, is_batched: (
                x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            ),
            state,
            batched,
        )
        after = until_stopped(jax.vmap(step))(state)
        return after, jax.tree.map(lambda _: True, after)

    return run
