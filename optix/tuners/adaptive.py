"""The rate by divergence where that is known, the rest by a rule that suits the scores."""

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.math.residuals import residual_test
from optix.trees import select
from optix.tuners import backoff, momentum, spsa
from optix.tuners.probing import ProbeState, Rule, probing
from optix.tuners.space import explore, space
from optix.tuners.trust import TARGET, TrustState, trust
from optix.types import PyTree, Tuner

HISTORY = 40  # scores that a route is chosen by
_FEWEST = 20  # before which no route is chosen
_SURE = 1.96  # standard deviations of autocorrelation that chance would leave
_LOW = 0.2  # quantile of the scores below which a policy is left
_LATEST = 10  # scores whose mean is compared with it, so that noise seldom falls below
_FACTOR = 1.5  # by which settings differ from the best after going back


class Route(enum.IntEnum):
    """What the scores ask for."""

    SPSA = 0  # no structure in them
    MOMENTUM = 1  # they hang together
    BACKOFF = 2  # they swing
    BEST = 3  # they are low: back to the best policy, with settings near its own


class RoutedState(NamedTuple):
    """All rules, each told of every comparison, and the scores they are chosen by."""

    rules: tuple[PyTree, ...]  # in the order of `Route`
    scores: jax.Array  # [HISTORY] float32 of the centre, oldest first
    count: jax.Array  # [] int32 how many there are
    route: jax.Array  # [] int32 Route of the last comparison


class AdaptiveState(NamedTuple):
    """One centre, which all rules share, and the rate that is steered."""

    probes: ProbeState  # its `rule` is a RoutedState
    trust: TrustState | tuple  # () where the bounds have no rate
    steered: (
        jax.Array
    )  # [] bool: the learner reports the divergence; so until it is told
    best: jax.Array  # [D] float32 where the centre was when the best policy was


def adaptive(
    bounds: Mapping[str, tuple[float, float]],
    *,
    lanes: int = 2,
    log: Iterable[str] | None = None,
    step_size: float | jax.Array = spsa.STEP_SIZE,
    probe: float | jax.Array = 0.8,
    rate: str = "learning_rate",
    target: float | jax.Array = TARGET,
    metric: str = "kl",
) -> Tuner:
    """Return a tuner that chooses its rule by the scores, and steers the rate if it can.

    Where the learner reports a divergence, as PPO does, the learning rate is left to
    `trust` and never probed. The other hyperparameters, or all, are probed as `spsa` does
    it, around one centre that all rules share and each is told of, so that none goes
    stale. Which of them moves it is read from the last 40 scores of the centre
    (`choose_route`): `momentum` where they hang together around a smooth curve, `backoff`
    where they swing, `spsa` where neither is sure; and where they have fallen below the
    20th percentile, the run goes back to its best policy, with settings a factor 1.5
    from those it had.

    Such routing has a tradition; in no measurement did it beat its own members. With
    nothing but a rate to tune take `trust`: the second lane would be wasted.

    Args:
        bounds: {name: (low, high)} of what to tune.
        lanes: 2, two forks of one state; or 1, one probe after the other, which does
            harm to real learners where two lanes do not.
        log: names tuned by factors; None for those with `low > 0`, `high / low >= 10`.
        step_size: of `spsa`; those of the other rules are in proportion. May be traced.
        probe: distance of the probes from the centre, as in `spsa`; may be traced.
        rate: the name that is steered, if it is among the bounds.
        target: wanted divergence of a round, as in `trust`; may be traced.
        metric: the learner's number that tells it.

    Raises:
        ValueError: as `spsa`; a target that is not positive, bounds of the rate that are
            not positive.

    Example:
        >>> tuner = adaptive({"learning_rate": (1e-5, 1e-1), "clip_ratio": (0.05, 0.5)})
        >>> base = {"learning_rate": 1e-3, "clip_ratio": 0.2}
        >>> asked = tuner.ask(tuner.init(base, jax.random.key(0)))
        >>> [round(float(x), 4) for x in asked["learning_rate"]]
        [0.001, 0.001]
        >>> [round(float(x), 3) for x in sorted(asked["clip_ratio"])]
        [0.112, 0.356]
    """
    box = space(bounds, log)
    options = {"lanes": lanes, "log": log, "step_size": step_size, "probe": probe}
    probes = probing(bounds, routed(), **options)
    names = {rate: box.bounds[rate]} if rate in box.bounds else None
    # checks its arguments also where it has nothing to steer
    steering = trust(names or {rate: (1.0, 2.0)}, target=target, metric=metric)

    def init(base, key):
        first = probes.init(base, key)
        steered = steering.init(base, key) if names else ()
        return AdaptiveState(first, steered, jnp.bool_(True), first.position)

    def with_rate(state, given, rate_of):
        """What the probes give, with the rate that is steered in its place."""
        if not names:
            return given
        other = jnp.broadcast_to(rate_of(state.trust)[rate], given[rate].shape)
        return {**given, rate: jnp.where(state.steered, other, given[rate])}

    def ask(state):
        return with_rate(state, probes.ask(state.probes), steering.ask)

    def centre(state):
        return with_rate(state, probes.centre(state.probes), steering.centre)

    def tell(state, signals, key):
        probe_key, explore_key, begin_key = jax.random.split(key, 3)
        new, parents = probes.tell(state.probes, signals, probe_key)
        best = jnp.where(signals.improved, state.probes.position, state.best)

        route = new.rule.route
        back = (route == Route.BEST) & (new.moves > state.probes.moves)
        near = explore(box, explore_key, best[None], _FACTOR, 0.0)[0]
        again = probes.init({**new.base, **box.decode(near)}, begin_key)
        again = again._replace(rule=again.rule._replace(route=route))
        new = select(back, again, new)
        parents = jnp.where(back, lanes, parents).astype(jnp.int32)

        steered = names is not None and metric in signals.metrics
        rates = state.trust
        if steered:
            lane = jnp.where(parents[0] < lanes, parents[0], 0)  # that goes on
            told = signals._replace(
                hyperparams={rate: signals.hyperparams[rate][lane][None]},
                metrics={metric: signals.metrics[metric][lane][None]},
            )
            rates, _ = steering.tell(state.trust, told, key)
        return AdaptiveState(new, rates, jnp.bool_(steered), best), parents

    return Tuner(lanes, box.bounds, init, ask, tell, centre)


