"""What a population says of its policies, and lets its owner change.

Of the state of one seed; `jax.vmap` serves several.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.math.regime import Regime
from optix.population.state import PopulationState, ended, holder
from optix.trees import select_rows
from optix.types import Hyperparams, Phase, Policy, StopReason


class Policies(NamedTuple):
    """The policies of a population, for an ensemble."""

    policies: Policy  # [P, ...] the best one of each member
    weights: jax.Array  # [P] float32, their sum is 1; 0 where none counts
    alive: jax.Array  # [P] bool: a policy there counts
    hyperparams: Hyperparams  # {name: [P]} that each was trained with


def policies(state: PopulationState) -> Policies:
    """Return the policies that count, with their weights."""
    best = state.members.best
    return Policies(best.policy, weights(state), state.alive, best.hyperparams)


def weights(state: PopulationState, scores: jax.Array | None = None) -> jax.Array:
    """Return the weight of each policy, [P] float32 with the sum 1.

    One standard deviation of the scores below the best is a factor of e less; equal
    scores weigh the same. Neither a shift nor a positive factor of the scores changes
    them. The boosts of the present regime multiply them. (The original's worst policy
    weighs nothing, whatever it is worth.)

    Args:
      state: of the population.
      scores: [P] by which to weigh; None for the best scores of the members, which after
        `finish` are of unseen keys.

    Raises:
      ValueError: scores of another number than there are places.
    """
    if scores is None:
        scores = state.members.best.score
    scores = jnp.asarray(scores, jnp.float32)
    if scores.shape != state.alive.shape:
        raise checks.OptionError(
            f"scores must be one for each place, {state.alive.shape}, got a shape of "
            f"{scores.shape}"
        )
    counted = state.alive & jnp.isfinite(scores)
    known = jnp.where(counted, scores, 0.0)
    number = jnp.maximum(counted.sum(), 1)
    mean = known.sum() / number
    variance = jnp.where(counted, (known - mean) ** 2, 0.0).sum() / number
    deviation = jnp.sqrt(variance)
    unit = jnp.where(deviation > 0, deviation, 1.0)
    highest = jnp.where(counted, scores, -jnp.inf).max(initial=-jnp.inf)
    below = jnp.where(counted, (known - highest) / unit, 0.0)
    raw = jnp.where(counted, jnp.exp(below) * state.boosts[state.regime], 0.0)
    # where none has a finite score, or all boosts are zero, each counts alike
    raw = jnp.where(raw.sum() > 0, raw, state.alive.astype(jnp.float32))
    return raw / jnp.maximum(raw.sum(), jnp.finfo(jnp.float32).tiny)


def boost(
    state: PopulationState, place: int | jax.Array, factor: float | jax.Array = 2.0
) -> PopulationState:
    """Return the state with the weight of a policy times a factor, in this regime.

    Raises:
      ValueError: a place that is none, or a factor that is negative or not finite.
    """
    places = state.alive.shape[-1]
    if not isinstance(place, jax.Array):
        checks.positive_int("place", place, 0, places - 1)
    checks.within_or_traced("factor", factor, 0.0, 1e30)
    row = state.boosts[state.regime]
    boosts = state.boosts.at[state.regime].set(row.at[place].multiply(factor))
    return state._replace(boosts=boosts)


def with_regime(
    state: PopulationState, regime: Regime | str | jax.Array
) -> PopulationState:
    """Return the state in another regime, whose boosts then count.

    `optix.math.regime` finds it from scores.

    Raises:
      ValueError: no name of a regime.
    """
    if isinstance(regime, str):
        checks.known_names("regime", [regime.upper()], Regime.__members__)
        regime = Regime[regime.upper()]
    return state._replace(regime=jnp.asarray(regime, jnp.int32))


def pruned(state: PopulationState, count: int = 1) -> PopulationState:
    """Return the state without its `count` lowest policies, but with the best one.

    Raises:
      ValueError: a count below zero.
    """
    checks.positive_int("count", count, 0)
    scores = jnp.where(state.alive, state.members.best.score, jnp.inf)
    best_held = jnp.arange(scores.shape[0]) == holder(state.alive, state.members)
    order = jnp.argsort(jnp.where(best_held, jnp.inf, scores), stable=True)
    rank = jnp.argsort(order)
    leaves = state.alive & ~best_held & (rank < count)
    members = state.members
    stopped = ended(members, StopReason.SETTLED)
    old = members.progress, members.stop_reason
    new = stopped.progress, stopped.stop_reason
    progress, reason = select_rows(leaves, new, old)
    return state._replace(
        alive=state.alive & ~leaves,
        members=members._replace(progress=progress, stop_reason=reason),
    )


def ranked(state: PopulationState) -> list[int]:
    """Return the places of the policies that count, the best first."""
    _one_seed(state)
    alive = np.asarray(state.alive)
    scores = np.asarray(state.members.best.score)
    order = np.argsort(-scores, kind="stable")
    return [int(place) for place in order if alive[place]]


def status(state: PopulationState) -> dict[str, Any]:
    """Return how the population stands, in plain numbers and words."""
    _one_seed(state)
    alive = np.asarray(state.alive)
    training = np.asarray(state.members.stop_reason) == StopReason.RUNNING
    left = int(state.max_spawns) - int(state.spawns)
    return {
        "policies": int(alive.sum()),
        "max_policies": len(alive),
        "training": int((alive & training).sum()),
        "weights": {
            p: float(weights(state)[p]) for p in np.flatnonzero(alive).tolist()
        },
        "best_score": float(state.best.score),
        "round": int(state.round),
        "env_steps": int(state.env_steps),
        "spawns": int(state.spawns),
        "spawns_remaining": max(left, 0),
        "budget_exhausted": left <= 0,
        "barren": int(state.barren),
        "regime": Regime(int(state.regime)).name.lower(),
        "stop_reason": StopReason(int(state.stop_reason)).name,
    }


def report(state: PopulationState) -> str:
    """Return the policies in a table of plain text, the best first."""
    _one_seed(state)
    lines = [
        "place  score     weight  round  steps      phase    from  hyperparameters"
    ]
    best, origins = state.members.best, state.origins
    weight = np.asarray(weights(state))
    for place in ranked(state):
        parent = int(origins.parent[place])
        settings = "  ".join(
            f"{name} {float(values[place]):.3g}"
            for name, values in best.hyperparams.items()
        )
        lines.append(
            f"{place:<5}  {float(best.score[place]):<8.4g}  {weight[place]:<6.3f}  "
            f"{int(state.members.round[place]):<5}  "
            f"{int(state.members.env_steps[place]):<9}  "
            f"{Phase(int(state.members.progress.phase[place])).name.lower():<7}  "
            f"{'-' if parent < 0 else parent:<4}  {settings}"
        )
    standing = status(state)
    lines.append(
        f"{standing['policies']} of {standing['max_policies']} places, "
        f"{standing['training']} in training, {standing['spawns']} spawns and "
        f"{standing['spawns_remaining']} left, regime {standing['regime']}: "
        f"{StopReason(int(state.stop_reason)).describe()}"
    )
    return "\n".join(lines)


def _one_seed(state: PopulationState) -> None:
    if np.ndim(state.round):
        raise checks.OptionError(
            f"the state must be of one seed, got {np.shape(state.round)[0]} of them; "
            "optix.trees.take(state, seed) is one"
        )
