"""Work that is done only as often as it is due, under vmap too."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Carry = TypeVar("Carry")


def turns(
    count: jax.Array, body: Callable[[jax.Array, Carry], Carry], carry: Carry
) -> Carry:
    """Return the carry after `body(turn, carry)` for the turns 0 to `count` - 1.

    A count of zero costs nothing. Under vmap there are as many turns for all seeds as the
    one with most of them needs, where a plain loop would select its whole carry, replays
    included, at every turn. So the body itself must do nothing from its own count on.

    Args:
      count: [] int32.
      body: closes over nothing that is traced.
      carry: what it changes, and what it looks at.

    >>> turns(jnp.int32(3), lambda turn, total: total + turn, jnp.int32(0)).tolist()
    3
    """

    @custom_vmap
    def run(count, carry):
        return jax.lax.fori_loop(0, count, body, carry)

    @run.def_vmap
    def run_batch(size, batched, count, carry):
        many, each = batched
        carry = jax.tree.map(
            lambda x, is_batched: (
                x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            ),
            carry,
            each,
        )
        most = count.max() if many else count
        after = turns(most, jax.vmap(body, in_axes=(None, 0)), carry)
        return after, jax.tree.map(lambda _: True, after)

    return run(count, carry)
