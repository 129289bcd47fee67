"""How often does a stopping rule stop too early, and how late does it stop?

    python -m tests.benchmarks.stopping

200 curves of each kind, in units of the noise's standard deviation, with one score a
round for 1500 rounds, judged after every round. A stop is false if the curve would have
gained more than one standard deviation in the 300 rounds that follow. It takes about a
minute.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from optix.loop.convergence import assess, initial_history, push
from optix.loop.phases import Thresholds, advance, initial_progress
from optix.trees import select
from optix.types import Phase
from tests.noise import autoregressive

RUNS, ROUNDS, HORIZON = 200, 1500, 300
COEFFICIENTS = (0.0, 0.5, 0.8)


def ramp(time, start):
    """A rise by 10 within 60 rounds."""
    return np.clip((time - start) / 6, 0, 10)


CURVES = {
    "saturating": lambda t: 20 * (1 - np.exp(-t / 100)),
    "line .01": lambda t: 0.01 * t,
    "line .05": lambda t: 0.05 * t,
    "pause of 100": lambda t: ramp(t, 0) + ramp(t, 160),
    "late, 150": lambda t: ramp(t, 150),
    "late, 300": lambda t: ramp(t, 300),
    "plateau": lambda t: 0.0 * t,
}


def first_stop(step: Callable, start) -> Callable:
    """Run `step(state, score, index) -> (state, stop)`; the round of the first stop."""

    def run(scores):
        def body(state, inputs):
            return step(state, *inputs)

        stops = jax.lax.scan(body, start, (scores, jnp.arange(ROUNDS)))[1]
        return jnp.where(stops.any(), jnp.argmax(stops), ROUNDS)

    return jax.jit(jax.vmap(run))


def optix_rule(thresholds: Thresholds) -> Callable:
    """Optix as in the loop: DORMANT stops, a rollback starts the history afresh."""

    def step(state, score, index):
        history, progress, best = state
        history, best = push(history, score), jnp.maximum(best, score)
        found = assess(history, best)
        progress, _, rollback = advance(
            *(progress, found.verdict, index + 1, thresholds), settled=found.settled
        )
        history = select(rollback, initial_history(), history)
        progress = select(rollback, initial_progress(), progress)
        return (history, progress, best), progress.phase == Phase.DORMANT

    return first_stop(step, (initial_history(), initial_progress(), -jnp.inf))


def patience_rule(patience: int) -> Callable:
    """No new best mean of five scores for `patience` rounds."""

    def step(state, score, index):
        latest, best, since = state
        latest = jnp.roll(latest, -1).at[-1].set(score)
        smooth = jnp.where(index >= 4, latest.mean(), -jnp.inf)
        since = jnp.where((smooth > best) | (index < 4), 0, since + 1)
        return (latest, jnp.maximum(best, smooth), since), since >= patience

    return first_stop(step, (jnp.zeros(5), -jnp.inf, jnp.int32(0)))


def tensor_optix_rule() -> Callable:
    """The scheduler of tensor-optix 1.16: 20 stagnant evaluations, ever further apart.

    An evaluation improves if the slope of the last 8 scores exceeds an eighth of twice
    the standard deviation of the last 20, capped at half the best. An improving score
    enters the window twice.
    """
    window, trend = 20, 8

    def append(scores, size, score):
        return jnp.roll(scores, -1).at[-1].set(score), jnp.minimum(size + 1, window)

    def evaluate(state, score):
        scores, size, best, stagnant, interval = state
        scores, size = append(scores, size, score)
        used = jnp.arange(window) >= window - size
        sd = jnp.std(scores, where=used)
        cap = jnp.where(jnp.abs(best) > 1e-8, 0.5 * jnp.abs(best), jnp.inf)
        floor = jnp.where(size < 5, 1e-4, jnp.maximum(jnp.minimum(2 * sd, cap), 1e-4))
        recent = jnp.arange(window) >= window - jnp.minimum(size, trend)
        time = jnp.arange(window) - jnp.mean(jnp.arange(window), where=recent)
        time = jnp.where(recent, time, 0.0)
        slope = jnp.sum(time * scores) / jnp.maximum(jnp.sum(time**2), 0.5)
        first = jnp.isnan(best)
        improving = jnp.where(
            size < 3, first | (score > best + floor), slope > floor / trend
        )
        again, larger = append(scores, size, score)
        new_best = jnp.where(first | (larger >= 5), score, best)
        return (
            jnp.where(improving, again, scores),
            jnp.where(improving, larger, size),
            jnp.where(improving, new_best, best),
            jnp.where(improving, 0, stagnant + 1),
            jnp.where(improving, 1, jnp.minimum(2 * interval, 100)),
        )

    def step(state, score, index):
        state = select(index % state[-1] == 0, evaluate(state, score), state)
        return state, state[3] >= 20

    zero = jnp.int32(0)
    return first_stop(step, (jnp.zeros(window), zero, jnp.nan, zero, jnp.int32(1)))


RULES = {
    "optix, defaults": lambda: optix_rule(Thresholds()),
    "optix, dormant 40": lambda: optix_rule(Thresholds(dormant=40)),
    "optix, dormant 20, min_rounds 60": lambda: optix_rule(
        Thresholds(dormant=20, min_rounds=60)
    ),
    "patience 20": lambda: patience_rule(20),
    "patience 100": lambda: patience_rule(100),
    "tensor-optix 1.16": tensor_optix_rule,
}


def onset(curve: Callable) -> int:
    """The first round from which on the next 300 gain at most one."""
    values = curve(np.arange(ROUNDS + HORIZON, dtype=float))
    ahead = np.lib.stride_tricks.sliding_window_view(values, HORIZON + 1)
    gaining = np.nonzero(ahead.max(1) - ahead[:, 0] > 1)[0]
    return min(int(gaining[-1]) + 1, ROUNDS) if len(gaining) else 0


def median_delay(stops: np.ndarray, last: int) -> str:
    """The median over the curves that were not stopped too early."""
    late = stops[stops >= last]
    if not late.size:
        return "-"
    median = np.median(late)
    return f"> {ROUNDS - last}" if median >= ROUNDS else f"{median - last:.0f}"


def percent(share: float) -> str:
    """The share as a percentage without a sign."""
    return f"{100 * share:.1f}".rstrip("0").rstrip(".")


def table() -> str:
    """Measure all rules on all curves."""
    rng = np.random.default_rng(0)
    time = np.arange(ROUNDS, dtype=float)
    scores = {
        (name, coefficient): jnp.asarray(
            100 + curve(time) + autoregressive(rng, RUNS, ROUNDS, coefficient),
            jnp.float32,
        )
        for name, curve in CURVES.items()
        for coefficient in COEFFICIENTS
    }
    false_stops = [name for name in CURVES if name != "plateau"]
    titles = ["rule", *false_stops, "delay on a plateau", "delay after saturating"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for rule, make in RULES.items():
        compiled = make()
        stops = {case: np.asarray(compiled(curves)) for case, curves in scores.items()}

        def early(name, stops=stops):
            last = onset(CURVES[name])
            shares = [np.mean(stops[name, c] < last) for c in COEFFICIENTS]
            return " / ".join(map(percent, shares))

        def delay(name, stops=stops):
            last = onset(CURVES[name])
            return " / ".join(median_delay(stops[name, c], last) for c in COEFFICIENTS)

        cells = [rule, *map(early, false_stops), delay("plateau"), delay("saturating")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(
        f"False stops in per cent of {RUNS} curves, and the median delay in rounds "
        "after the true plateau, at noise of autocorrelation 0 / .5 / .8. Lines rise "
        "by so many standard deviations a round and never end. A late bloomer is flat "
        "for so many rounds before it rises. The saturating curves end at round "
        f"{onset(CURVES['saturating'])}.\n"
    )
    print(table())
