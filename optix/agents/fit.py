"""Whether a network, and a batch, is what an agent learns from."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.types import ActionSpace, Box, Discrete, MultiDiscrete, Network, Numbered


def feed_forward(
    agent: str, network: Network, recurrent: str = "recurrent_ppo"
) -> None:
    """Raise ValueError for something else than a network without a carry."""
    check_network(network)
    if jax.tree.leaves(network.initial_carry(1)):
        raise checks.OptionError(
            f"{agent} takes a feed-forward network, but this one has a carry; give it to "
            f"{recurrent}, which trains through time"
        )


def check_discrete(agent: str, space: ActionSpace) -> None:
    """Raise ValueError for actions of which there is not one value each."""
    others = "ppo, recurrent_ppo or impala"
    remedy = (
        f"use sac or td3, or {others}" if isinstance(space, Box) else f"use {others}"
    )
    checks.record(f"action_space of {agent}", space, Discrete, remedy)


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
        raise checks.OptionError(
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
        raise checks.OptionError(
            f"{name} must take rows of shape {', '.join(map(str, shapes))}, but it "
            f"failed to: {error}"
        ) from error
    given = jax.tree.map(lambda x: x.shape[1:], out)
    if not fits(given):
        raise checks.OptionError(
            f"{name} must give {wanted}; for one row it gave {given}"
        )


def check_heads(
    name: str,
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: ActionSpace,
    distribution: Callable | None,
) -> None:
    """Raise ValueError unless a network gives (distribution parameters, value).

    Args:
      name: of the network, for messages.
      network: feed-forward or with a carry.
      observation_shape: of one observation.
      action_space: what the parameters are of.
      distribution: one's own, whose parameters may be anything; None for the usual one.
    """
    if isinstance(action_space, Numbered):
        logits = sum(action_space.sizes)
        heads, wanted = (logits,), f"logits of {logits} actions"
        if isinstance(action_space, MultiDiscrete):
            wanted = f"{logits} logits, those of {action_space} one after another"
    else:
        size = action_space.shape[0]
        heads, wanted = ((size,), (size,)), f"(mean, log_scale) of {size} actions"
    if distribution is not None:
        wanted = "the parameters of its distribution"

    def fits(out):
        pair = isinstance(out, tuple) and len(out) == 2
        return pair and out[1] == () and (distribution is not None or out[0] == heads)

    shape = checks.shape("observation_shape", observation_shape)
    wanted = f"({wanted}, one value), as actor_critic(...) does"
    check_outputs(name, network, (shape,), fits, wanted)


def check_minibatches(
    unit: str, count: int, num_minibatches: int, samples: int | None
) -> int:
    """Return the rows of a window, or raise ValueError: minibatches must divide them.

    Args:
      unit: what the rows are, for messages.
      count: rows of a window.
      num_minibatches: parts of a window.
      samples: of a window; None where other devices have parts of a minibatch too.
    """
    if count % num_minibatches:
        raise checks.OptionError(
            f"the {unit} must be divisible by num_minibatches={num_minibatches}, got "
            f"{count}"
        )
    if samples == num_minibatches:
        # less their own mean, the advantages of one sample are zero
        raise checks.OptionError(
            f"num_minibatches={num_minibatches} must leave two samples or more in each, "
            f"got a window of {samples}: of one alone the advantage is zero"
        )
    return count
