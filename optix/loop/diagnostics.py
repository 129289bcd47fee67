"""Diagnostics: what has gone wrong in a round, and a measure against it that passes.

A loss that leaps and a divergence that is too large lower the learning rate, an entropy
that has collapsed raises its bonus, exploration that is over while nothing improves is
raised again. Each is judged by the run's own past, never by the unit of its scores, and
after each measure its factor returns to 1.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.types import (
    ActionSpace,
    Event,
    Hyperparams,
    Numbered,
    Phase,
    Policy,
    Transform,
)

DETECTORS = ("loss", "entropy", "divergence", "exploration")
LOSSES = ("loss", "value_loss", "policy_loss")  # metrics that may spike
RAISED = ("epsilon_end", "exploration_noise")  # hyperparameters of exploration
_WINDOW = 32  # losses that one is compared with
_BEGINNING = 3  # entropies whose mean is that of the run's start
_SIGMA = 1.4826  # standard deviations of a normal distribution in a median deviation
_NEARLY = 0.01  # of a factor's logarithm: what is nearer to 1 is 1


class DiagnosticsState(NamedTuple):
    """What is known of a lane's past, and the measures that are under way."""

    losses: jax.Array  # [len(LOSSES), 32] float32 rings, NaN where nothing yet
    seen: jax.Array  # [len(LOSSES)] int32 losses put into each
    entropy: jax.Array  # [] float32 sum of the first ones
    entropies: jax.Array  # [] int32 of them
    stale: jax.Array  # [] int32 rounds in a row without improvement or exploration
    silent: jax.Array  # [4] int32 rounds before which a detector says nothing more
    calmed: jax.Array  # [] float32 logarithm of what the learning rate is divided by
    varied: jax.Array  # [] float32 logarithm of the factor of the entropy's bonus
    explored: jax.Array  # [] float32 logarithm of the factor of exploration
    events: jax.Array  # [] int32 Event bits of the last round


def diagnostics(
    action_space: ActionSpace | None = None,
    *,
    detectors: Iterable[str] = DETECTORS,
    loss_factor: float | jax.Array = 5.0,
    loss_deviations: float | jax.Array = 8.0,
    entropy_share: float | jax.Array = 0.05,
    entropy_fall: float | jax.Array = 3.0,
    divergence_limit: float | jax.Array = 0.1,
    stale_rounds: int = 40,
    pause: int = 10,
    step: float | jax.Array = 2.0,
    largest: float | jax.Array = 4.0,
    recovery: float | jax.Array = 0.9,
) -> Transform:
    """Return the transform that detects four faults and acts against them.

    A firing is an `Event` of the round: LOSS_SPIKE, ENTROPY_COLLAPSE, DIVERGENCE,
    STALE_EXPLORATION. Its measure multiplies hyperparameters of the next round, within
    the tuner's bounds and unknown to it. A detector whose metric an agent does not report
    is off; a hyperparameter that it does not have is left out, and the event remains.

    Args:
      action_space: of the agent, by which its entropy is read; None leaves the detector
        of entropies off.
      detectors: which to use, of `DETECTORS`.
      loss_factor: a spike is this many times the median of the last 32 losses,
      loss_deviations: and this many of their standard deviations above it, by the median
        deviation. Losses of nothing, before learning starts, do not count.
      entropy_share: of discrete actions, the share of the first entropies below which
        one has collapsed.
      entropy_fall: of a box, whose entropy may be negative: by how many nats an action
        it has collapsed; 3 is a deviation of a twentieth.
      divergence_limit: of the metric "kl", in nats a round.
      stale_rounds: rounds in a row that are COOLING or later, after epsilon has come to
        its end or with noise that never ends, until exploration is raised.
      pause: rounds for which a detector that has fired says nothing more.
      step: the factor of one measure.
      largest: the factor of several.
      recovery: what is left of a factor's logarithm from round to round.

    Raises:
      ValueError: an unknown detector, a number that is out of range.

    >>> from optix.loop.transforms import chain
    >>> from optix.types import Discrete
    >>> chain(diagnostics(Discrete(2)), diagnostics(detectors=["loss"])).hyperparams
    {}
    """
    if action_space is not None and not isinstance(action_space, ActionSpace):
        raise checks.OptionError(
            "action_space must be a Discrete, MultiDiscrete, Box or None, got "
            f"{action_space!r}"
        )
    if isinstance(detectors, str) or not isinstance(detectors, Iterable):
        raise checks.OptionError(f"detectors must be names, got {detectors!r}")
    used = frozenset(detectors)
    checks.known_names("detector", used, DETECTORS)
    infinity = math.inf
    loss_factor = checks.within_or_traced("loss_factor", loss_factor, 1.0, infinity)
    loss_deviations = checks.within_or_traced(
        "loss_deviations", loss_deviations, 0.0, infinity
    )
    entropy_share = checks.within_or_traced("entropy_share", entropy_share, 0.0, 1.0)
    entropy_fall = checks.within_or_traced("entropy_fall", entropy_fall, 0.0, infinity)
    divergence_limit = checks.within_or_traced(
        "divergence_limit", divergence_limit, 0.0, infinity, open_ends=True
    )
    checks.positive_int("stale_rounds", stale_rounds)
    checks.positive_int("pause", pause)
    step = checks.within_or_traced("step", step, 1.0, infinity)
    largest = checks.within_or_traced("largest", largest, 1.0, infinity)
    recovery = checks.within_or_traced("recovery", recovery, 0.0, 1.0)

    def init(policy: Policy) -> DiagnosticsState:
        del policy
        zero, none = jnp.float32(0), jnp.int32(0)
        return DiagnosticsState(
            losses=jnp.full((len(LOSSES), _WINDOW), jnp.nan),
            seen=jnp.zeros(len(LOSSES), jnp.int32),
            entropy=zero,
            entropies=none,
            stale=none,
            silent=jnp.zeros(len(DETECTORS), jnp.int32),
            calmed=zero,
            varied=zero,
            explored=zero,
            events=none,
        )

    def collapsed(mean, now):
        """Whether an entropy has collapsed from the mean of the first ones."""
        if isinstance(action_space, Numbered):
            return now < entropy_share * mean
        size = math.prod(action_space.shape) if action_space else 1
        return mean - now > entropy_fall * size

    def update(state, policy, rollout, report, signals):
        del report
        metrics, hyperparams = signals.metrics, signals.hyperparams
        faults: dict[str, Any] = dict.fromkeys(DETECTORS, jnp.bool_(False))
        if "loss" in used:
            values = jnp.stack(
                [jnp.float32(metrics.get(name, jnp.nan)) for name in LOSSES]
            )
            leaps, losses, seen = jax.vmap(spike, (0, 0, 0, None, None))(
                state.losses, state.seen, values, loss_factor, loss_deviations
            )
            faults["loss"] = leaps.any()
            state = state._replace(losses=losses, seen=seen)
        if "entropy" in used and "entropy" in metrics and action_space is not None:
            now = jnp.float32(metrics["entropy"])
            early = (state.entropies < _BEGINNING) & jnp.isfinite(now)
            state = state._replace(
                entropy=state.entropy + jnp.where(early, now, 0.0),
                entropies=state.entropies + early,
            )
            known = state.entropies == _BEGINNING
            faults["entropy"] = known & collapsed(state.entropy / _BEGINNING, now)
        if "divergence" in used and "kl" in metrics:
            faults["divergence"] = metrics["kl"] > divergence_limit
        if "exploration" in used and any(name in hyperparams for name in RAISED):
            over = signals.phase >= Phase.COOLING
            over &= is_over(policy, hyperparams)
            stale = jnp.where(over, state.stale + 1, 0)
            faults["exploration"] = stale >= stale_rounds
            state = state._replace(stale=stale)

        found: list[jax.Array] = [faults[name] for name in DETECTORS]
        fired = jnp.stack(found) & (state.silent == 0)
        silent = jnp.where(fired, pause, jnp.maximum(state.silent - 1, 0))
        loss, entropy, divergence, exploration = fired

        def level(before, again):
            more = jnp.minimum(before + jnp.log(step), jnp.log(largest))
            less = jnp.where(before * recovery < _NEARLY, 0.0, before * recovery)
            return jnp.where(again, more, less)

        state = state._replace(
            silent=silent,
            calmed=level(state.calmed, loss | divergence),
            varied=level(state.varied, entropy),
            explored=level(state.explored, exploration),
            stale=jnp.where(exploration, 0, state.stale),
            events=jnp.where(fired, jnp.array(_EVENTS), 0).sum().astype(jnp.int32),
        )
        return state, policy, rollout, factors(state, hyperparams)

    return Transform(
        init, update, {}, events=lambda state: state.events, trajectory=False
    )