def routed() -> Rule:
    """Return the rule that asks the scores which rule to follow."""
    rules = (spsa.in_proportion(), momentum.smoothed(), backoff.by_sign())
    sizes = (spsa.STEP_SIZE, momentum.STEP_SIZE, backoff.STEP_SIZE)

    def init(size):
        return RoutedState(
            rules=tuple(rule.init(size) for rule in rules),
            scores=jnp.zeros(HISTORY, jnp.float32),
            count=jnp.int32(0),
            route=jnp.int32(Route.SPSA),
        )

    def step(state, comparison):
        told = [
            rule.step(one, comparison)
            for rule, one in zip(rules, state.rules, strict=True)
        ]
        measured = jnp.isfinite(comparison.score)
        scores = jnp.append(state.scores[1:], comparison.score)
        scores = jnp.where(measured, scores, state.scores)
        count = jnp.minimum(state.count + measured, HISTORY)
        route = choose_route(scores, count)
        steps = [
            size / spsa.STEP_SIZE * each[1]
            for size, each in zip(sizes, told, strict=True)
        ]
        still = jnp.zeros_like(steps[0])  # the run goes back
        return RoutedState(
            tuple(each[0] for each in told), scores, count, route
        ), jnp.stack([*steps, still])[route]

    return Rule(init, step)


def choose_route(scores: jax.Array, count: jax.Array | int) -> jax.Array:
    """Return which rule the last `count` of the scores [N] ask for, [] int32 `Route`.

    Hanging together is an autocorrelation at lag one around a cubic in time that is two
    standard deviations higher than chance leaves it, swinging one that is lower; low is a
    mean of the last ten below the 20th percentile of all. Before 20 scores it is SPSA.
    Of noise without structure 6 % are taken for something else.

    >>> swinging = jnp.array([1.0, -1.0] * 20) + jnp.sin(3.0 * jnp.arange(40) ** 2) / 4
    >>> Route(int(choose_route(swinging, 40))).name
    'BACKOFF'
    """
    test = residual_test(scores, count)
    used = jnp.arange(scores.shape[0]) >= scores.shape[0] - count
    place = jnp.floor(_LOW * (jnp.maximum(count, 1) - 1)).astype(jnp.int32)
    quantile = jnp.sort(jnp.where(used, scores, jnp.inf))[place]
    route = jnp.select(
        [
            jnp.asarray(count) < _FEWEST,
            scores[-_LATEST:].mean() < quantile,
            test.z > _SURE,
            test.z < -_SURE,
        ],
        [jnp.int32(r) for r in (Route.SPSA, Route.BEST, Route.MOMENTUM, Route.BACKOFF)],
        jnp.int32(Route.SPSA),
    )
    return route
