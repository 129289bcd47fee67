"""Networks whose outputs know which actions are allowed.

The one place in which agents meet masks: a network that is wrapped here takes a `Masked`
observation as well as a plain one, sees only the observation, and gives masked logits or
values, when acting as when learning. Without a mask it computes what it always did.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.agents.fit import check_network
from optix.math.masks import mask_of, mask_out, observed
from optix.types import ActionSpace, Network, Numbered, PyTree


def masked_policy(network: Network, action_space: ActionSpace) -> Network:
    """Return the network of (distribution parameters, value) under masks.

    Args:
      network: whose parameters are logits [..., n], where observations are masked.
      action_space: of which the actions are; each part has a mask of its own.
    """
    sizes = action_space.sizes if isinstance(action_space, Numbered) else None

    def head(out: Any, mask: jax.Array) -> Any:
        logits, value = out
        _check(logits, mask, "logits")
        return mask_out(logits, mask, sizes), value

    return _masked(network, head)


def masked_values(network: Network) -> Network:
    """Return the network of the values [..., n] of actions under masks."""

    def head(values: Any, mask: jax.Array) -> Any:
        _check(values, mask, "values")
        return mask_out(values, mask)

    return _masked(network, head)


def _masked(network: Network, head: Callable[[Any, jax.Array], Any]) -> Network:
    check_network(network)

    def apply(params: PyTree, structure: PyTree, carry: PyTree, obs: PyTree):
        carry, out = network.apply(params, structure, carry, observed(obs))
        mask = mask_of(obs)
        return carry, out if mask is None else head(out, mask)

    def sequence(params, structure, carry, obs, ended):
        assert network.sequence is not None
        carry, out = network.sequence(params, structure, carry, observed(obs), ended)
        mask = mask_of(obs)
        return carry, out if mask is None else head(out, mask)

    whole = None if network.sequence is None else sequence
    return network._replace(apply=apply, sequence=whole)


def _check(out: Any, mask: jax.Array, what: str) -> None:
    """Refuse outputs that are not one for each action of the mask."""
    if getattr(out, "shape", None) != mask.shape:
        raise checks.OptionError(
            f"an action mask needs {what} of the actions, one for each of its "
            f"{mask.shape[-1]}, but the network gives {jax.tree.map(jnp.shape, out)} "
            f"beside a mask of {mask.shape}; masks are for discrete actions"
        )
