"""Population based training with a population of one: settings tried in turn."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.tuners.probing import finite_scores
from optix.tuners.space import Space, explore, floats, settings
from optix.types import Hyperparams, Tuner

_FORGETTING = 0.1  # a record comes so far towards a trial that fails to beat it
_MEMORY = 0.9


class AloneState(NamedTuple):
    """The settings on trial, and the best of those tried before."""

    base: Hyperparams  # {name: []} all hyperparameters as they came
    position: jax.Array  # [D] float32 on trial, in the unit box
    best: jax.Array  # [D] float32 those of the record
    record: jax.Array  # [] float32 mean score of the best trial; -inf before any
    total: jax.Array  # [] float32 sum of the trial's scores
    rounds: jax.Array  # [] int32 of the trial
    square: jax.Array  # [] float32 weighted sum of squared differences of two rounds
    weight: jax.Array  # [] float32 its weights
    last: jax.Array  # [] float32 score of the round before; NaN where there is none


def alone(
    box: Space,
    *,
    ready: int,
    factor: float | jax.Array,
    anew: float | jax.Array,
    margin: float | jax.Array,
) -> Tuner:
    """Return the tuner that tries settings one after the other, from the best policy.

    Settings that keep up with the record are kept, so a run that improves is left alone.
    A record fades with every trial that does not reach it: it may have been luck, or the
    best settings may be others by now.

    Args:
        box: of the settings.
        ready: rounds of a trial.
        factor: by which the next settings differ from the best.
        anew: chance that they are drawn from the whole box instead.
        margin: by how much a trial must fall short of the record to be left, in standard
            errors of its mean; without any noise it must only not exceed it.
    """

    def init(base, key):
        del key
        base = floats(base, box.bounds)
        position, zero = box.encode(base), jnp.float32(0)
        return AloneState(
            base=base,
            position=position,
            best=position,
            record=jnp.float32(-jnp.inf),
            total=zero,
            rounds=jnp.int32(0),
            square=zero,
            weight=zero,
            last=jnp.float32(jnp.nan),
        )

    def ask(state):
        return settings(box, state.base, state.position[None])

    def tell(state, signals, key):
        score = finite_scores(signals)[0]
        failed = ~jnp.isfinite(score)
        state = _noted(state, score)
        over = (state.rounds >= ready) | failed
        mean = jnp.where(failed, -jnp.inf, state.total / state.rounds)
        typical = jnp.sqrt(0.5 * state.square / jnp.maximum(state.weight, 1e-9))
        short = mean <= state.record - margin * typical / jnp.sqrt(ready)
        left = over & (short | failed)
        reached = over & ~left & (mean > state.record)
        best = jnp.where(reached, state.position, state.best)
        relaxed = state.record + _FORGETTING * (mean - state.record)
        relaxed = jnp.where(jnp.isfinite(mean) & over, relaxed, state.record)
        following = explore(box, key, best[None], factor, anew)[0]
        return state._replace(
            position=jnp.where(left, following, state.position),
            best=best,
            record=jnp.where(reached, mean, relaxed),
            total=jnp.where(over, 0.0, state.total),
            rounds=jnp.where(over, 0, state.rounds),
            last=jnp.where(left, jnp.nan, score),
        ), left.astype(jnp.int32)[None]

    def centre(state):
        return {**state.base, **box.decode(state.best)}

    return Tuner(1, box.bounds, init, ask, tell, centre)


def _noted(state: AloneState, score: jax.Array) -> AloneState:
    """Return the state with one more score of the trial."""
    step = score - state.last
    known = jnp.isfinite(step)
    square = _MEMORY * state.square + (1 - _MEMORY) * step**2
    weight = _MEMORY * state.weight + (1 - _MEMORY)
    return state._replace(
        total=state.total + score,
        rounds=state.rounds + 1,
        square=jnp.where(known, square, state.square),
        weight=jnp.where(known, weight, state.weight),
    )
