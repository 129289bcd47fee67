"""Whether a network, and a batch, is what an agent learns from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.types import Network


def feed_forward(agent: str, network: Network) -> None:
    """Raise ValueError for something else than a network without a carry."""
    check_network(network)
    if jax.tree.leaves(network.initial_carry(1)):
        raise ValueError(
            f"{agent} takes a feed-forward network, but this one has a carry; give it to "
            "recurrent_ppo, which trains through time"
        )


def check_network(network: Network) -> None:
    """Raise ValueError for something else than a network."""
    checks.record(
        "network",
        network,
        Network,
        "optix.networks.module.module_network makes one of a flax module",
    )


def check_batch(batch: Any, kind: type, learner: str) -> None:
    """Raise ValueError for a batch of another kind than the agent learns from."""
    if not isinstance(batch, kind):
        raise ValueError(
            f"the agent learns from a {kind.__name__}, got a {type(batch).__name__}; give "
            f"the agent to optix.learners.{learner}"
        )


def check_outputs(
    name: str,
    network: Network,
    shapes: tuple[tuple[int, ...], ...],
    fits: Callable[[Any], bool],
    wanted: str,
) -> None:
    """Raise ValueError unless a network gives an agent what it learns from.

    Args:
      name: of the network, for messages.
      network: whose `apply` takes one array, or a tuple of several.
      shapes: of one of each of its inputs.
      fits: the shapes of its outputs for one row -> whether they will do.
      wanted: what these are, in words, and the remedy.
    """
    rows = tuple(jnp.zeros((1, *shape)) for shape in shapes)

    def outputs(key):
        carry = network.initial_carry(1)
        inputs = rows if rows[1:] else rows[0]
        return network.apply(*network.init(key), carry, inputs)[1]

    try:
        out = jax.eval_shape(outputs, jax.random.key(0))
    except Exception as error:
        raise ValueError(
            f"{name} must take rows of shape {', '.join(map(str, shapes))}, but it "
            f"failed to: {error}"
        ) from error
    given = jax.tree.map(lambda x: x.shape[1:], out)
    if not fits(given):
        raise ValueError(f"{name} must give {wanted}; for one row it gave {given}")
