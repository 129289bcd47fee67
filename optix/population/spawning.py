"""A new member: near the best policy, and further out where that brings nothing."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.trees import select, take
from optix.tuners.space import Space
from optix.types import Best, Hyperparams, Loop, LoopState, Policy

REACHES = ((0.2, 0.25), (0.5, 0.5), (1.0, 1.0))


class Reach(NamedTuple):
    """How far from the best policy spawns begin, one after another in vain; static."""

    shares: tuple[float, ...]  # of a fresh policy in the weights
    widths: tuple[float, ...]  # of the box that a hyperparameter moves at most


def reach_of(pairs: Iterable[tuple[float, float]]) -> Reach:
    """Return the checked pairs (share, width), each in [0, 1] and none nearer than before.

    Raises:
      ValueError: none, or others.
    """
    rule = "reach must be pairs (share, width) in [0, 1], such as ((0.2, 0.25), (1, 1))"
    try:
        checked = [
            (
                checks.within("a share of reach", share, 0, 1),
                checks.within("a width of reach", width, 0, 1),
            )
            for share, width in pairs
        ]
    except TypeError:
        raise checks.OptionError(f"{rule}, got {pairs!r}") from None
    except ValueError as error:
        if isinstance(error, checks.OptionError):
            raise
        raise checks.OptionError(f"{rule}, got {pairs!r}") from None
    if not checked:
        raise checks.OptionError(f"{rule}, got none")
    shares, widths = zip(*checked, strict=True)
    if list(shares) != sorted(shares) or list(widths) != sorted(widths):
        raise checks.OptionError(
            f"reach must not come nearer from one pair to the next, got {checked}"
        )
    return Reach(shares, widths)


def mixed(policy: Policy, fresh: Policy, share: jax.Array) -> Policy:
    """Return the policy with its weights drawn towards a fresh one's.

    Shrink and perturb (https://arxiv.org/abs/1910.08475): the optimizer starts afresh;
    normalisers, counters and the structure stay those of `policy`, unless nothing of its
    weights is left.

    Args:
      policy: where from.
      fresh: of the same shapes.
      share: [] float32 of the fresh weights, in [0, 1].
    """
    all_of_it = share >= 1

    def weight(old, new):
        return jnp.where(all_of_it, new, (1 - share) * old + share * new)

    return Policy(
        params=jax.tree.map(weight, policy.params, fresh.params),
        structure=select(all_of_it, fresh.structure, policy.structure),
        opt_state=fresh.opt_state,
        extras=select(all_of_it, fresh.extras, policy.extras),
    )


def moved(
    hyperparams: Hyperparams, box: Space | None, width: jax.Array, key: jax.Array
) -> Hyperparams:
    """Return hyperparameters at most `width` of the box away; a width of 1 is anywhere.

    Args:
      hyperparams: {name: []}, those that the box does not name stay.
      box: of what may change, None for nothing.
      width: [] float32, in [0, 1].
      key: of the draw.
    """
    if box is None:
        return hyperparams
    centre = box.encode(hyperparams)
    draw = jax.random.uniform(key, centre.shape)
    near = jnp.clip(centre + width * (2 * draw - 1), 0.0, 1.0)
    point = jnp.where(width >= 1, draw, near)
    return {**hyperparams, **box.decode(point)}


def spawned(
    loop: Loop,
    best: Best,
    source: LoopState,
    box: Space | None,
    share: jax.Array,
    width: jax.Array,
    key: jax.Array,
) -> LoopState:
    """Return a new run that begins at a distance from the best policy.

    Args:
      loop: of the run, which `Loop.restart` begins.
      best: the policy and its hyperparameters.
      source: a run whose limits and whose replay it takes over; of a policy that is all
        fresh the replay is too.
      box: as of `moved`.
      share: as of `mixed`.
      width: as of `moved`.
      key: of all that is drawn.
    """
    fresh_key, box_key, run_key = jax.random.split(key, 3)
    fresh = loop.learner.init(fresh_key)
    memory = select(share >= 1, fresh.memory, source.learner.memory)
    source = source._replace(learner=source.learner._replace(memory=memory))
    policy = mixed(best.policy, fresh.policy, share)
    hyperparams = moved(best.hyperparams, box, width, box_key)
    return loop.restart(source, policy, hyperparams, run_key)


def distance(reach: Reach, barren: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return which pair of the reach is due, and its share and width, all []."""
    which = jnp.minimum(barren, len(reach.shares) - 1)
    pairs = jnp.array([reach.shares, reach.widths], jnp.float32)
    share, width = take(pairs.T, which)
    return which, share, width