_EVENTS = tuple(  # of the detectors, in their order
    int(event)
    for event in (
        Event.LOSS_SPIKE,
        Event.ENTROPY_COLLAPSE,
        Event.DIVERGENCE,
        Event.STALE_EXPLORATION,
    )
)


def spike(
    ring: jax.Array,
    seen: jax.Array,
    value: jax.Array,
    factor: float | jax.Array,
    deviations: float | jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return whether a loss leaps above those before, and the ring with it.

    What is not finite, or exactly zero, is no loss.

    Args:
      ring: [32] float32 losses before, NaN where none.
      seen: [] int32 how many there were.
      value: [] float32.
      factor: of the size of their median.
      deviations: standard deviations above it.
    """
    median = jnp.nanmedian(ring)
    deviation = _SIGMA * jnp.nanmedian(jnp.abs(ring - median))
    height = jnp.maximum(deviations * deviation, (factor - 1) * jnp.abs(median))
    known = jnp.isfinite(value) & (value != 0)
    leaps = known & (seen >= _WINDOW // 2) & (value - median > height)
    ring = jnp.where(known, ring.at[seen % _WINDOW].set(value), ring)
    return leaps, ring, seen + known


def is_over(policy: Policy, hyperparams: Hyperparams) -> jax.Array:
    """Return whether exploration has come to its end: epsilon by its schedule, [] bool."""
    steps: Any = getattr(policy.extras, "env_steps", None)
    if steps is None or "epsilon_steps" not in hyperparams:
        return jnp.bool_(True)
    return steps >= hyperparams["epsilon_steps"]


def factors(state: DiagnosticsState, hyperparams: Hyperparams) -> dict[str, jax.Array]:
    """Return {name: [] float32} of the hyperparameters that there are."""
    wanted = {
        "learning_rate": -state.calmed,
        "entropy_coefficient": state.varied,
        **dict.fromkeys(RAISED, state.explored),
    }
    return {name: jnp.exp(x) for name, x in wanted.items() if name in hyperparams}
