"""Simultaneous perturbation: every hyperparameter at once, two measurements a step."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.tuners.space import space
from optix.types import Hyperparams, PyTree, Signals, Tuner

_MEMORY = 0.9  # of the running mean square of the differences
_MAX_STEPS = 2.0  # the longest move, in `step_size`
_AVERAGING = 6  # power of the weights: as recent as a mean over the last quarter

_CENTRE, _PLUS, _MINUS = range(3)  # what the only lane plays


class SpsaState(NamedTuple):
    """A centre in the unit box and what is known of the score around it."""

    base: Hyperparams  # {name: []} all hyperparameters as they came
    position: jax.Array  # [D] float32 the centre
    average: jax.Array  # [D] float32 of the latest centres
    moves: jax.Array  # [] int32
    direction: jax.Array  # [D] float32 -1 or 1
    probe_scale: jax.Array  # [] float32 1, halved by every round without a finite score
    square: jax.Array  # [] float32 weighted sum of squared differences
    weight: jax.Array  # [] float32 its weights
    sequence: PyTree  # _Sequence of a single lane, () of two


class _Sequence(NamedTuple):
    """Where a single lane stands in centre, plus, minus, plus, minus ..."""

    stage: jax.Array  # [] int32
    recent: jax.Array  # [2] float32 the scores of the two rounds before


class _Outcome(NamedTuple):
    """What a round says about the direction."""

    difference: (
        jax.Array
    )  # [] float32 plus less minus; infinite if one failed, else NaN
    lost: jax.Array  # [] bool: no finite score
    parents: jax.Array  # [L] int32
    sequence: PyTree


def spsa(
    bounds: Mapping[str, tuple[float, float]],
    *,
    lanes: int = 2,
    log: Iterable[str] | None = None,
    step_size: float | jax.Array = 0.2,
    probe: float | jax.Array = 0.8,
) -> Tuner:
    """Return a tuner by simultaneous perturbation (SPSA, Spall 1992).

    A random direction in all hyperparameters is tried forwards and backwards. The
    difference of the scores, divided by its running root mean square so that the scale
    of the scores does not matter, moves the centre along it.

    Two lanes are two forks of one state, and the better is kept: a bad probe is undone.
    One lane plays the two probes one after the other and compares the improvements they
    brought, so that steady progress cancels. On real learners this does harm where two
    lanes do not: a bad probe stays.

    The centre stays a probe's width inside the bounds, so that no probe is cut off.
    Where they are closer than four probes, the probe shrinks to a quarter of the range
    and the step with it. A start outside is moved inside. `centre` hands over a mean of
    the latest centres, each weighted by its number to the sixth power (polynomial-decay
    averaging, https://arxiv.org/abs/1212.1824), which needs no horizon.

    Args:
        bounds: {name: (low, high)} of what to tune.
        lanes: 1 or 2.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        step_size: typical move of the centre: .2 is a factor 1.22, or for a linear
            parameter 3 % of its range (which counts as three decades). May be traced.
        probe: distance of the probes from the centre, in the same unit: .8 is a factor
            2.2, or 12 % of a linear range. May be traced.

    Raises:
        ValueError: reversed bounds, a logarithmic one that is not positive, lanes that
            are neither 1 nor 2, gains that are not positive; from `init`, a bound whose
            name the hyperparameters do not have.

    Example:
        >>> tuner = spsa({"learning_rate": (1e-5, 1e-1)})
        >>> state = tuner.init({"learning_rate": 1e-3}, jax.random.key(0))
        >>> [round(float(x), 5) for x in sorted(tuner.ask(state)["learning_rate"])]
        [0.00045, 0.00223]
    """
    box = space(bounds, log)
    if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes not in (1, 2):
        raise checks.OptionError(
            f"lanes must be 1 or 2, got {lanes!r}; at equal training more gain nothing"
        )
    step_size, probe = (
        checks.within_or_traced(name, value, 0.0, math.inf, open_ends=True)
        for name, value in (("step_size", step_size), ("probe", probe))
    )
    outcome = _compare_forks if lanes == 2 else _compare_rounds

    def reach():
        """How far a probe goes, [D] in parts of the range."""
        return jnp.minimum(probe / jnp.asarray(box.spans, jnp.float32), 0.25)

    def inside(position):
        return jnp.clip(position, reach(), 1 - reach())

    def init(base, key):
        checks.known_names("tuned hyperparameter", box.bounds, base)
        base = {name: jnp.asarray(value, jnp.float32) for name, value in base.items()}
        position = inside(box.encode(base))
        return SpsaState(
            base=base,
            position=position,
            average=position,
            moves=jnp.int32(0),
            direction=_random_signs(key, position),
            probe_scale=jnp.float32(1),
            square=jnp.float32(0),
            weight=jnp.float32(0),
            sequence=()
            if lanes == 2
            else _Sequence(jnp.int32(_CENTRE), jnp.zeros(2, jnp.float32)),
        )

    def ask(state):
        if lanes == 2:
            signs = jnp.array([1.0, -1.0], jnp.float32)
        else:
            signs = jnp.array([0.0, 1.0, -1.0], jnp.float32)[state.sequence.stage][None]
        offset = state.probe_scale * reach() * state.direction
        tuned = jax.vmap(box.decode)(state.position + signs[:, None] * offset)
        untuned = {name: jnp.repeat(x[None], lanes) for name, x in state.base.items()}
        return {**untuned, **tuned}

    def tell(state, signals, key):
        difference, lost, parents, sequence = outcome(state.sequence, signals)
        compared = ~jnp.isnan(difference)
        finite = jnp.isfinite(difference)
        square = _MEMORY * state.square + (1 - _MEMORY) * difference**2
        square = jnp.where(finite, square, state.square)
        weight = _MEMORY * state.weight + (1 - _MEMORY)
        weight = jnp.where(finite, weight, state.weight)
        typical = jnp.sqrt(square / jnp.maximum(weight, 1 - _MEMORY))
        steps = jnp.where(finite & (typical == 0), 0.0, difference / typical)
        steps = jnp.where(compared, jnp.clip(steps, -_MAX_STEPS, _MAX_STEPS), 0.0)

        stride = step_size / probe * reach()
        position = inside(state.position + steps * stride * state.direction)
        moves = state.moves + compared
        share = jnp.where(compared, (_AVERAGING + 1) / (moves + _AVERAGING), 0.0)
        done = compared | lost
        restored = jnp.where(compared, 1.0, state.probe_scale)
        return state._replace(
            position=position,
            average=state.average + share * (position - state.average),
            moves=moves,
            direction=jnp.where(done, _random_signs(key, position), state.direction),
            probe_scale=jnp.where(lost, state.probe_scale / 2, restored),
            square=square,
            weight=weight,
            sequence=sequence,
        ), parents

    def centre(state):
        return {**state.base, **box.decode(state.average)}

    return Tuner(lanes, box.bounds, init, ask, tell, centre)


def _compare_forks(sequence: tuple, signals: Signals) -> _Outcome:
    """Compare two lanes; both go on from the better, or from the best policy so far."""
    plus, minus = signals.score
    lost = ~jnp.isfinite(signals.score).any()
    parent = jnp.where(lost, 2, jnp.argmax(signals.score)).astype(jnp.int32)
    return _Outcome(plus - minus, lost, jnp.stack([parent, parent]), sequence)


def _compare_rounds(sequence: _Sequence, signals: Signals) -> _Outcome:
    """Compare the improvement of a plus round with that of the minus round after it."""
    stage, recent = sequence
    score = signals.score[0]
    lost = ~jnp.isfinite(score)
    improvements = (recent[1] - recent[0]) - (score - recent[1])
    # a failed plus round says enough; after any failure the next one starts anew, since
    # the best policy scores otherwise than the one that failed
    early = jnp.where((stage == _PLUS) & lost, -jnp.inf, jnp.nan)
    following = jnp.select([lost, stage == _PLUS], [_CENTRE, _MINUS], _PLUS)
    return _Outcome(
        difference=jnp.where(stage == _MINUS, improvements, early),
        lost=lost,
        parents=lost.astype(jnp.int32)[None],
        sequence=_Sequence(following.astype(jnp.int32), jnp.stack([recent[1], score])),
    )


def _random_signs(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, like.shape, like.dtype)
