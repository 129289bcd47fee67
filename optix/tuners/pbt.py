"""A population: who trains badly goes on from who trains well, with other settings."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.tuners.alone import alone
from optix.tuners.probing import finite_scores
from optix.tuners.space import explore, floats, settings, space
from optix.types import Hyperparams, Tuner

_MEMORY = 0.9  # of the running mean square of a score's distance from the lane's mean


class PbtState(NamedTuple):
    """Where each lane is and how it has scored; lane 0 leads."""

    base: Hyperparams  # {name: []} all hyperparameters as they came
    position: jax.Array  # [L, D] float32 in the unit box
    level: jax.Array  # [L] float32 mean of the latest scores; -inf without any
    age: jax.Array  # [L] int32 rounds since the lane began or was copied
    square: jax.Array  # [] float32 weighted sum of squared distances from the levels
    weight: jax.Array  # [] float32 its weights


def pbt(
    bounds: Mapping[str, tuple[float, float]],
    *,
    population: int = 4,
    log: Iterable[str] | None = None,
    ready: int = 2,
    share: float = 0.25,
    factor: float | jax.Array = 2.0,
    anew: float | jax.Array = 0.25,
    smoothing: float | jax.Array = 0.5,
    margin: float | jax.Array = 1.0,
) -> Tuner:
    """Return a tuner by population based training (https://arxiv.org/abs/1711.09846).

    Lanes are policies of their own with settings of their own. The first population is
    spread over the whole box: lane 0 has the settings it was given, of each of the
    others every hyperparameter is in another part of its range (a Latin hypercube).
    Lanes whose smoothed score is among the worst copy the weights of one of the best,
    and then each of its hyperparameters is multiplied or divided by `factor`, or all are
    drawn anew.

    Lane 0 leads: it is copied, never perturbed, it alone is the run's score, and the
    policy and the settings that are handed over are its own. Another lane takes the lead
    (its weights and settings go to lane 0) where its smoothed score is better by
    `margin` of what scores vary by, so that luck seldom does. Scores that are not finite
    never lead and are never copied; where none is finite all go back to the best policy.

    With one lane, settings are tried one after the other: those that do worse than the
    best so far are left, and the next ones, drawn around the best, start from the best
    policy. As with all tuners of one lane, a bad trial costs its rounds.

    Args:
        bounds: {name: (low, high)} of what to tune.
        population: lanes; at equal training steps each gets that part of them.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        ready: rounds a lane trains before it may be replaced; with one lane, of a trial.
        share: part of the population that counts as worst, and as best; in (0, 0.5].
        factor: of a perturbation; a linear hyperparameter is moved by the same part of
            three decades. May be traced, as the next three.
        anew: chance that a copy draws all its hyperparameters anew, in [0, 1].
        smoothing: part of the smoothed score that a round leaves, in [0, 1).
        margin: by how much another lane must be better to lead, in standard deviations
            of how a score differs from the smoothed one of its lane.

    Raises:
        ValueError: reversed bounds, a population below 1, numbers out of range; from
            `init`, a bound whose name the hyperparameters do not have.

    Example:
        >>> tuner = pbt({"learning_rate": (1e-5, 1e-1)}, population=4)
        >>> state = tuner.init({"learning_rate": 1e-3}, jax.random.key(0))
        >>> rates = tuner.ask(state)["learning_rate"]
        >>> rates.shape, round(float(rates[0]), 5)
        ((4,), 0.001)
    """
    box = space(bounds, log)
    checks.positive_int("population", population)
    checks.positive_int("ready", ready)
    share = checks.within("share", share, 1e-9, 0.5)
    factor = checks.within_or_traced("factor", factor, 1.0, math.inf)
    anew = checks.within_or_traced("anew", anew, 0.0, 1.0)
    smoothing = checks.within_or_traced("smoothing", smoothing, 0.0, 0.999)
    margin = checks.within_or_traced("margin", margin, 0.0, math.inf)
    if population == 1:
        return alone(box, ready=ready, factor=factor, anew=anew, margin=margin)
    several = max(1, round(share * population))

    def init(base, key):
        base = floats(base, box.bounds)
        first = box.encode(base)[None]
        others = stratified(key, population - 1, len(box.bounds))
        return PbtState(
            base=base,
            position=jnp.concatenate([first, others]),
            level=jnp.full(population, -jnp.inf),
            age=jnp.zeros(population, jnp.int32),
            square=jnp.float32(0),
            weight=jnp.float32(0),
        )

    def ask(state):
        return settings(box, state.base, state.position)

    def tell(state, signals, key):
        score = finite_scores(signals)
        state = _scored(state, score, smoothing)
        source_key, explore_key = jax.random.split(key)
        failed = ~jnp.isfinite(score)
        order = jnp.argsort(-state.level)  # best first
        typical = jnp.sqrt(state.square / jnp.maximum(state.weight, 1e-9))
        ahead = state.level[order[0]] > state.level[0] + margin * typical
        ahead &= state.weight > 0  # not before it is known what scores vary by
        leader = jnp.where(ahead | failed[0], order[0], 0)

        source = order[jax.random.randint(source_key, (population,), 0, several)]
        source = jnp.where(failed[source], leader, source)
        worst = jnp.argsort(order) >= population - several
        worse = state.level < state.level[source]  # of equals none is replaced
        replaced = worst & worse & (state.age + 1 >= ready) | failed
        replaced &= jnp.arange(population) != leader
        parents = jnp.where(replaced, source, jnp.arange(population))
        moved = explore(box, explore_key, state.position[parents], factor, anew)
        position = jnp.where(replaced[:, None], moved, state.position)

        # the leader to lane 0, the others after it as they were
        places = jnp.argsort(jnp.where(jnp.arange(population) == leader, -1, 0))
        lost = failed.all()
        return state._replace(
            position=position[places],
            level=state.level[parents][places],
            age=jnp.where(replaced, 0, state.age + 1)[places],
        ), jnp.where(lost, population, parents[places]).astype(jnp.int32)

    return Tuner(
        population,
        box.bounds,
        init,
        ask,
        tell,
        centre=lambda state: {**state.base, **box.decode(state.position[0])},
        judged=1,
        common_random_numbers=False,
    )


def _scored(
    state: PbtState, score: jax.Array, smoothing: float | jax.Array
) -> PbtState:
    """Return the state with the levels of the lanes, and their noise, after a round."""
    finite = jnp.isfinite(score)
    known = finite & jnp.isfinite(state.level)
    distance = jnp.where(known, score - state.level, 0.0)
    level = jnp.where(known, state.level + (1 - smoothing) * distance, score)
    seen = known.sum()
    # what all lanes gain in a round is progress, not noise
    apart = jnp.where(known, distance - distance.sum() / jnp.maximum(seen, 1), 0.0)
    square = jnp.sum(apart**2) / jnp.maximum(seen - 1, 1)
    square = _MEMORY * state.square + (1 - _MEMORY) * square
    weight = _MEMORY * state.weight + (1 - _MEMORY)
    return state._replace(
        level=jnp.where(finite, level, -jnp.inf),
        square=jnp.where(seen > 1, square, state.square),
        weight=jnp.where(seen > 1, weight, state.weight),
    )


def stratified(key: jax.Array, count: int, size: int) -> jax.Array:
    """Return points [count, size] of the unit box, one in each of `count` equal parts.

    That holds for every side by itself: a Latin hypercube.

    >>> points = stratified(jax.random.key(0), 4, 2)
    >>> sorted((points[:, 0] * 4).astype(int).tolist())
    [0, 1, 2, 3]
    """
    order_key, within_key = jax.random.split(key)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(
        jax.random.split(order_key, size)
    )
    return (orders.T + jax.random.uniform(within_key, (count, size))) / count
