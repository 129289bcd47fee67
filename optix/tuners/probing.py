"""A centre that is probed on both sides, and the rules that move it by what that shows.

A random direction in all hyperparameters is tried forwards and backwards; what a rule
makes of the difference of the scores is all in which `spsa`, `momentum` and `backoff`
differ.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.tuners.space import floats, settings, space
from optix.types import Hyperparams, PyTree, Signals, Tuner

_MEMORY = 0.9  # of the running mean square of the differences
_LONGEST = 2.0  # a standardised difference beyond counts no more
_AVERAGING = 6  # power of the weights: as recent as a mean over the last quarter

_CENTRE, _PLUS, _MINUS = range(3)  # what the only lane plays


class Comparison(NamedTuple):
    """What a round says about the direction."""

    difference: jax.Array  # [] float32 of the scores, forwards less backwards; infinite
    # if one of them failed, NaN if nothing was compared
    direction: jax.Array  # [D] float32 -1 or 1
    score: jax.Array  # [] float32 mean of the two, NaN if nothing was compared


class Rule(NamedTuple):
    """How a centre follows differences.

    init: `(size) -> state` for so many hyperparameters.
    step: `(state, Comparison) -> (state, steps [D])`, in units of the step size; a
        difference that is NaN moves nothing and changes nothing.
    """

    init: Callable[[int], PyTree]
    step: Callable[[PyTree, Comparison], tuple[PyTree, jax.Array]]


class ProbeState(NamedTuple):
    """A centre in the unit box and what is known of the score around it."""

    base: Hyperparams  # {name: []} all hyperparameters as they came
    position: jax.Array  # [D] float32 the centre
    average: jax.Array  # [D] float32 of the latest centres
    moves: jax.Array  # [] int32
    direction: jax.Array  # [D] float32 -1 or 1
    probe_scale: jax.Array  # [] float32 1, halved by every round without a finite score
    rule: PyTree
    sequence: PyTree  # _Sequence of a single lane, () of two


class Scale(NamedTuple):
    """The typical size of a difference."""

    square: jax.Array  # [] float32 weighted sum of squares
    weight: jax.Array  # [] float32 its weights


class _Sequence(NamedTuple):
    """Where a single lane stands in centre, plus, minus, plus, minus ..."""

    stage: jax.Array  # [] int32
    recent: jax.Array  # [2] float32 the scores of the two rounds before


class _Outcome(NamedTuple):
    """What a round says, and what follows for the lanes."""

    difference: jax.Array  # [] float32 as in `Comparison`
    score: jax.Array  # [] float32 as in `Comparison`
    lost: jax.Array  # [] bool: no finite score
    parents: jax.Array  # [L] int32
    sequence: PyTree


def probing(
    bounds: Mapping[str, tuple[float, float]],
    rule: Rule,
    *,
    lanes: int = 2,
    log: Iterable[str] | None = None,
    step_size: float | jax.Array = 0.2,
    probe: float | jax.Array = 0.8,
) -> Tuner:
    """Return a tuner that probes its centre on both sides and moves it by a rule.

    Two lanes are two forks of one state, and the better is kept: a bad probe is undone.
    One lane plays the two probes one after the other and compares the improvements they
    brought, so that steady progress cancels; on real learners this does harm where two
    lanes do not: a bad probe stays.

    The centre stays a probe's width inside the bounds, so that no probe is cut off.
    Where they are closer than four probes, the probe shrinks to a quarter of the range
    and the step with it. A start outside is moved inside. `centre` hands over a mean of
    the latest centres, each weighted by its number to the sixth power (polynomial-decay
    averaging, https://arxiv.org/abs/1212.1824), which needs no horizon.

    Args:
        bounds: {name: (low, high)} of what to tune.
        rule: what moves the centre.
        lanes: 1 or 2.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        step_size: unit of the rule's steps: .2 is a factor 1.22, or for a linear
            parameter 3 % of its range (which counts as three decades). May be traced.
        probe: distance of the probes from the centre, in the same unit: .8 is a factor
            2.2, or 12 % of a linear range. May be traced.

    Raises:
        ValueError: reversed bounds, a logarithmic one that is not positive, lanes that
            are neither 1 nor 2, gains that are not positive; from `init`, a bound whose
            name the hyperparameters do not have.
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
        base = floats(base, box.bounds)
        position = inside(box.encode(base))
        single = _Sequence(jnp.int32(_CENTRE), jnp.zeros(2, jnp.float32))
        return ProbeState(
            base=base,
            position=position,
            average=position,
            moves=jnp.int32(0),
            direction=_random_signs(key, position),
            probe_scale=jnp.float32(1),
            rule=rule.init(len(box.bounds)),
            sequence=() if lanes == 2 else single,
        )

    def ask(state):
        if lanes == 2:
            signs = jnp.array([1.0, -1.0], jnp.float32)
        else:
            signs = jnp.array([0.0, 1.0, -1.0], jnp.float32)[state.sequence.stage][None]
        offset = state.probe_scale * reach() * state.direction
        return settings(box, state.base, state.position + signs[:, None] * offset)

    def tell(state, signals, key):
        difference, score, lost, parents, sequence = outcome(state.sequence, signals)
        compared = ~jnp.isnan(difference)
        rule_state, steps = rule.step(
            state.rule, Comparison(difference, state.direction, score)
        )
        position = inside(state.position + steps * (step_size / probe) * reach())
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
            rule=rule_state,
            sequence=sequence,
        ), parents

    def centre(state):
        return {**state.base, **box.decode(state.average)}

    return Tuner(lanes, box.bounds, init, ask, tell, centre)


