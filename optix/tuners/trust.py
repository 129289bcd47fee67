"""A learning rate that keeps the policy's moves the same size."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.tuners.space import floats
from optix.types import Hyperparams, Tuner

_NEAR = math.log(4.0)  # so far from the target it may be noise, and counts half
TARGET = 0.03  # nats a round
_FIRST = 16  # hits whose mean says where the rate belongs; later ones only lower it
_LEAST = 1e-12  # a divergence below is none


class TrustState(NamedTuple):
    """The rate, and where it belonged when its moves came near the wanted size."""

    base: Hyperparams  # {name: []} all hyperparameters as they came
    log_rate: jax.Array  # [] float32
    log_anchor: jax.Array  # [] float32 of what would have hit; infinity before any
    hits: jax.Array  # [] int32 at most one more than are counted
    held: jax.Array  # [] bool, whether the rate stays as it came


def trust(
    bounds: Mapping[str, tuple[float, float]],
    *,
    target: float | jax.Array = TARGET,
    metric: str = "kl",
    up: float | jax.Array = 8.0,
    down: float | jax.Array = 10.0,
    headroom: float | jax.Array = 3.0,
) -> Tuner:
    """Return a tuner that steers a learning rate by how far each round moves the policy.

    After a round whose divergence from the policy before was too small the rate rises,
    after one that was too large it falls; divergence grows like the square of the rate.
    Nothing is probed: there is one lane, and the signal has no noise of episodes in it.
    The rule is the "adaptive" schedule of rsl_rl and rl_games
    (https://arxiv.org/abs/2109.11978), with steps in proportion to the error.

    A policy that has converged hardly moves at any rate, and one that nears the end moves
    less and less: a rate that made up for it would climb to its bound, and shake what has
    been learned. So the first rounds that come near the target say where later rates
    belong: at most `headroom` times the mean of those that would have hit it.

    Args:
        bounds: {name: (low, high)} of the rate, the only name.
        target: wanted divergence of a round, in nats; may be traced, as the factors.
        metric: the learner's number that tells it; of PPO "kl".
        up: the largest factor of one step up.
        down: the largest factor of one step down: too large a rate does harm.
        headroom: the largest factor above the rates that first would have hit the target.

    Raises:
        ValueError: more names than one, bounds that are not positive or reversed, factors
            below 1; from `init`, a name that the hyperparameters do not have; from
            the loop, an agent that does not report the metric (of DQN, Rainbow, SAC and
            TD3 none does; for them `fixed`, or `spsa` where a rate is not trusted); from
            `tell`, a learner that does not.

    Example:
        >>> tuner = trust({"learning_rate": (1e-5, 1e-1)})
        >>> state = tuner.init({"learning_rate": 1e-3}, jax.random.key(0))
        >>> round(float(tuner.ask(state)["learning_rate"][0]), 5)
        0.001
    """
    bounds = checks.bounds(bounds)
    if not isinstance(metric, str):
        raise checks.OptionError(f"metric must be a name, as 'kl', got {metric!r}")
    if len(bounds) != 1:
        raise checks.OptionError(
            f"bounds must name one learning rate, got {list(bounds)}; the others stay as "
            "they are"
        )
    ((name, (low, high)),) = bounds.items()
    if low <= 0:
        raise checks.OptionError(
            f"bounds of {name!r} must be positive, got {bounds[name]}; raise the lower one"
        )
    target = checks.within_or_traced("target", target, 0.0, math.inf, open_ends=True)
    up, down, headroom = (
        jnp.log(checks.within_or_traced(keyword, factor, 1.0, math.inf))
        for keyword, factor in (("up", up), ("down", down), ("headroom", headroom))
    )
    ends = math.log(low), math.log(high)

    def init(base, key):
        del key
        base = floats(base, bounds)
        log_rate = jnp.clip(jnp.log(base[name]), *ends)
        none = jnp.float32(jnp.inf), jnp.int32(0)
        return TrustState(base, log_rate, *none, jnp.bool_(False))

    def centre(state):
        rate = jnp.clip(jnp.exp(state.log_rate), low, high)
        return {**state.base, name: jnp.where(state.held, state.base[name], rate)}

    def ask(state):
        return {n: value[None] for n, value in centre(state).items()}

    def tell(state, signals, key):
        del key
        if metric not in signals.metrics:
            raise checks.OptionError(
                f"trust needs a learner that reports {metric!r}, as PPO does, got one of "
                f"{', '.join(sorted(signals.metrics)) or 'nothing'}; tuner='fixed' suits "
                "all, and 'spsa' tunes by scores alone"
            )
        divergence = jnp.float32(signals.metrics[metric][0])
        used = jnp.log(signals.hyperparams[name][0])  # with the factors of transforms
        gap = jnp.log(target / jnp.maximum(divergence, _LEAST))  # > 0: too small
        hit = jnp.abs(gap) <= _NEAR
        hits = jnp.minimum(state.hits + hit, _FIRST + 1)
        share = 1 / jnp.float32(jnp.clip(hits, 1, _FIRST))
        there = used + 0.5 * gap  # not the rate itself: on its way up it is too low
        before = jnp.where(jnp.isinf(state.log_anchor), there, state.log_anchor)
        mean = before + share * (there - before)
        mean = jnp.where(hits > _FIRST, jnp.minimum(mean, before), mean)
        anchor = jnp.where(hit, mean, state.log_anchor)
        move = jnp.clip(0.5 * gap - 0.25 * jnp.clip(gap, -_NEAR, _NEAR), -down, up)
        failed = ~jnp.isfinite(divergence)
        log_rate = state.log_rate + jnp.where(failed, -down, move)
        log_rate = jnp.clip(jnp.minimum(log_rate, anchor + headroom), *ends)
        anchor = jnp.where(failed, state.log_anchor, anchor)
        state = TrustState(state.base, log_rate, anchor, hits, state.held)
        return state, jnp.zeros(1, jnp.int32)

    return Tuner(1, bounds, init, ask, tell, centre, metrics=(metric,))