def initial_scale() -> Scale:
    """Return the scale before any difference."""
    return Scale(jnp.float32(0), jnp.float32(0))


def standardised(scale: Scale, difference: jax.Array) -> tuple[Scale, jax.Array]:
    """Divide a difference by the root mean square of the latest, this one included.

    So the scale of the scores does not matter.

    Args:
        scale: of the differences before.
        difference: [] float32; an infinite one counts as the largest there is, and NaN,
            which is none, gives 0.

    Returns:
        The scale, and the standardised difference [] float32 in [-2, 2].
    """
    finite = jnp.isfinite(difference)
    square = _MEMORY * scale.square + (1 - _MEMORY) * difference**2
    square = jnp.where(finite, square, scale.square)
    weight = jnp.where(finite, _MEMORY * scale.weight + (1 - _MEMORY), scale.weight)
    typical = jnp.sqrt(square / jnp.maximum(weight, 1 - _MEMORY))
    ratio = jnp.where(finite & (typical == 0), 0.0, difference / typical)
    ratio = jnp.where(jnp.isnan(difference), 0.0, jnp.clip(ratio, -_LONGEST, _LONGEST))
    return Scale(square, weight), ratio


def finite_scores(signals: Signals) -> jax.Array:
    """Return the scores [L], -inf where one is not finite: it shall never win."""
    score = jnp.asarray(signals.score, jnp.float32)
    return jnp.where(jnp.isfinite(score), score, -jnp.inf)


def _compare_forks(sequence: tuple, signals: Signals) -> _Outcome:
    """Compare two lanes; both go on from the better, or from the best policy so far."""
    scores = finite_scores(signals)
    finite = jnp.isfinite(scores)
    lost = ~finite.any()
    parent = jnp.where(lost, 2, jnp.argmax(scores)).astype(jnp.int32)
    mean = jnp.where(finite, scores, 0.0).sum() / finite.sum()  # NaN if lost
    return _Outcome(
        scores[0] - scores[1], mean, lost, jnp.stack([parent, parent]), sequence
    )


def _compare_rounds(sequence: _Sequence, signals: Signals) -> _Outcome:
    """Compare the improvement of a plus round with that of the minus round after it."""
    stage, recent = sequence
    score = finite_scores(signals)[0]
    lost = ~jnp.isfinite(score)
    improvements = (recent[1] - recent[0]) - (score - recent[1])
    # a failed plus round says enough; after any failure the next one starts anew, since
    # the best policy scores otherwise than the one that failed
    early = jnp.where((stage == _PLUS) & lost, -jnp.inf, jnp.nan)
    following = jnp.select([lost, stage == _PLUS], [_CENTRE, _MINUS], _PLUS)
    both = (stage == _MINUS) & ~lost
    return _Outcome(
        difference=jnp.where(stage == _MINUS, improvements, early),
        score=jnp.where(both, 0.5 * (recent[1] + score), jnp.nan),
        lost=lost,
        parents=lost.astype(jnp.int32)[None],
        sequence=_Sequence(following.astype(jnp.int32), jnp.stack([recent[1], score])),
    )


def _random_signs(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, like.shape, like.dtype)
