"""The autonomous loop: a run as one pure function of one immutable state.

A round asks the tuner for hyperparameters, trains some windows in every lane, scores
each lane once on whole episodes, keeps the best policy, judges by the scores whether
learning still pays, tells the tuner, and says from which lane each lane goes on. Going
back to the best policy, be it because the scores fall or because something is not
finite, is only one more parent.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop.convergence import Assessment, assess, empty_history, push, recent_mean
from optix.loop.curve import empty_curve, record
from optix.loop.phases import Thresholds, advance, initial_progress
from optix.loop.transforms import chain
from optix.loop.until_stopped import until_stopped
from optix.trees import all_finite, differs, repeat, select, take
from optix.types import (
    LANE_AXIS,
    Best,
    Event,
    Learner,
    LearnerState,
    Limits,
    Loop,
    LoopState,
    Phase,
    Report,
    Signals,
    StepReport,
    StopReason,
    Transform,
    Tuner,
)

MAX_INT32 = 2**31 - 1
TARGET_ROUNDS = 3  # a target is reached by the mean of so many rounds, not by one


def loop(
    learner: Learner,
    tuner: Tuner,
    *,
    transforms: Transform | None = None,
    score: Callable | None = None,
    windows_per_round: int = 1,
    max_rounds: int = 500,
    max_env_steps: int | None = None,
    target_score: float | None = None,
    plateau_threshold: int = 5,
    dormant_threshold: int = 60,
    min_rounds_before_dormant: int = 100,
    rollback: bool = True,
    max_non_finite: int = 5,
    final_scores: int = 8,
) -> Loop:
    """Return the autonomous loop around a learner.

    Args:
      learner: collects, learns and scores.
      tuner: chooses hyperparameters; `optix.tuners.fixed()` leaves them alone.
      transforms: pure callbacks on policy and rollout, composed by `chain`.
      score: `(policy, key) -> []`, a validation environment or any function, in place of
        `learner.evaluate`; it alone then decides on best, rollback and convergence.
      windows_per_round: windows between two scores.
      max_rounds: default budget; the state's limits are traced and may differ by seed.
      max_env_steps: default budget of environment steps over all lanes.
      target_score: default score at which a run is done.
      plateau_threshold: rounds without an improving verdict until COOLING.
      dormant_threshold: flat verdicts until DORMANT; smaller stops sooner and more
        often falsely.
      min_rounds_before_dormant: rounds before which no run goes dormant.
      rollback: go back to the best policy when the scores fall consistently.
      max_non_finite: non-finite rounds in a row that end the run.
      final_scores: calls of `score` on unseen keys whose mean is reported at the end.

    Raises:
      ValueError: sizes below one, names that neither learner nor transforms have.
    """
    thresholds = Thresholds(
        plateau=checks.positive_int("plateau_threshold", plateau_threshold),
        dormant=checks.positive_int("dormant_threshold", dormant_threshold),
        min_rounds=checks.positive_int(
            "min_rounds_before_dormant", min_rounds_before_dormant, 0
        ),
    )
    checks.positive_int("windows_per_round", windows_per_round)
    checks.positive_int("max_non_finite", max_non_finite)
    checks.positive_int("final_scores", final_scores)
    default_limits = _limits(max_rounds, max_env_steps, target_score)
    lanes = tuner.lanes
    transform = chain() if transforms is None else transforms
    score = score or learner.evaluate
    defaults = {**learner.hyperparams, **transform.hyperparams}
    checks.known_names("tuned hyperparameter", tuner.bounds, defaults)

    def init(key, hyperparams=None):
        """A fresh run; `hyperparams` overrides defaults, traced."""
        checks.known_names("hyperparameter", hyperparams or {}, defaults)
        run_key, learner_key, tuner_key = jax.random.split(key, 3)
        base = {
            name: jnp.asarray(value, jnp.float32)
            for name, value in {**defaults, **(hyperparams or {})}.items()
        }
        learner_state = learner.init(learner_key)
        return start(run_key, learner_state, base, tuner_key, default_limits())

    def start(key, learner_state, base, tuner_key, limits):
        policy, rollout, memory = learner_state
        transform_state = transform.init(policy)
        curve, curve_stride = empty_curve()
        tuner_state = tuner.init(base, tuner_key)
        best = Best(
            policy,
            transform_state,
            tuner.centre(tuner_state),
            jnp.float32(-jnp.inf),
            jnp.int32(0),
        )
        return LoopState(
            key=key,
            learner=LearnerState(repeat(policy, lanes), repeat(rollout, lanes), memory),
            transforms=repeat(transform_state, lanes),
            modulation={name: jnp.ones(lanes) for name in base},
            tuner=tuner_state,
            best=best,
            history=empty_history(),
            curve=curve,
            curve_stride=curve_stride,
            limits=limits,
            round=jnp.int32(0),
            env_steps=jnp.int32(0),
            progress=initial_progress(),
            stop_reason=jnp.int32(StopReason.RUNNING),
            non_finite=jnp.int32(0),
        )

    def restart(state, policy, hyperparams, key):
        """A new run from a policy, with the limits and the memory of `state`."""
        checks.known_names("hyperparameter", hyperparams or {}, defaults)
        run_key, begin_key, tuner_key = jax.random.split(key, 3)
        base = {name: state.best.hyperparams[name] for name in defaults}
        for name, value in (hyperparams or {}).items():
            base[name] = jnp.asarray(value, jnp.float32)
        rollout = learner.begin(policy, begin_key)
        learner_state = LearnerState(policy, rollout, state.learner.memory)
        return start(run_key, learner_state, base, tuner_key, state.limits)

    def train(learner_state, hyperparams, key, active):
        """The windows of a round in one lane."""

        def window(carry, key):
            learner_state, _ = carry
            learner_state, report = learner.step(
                learner_state, hyperparams, key, active
            )
            # only the last trajectory is kept, and only if a transform looks at it
            trajectory = report.trajectory if transforms is not None else ()
            return (learner_state, trajectory), report._replace(trajectory=())

        if windows_per_round == 1:
            (learner_state, trajectory), report = window((learner_state, ()), key)
            return learner_state, report._replace(trajectory=trajectory)
        keys = jax.random.split(key, windows_per_round)
        shape = jax.eval_shape(window, (learner_state, ()), key)[0][1]
        trajectory = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
        (learner_state, trajectory), reports = jax.lax.scan(
            window, (learner_state, trajectory), keys
        )
        report = Report(
            env_steps=reports.env_steps.sum(),
            finite=reports.finite.all(),
            metrics=jax.tree.map(lambda x: x.mean(0), reports.metrics),
            trajectory=trajectory,
        )
        return learner_state, report

    def step(state):
        """One round."""
        train_key, score_key, tell_key, begin_key = jax.random.split(
            jax.random.fold_in(state.key, state.round), 4
        )
        asked = tuner.ask(state.tuner)
        hyperparams = _modulate(asked, state.modulation, tuner.bounds)
        shared = LearnerState(0, 0, None)  # memory has no lane axis
        learner_state, reports = _over_lanes(
            lanes, train, (shared, 0, None, None), (shared, 0)
        )(state.learner, hyperparams, train_key, state.active)
        scores = _over_lanes(lanes, score, (0, None), 0)(
            learner_state.policy, score_key
        )

        sound = reports.finite & jnp.isfinite(scores)
        sound &= jax.vmap(all_finite)(learner_state.policy)
        scores = jnp.where(sound, scores, -jnp.inf)
        judged = _judge(state, learner_state, scores, tuner, thresholds, rollback)

        signals = Signals(
            score=scores,
            round=state.round,
            phase=judged.progress.phase,
            verdict=judged.assessment.verdict,
            gain_limit=judged.assessment.gain_limit,
            autocorrelation=judged.assessment.autocorrelation,
            improved=judged.best.round == state.round,
            hyperparams=hyperparams,
        )
        tuner_state, parents = tuner.tell(state.tuner, signals, tell_key)
        parents = jnp.where(parents < lanes, parents, lanes)
        usable = jnp.append(sound, True)[parents] & ~judged.rollback
        parents = jnp.where(usable, parents, lanes)

        # where every lane goes on; the last row of the pool is the best policy
        fresh = learner.begin(judged.best.policy, begin_key)
        policies, rollouts, transform_states = _fork(
            parents,
            (learner_state.policy, learner_state.rollout, state.transforms),
            (judged.best.policy, fresh, judged.best.transforms),
        )
        after = jax.vmap(
            transform.update, in_axes=(0, 0, 0, 0, _signal_axes(signals))
        )(transform_states, policies, rollouts, reports, signals)
        transform_states, new_policies, rollouts, factors = after
        checks.known_names("modulated hyperparameter", factors, defaults)
        modulation = {name: jnp.ones(lanes) for name in defaults} | factors
        restructured = differs(policies.structure, new_policies.structure)

        fresh_start = judged.rollback | restructured
        history = select(fresh_start, empty_history(), judged.history)
        progress = select(fresh_start, initial_progress(), judged.progress)
        env_steps = state.env_steps + reports.env_steps.sum()
        non_finite = jnp.where(sound.any(), 0, state.non_finite + 1)
        stop_reason = _stop_reason(
            state, judged, env_steps, non_finite >= max_non_finite
        )
        stopped = stop_reason != StopReason.RUNNING
        progress = progress._replace(
            phase=jnp.where(stopped, Phase.STOPPED, progress.phase)
        )
        curve, curve_stride = record(
            state.curve, state.curve_stride, state.round, judged.score
        )
        new = state._replace(
            learner=LearnerState(new_policies, rollouts, ()),
            transforms=transform_states,
            modulation=modulation,
            tuner=tuner_state,
            best=judged.best,
            history=history,
            curve=curve,
            curve_stride=curve_stride,
            round=state.round + 1,
            env_steps=env_steps,
            progress=progress,
            stop_reason=stop_reason,
            non_finite=non_finite,
        )
        new = _freeze(state, new, learner_state.memory)
        centre = tuner.centre(tuner_state)
        events = judged.events | _bits(
            (differs(centre, tuner.centre(state.tuner)), Event.HYPERPARAMS),
            ((parents == lanes).any(), Event.ROLLBACK),
            (~sound.all(), Event.NON_FINITE),
            (restructured, Event.STRUCTURE),
            (stopped, Event.STOPPED),
        )
        report = StepReport(
            round=state.round,
            env_steps=env_steps,
            score=judged.score,
            lane_scores=scores,
            best_score=judged.best.score,
            hyperparams=hyperparams,
            centre=centre,
            phase=progress.phase,
            verdict=judged.assessment.verdict,
            events=jnp.where(state.active, events, 0),
            stop_reason=stop_reason,
            metrics=jax.tree.map(jnp.mean, reports.metrics),
        )
        return new, report

    def finish(state):
        """Score the best policy on keys that no choice has seen."""
        key = jax.random.fold_in(state.key, MAX_INT32)  # no round has this number
        keys = jax.random.split(key, final_scores)
        final = jax.vmap(score, in_axes=(None, 0))(state.best.policy, keys).mean()
        # a run that never had a finite score has nothing to score now
        final = jnp.where(jnp.isfinite(state.best.score), final, state.best.score)
        return state._replace(best=state.best._replace(score=final))

    rounds = until_stopped(lambda state: step(state)[0])

    return Loop(
        init=jax.jit(init),  # not jitted, `best` would alias `params`
        step=step,
        run=lambda state: finish(rounds(state)),
        finish=finish,
        restart=restart,
        learner=learner,
        tuner=tuner,
    )


class _Judgement(NamedTuple):
    """What the scores of a round mean."""

    score: jax.Array  # [] float32 mean over the sound lanes, NaN if there is none
    best: Best
    history: jax.Array
    assessment: Assessment
    progress: jax.Array
    events: jax.Array
    rollback: jax.Array  # [] bool: every lane goes back to the best


def _judge(state, learner_state, scores, tuner, thresholds, rollback) -> _Judgement:
    """Keep the best policy, judge the history and move the phase."""
    sound = jnp.isfinite(scores)
    mean = jnp.where(sound, scores, 0.0).sum() / sound.sum()  # NaN without any
    leader = jnp.argmax(scores)
    # of equals the newer is kept: a lucky early policy should not stand for ever
    better = sound.any() & (scores[leader] >= state.best.score)
    candidate = Best(
        take(learner_state.policy, leader),
        take(state.transforms, leader),
        tuner.centre(state.tuner),
        scores[leader],
        state.round,
    )
    best = select(better, candidate, state.best)
    history = select(sound.any(), push(state.history, mean), state.history)
    assessment = assess(history, best.score)
    progress, events, fall = advance(
        state.progress, assessment.verdict, state.round, thresholds
    )
    improved = sound.any() & (scores[leader] > state.best.score)
    events |= _bits((improved, Event.IMPROVEMENT))
    fall = fall & rollback & jnp.isfinite(best.score)
    return _Judgement(mean, best, history, assessment, progress, events, fall)


def _stop_reason(state, judged, env_steps, non_finite):
    limits = state.limits
    reached = recent_mean(judged.history, TARGET_ROUNDS) >= limits.target_score
    reasons = [  # the first that holds
        (non_finite, StopReason.NON_FINITE),
        (reached, StopReason.TARGET_REACHED),
        (judged.progress.phase == Phase.DORMANT, StopReason.CONVERGED),
        (env_steps >= limits.max_env_steps, StopReason.MAX_ENV_STEPS),
        (state.round + 1 >= limits.max_rounds, StopReason.MAX_ROUNDS),
    ]
    return jnp.select(
        [holds for holds, _ in reasons],
        [jnp.int32(reason) for _, reason in reasons],
        jnp.int32(StopReason.RUNNING),
    )


def _over_lanes(lanes, function, in_axes, out_axes):
    """Map a function of one lane over the lanes.

    A single lane is not mapped at all: batched by one, XLA:CPU runs a third slower.
    """
    if lanes > 1:
        return jax.vmap(function, in_axes, out_axes, axis_name=LANE_AXIS)

    def unmapped(axis, tree, change):
        return tree if axis is None else change(tree)

    def single(*args):
        is_none = {"is_leaf": lambda axis: axis is None}
        lane = [
            jax.tree.map(partial(unmapped, change=lambda x: take(x, 0)), *pair, **is_none)
            for pair in zip(in_axes, args, strict=True)
        ]
        change = partial(unmapped, change=lambda x: repeat(x, 1))
        return jax.tree.map(change, out_axes, function(*lane), **is_none)

    return single


def _fork(parents, lanes, best):
    """Return row `parents` of the lanes followed by the best."""
    pool = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), lanes, best)
    return jax.tree.map(lambda x: x[parents], pool)


def _modulate(asked, modulation, bounds):
    """Multiply what the tuner asked by the transforms' factors, within bounds."""
    hyperparams = {}
    for name, value in asked.items():
        value = value * modulation[name]
        if name in bounds:
            value = jnp.clip(value, *bounds[name])
        hyperparams[name] = value
    return hyperparams


def _signal_axes(signals: Signals) -> Signals:
    """Each lane sees its own score and hyperparameters."""
    shared = Signals(*[None] * len(signals))
    return shared._replace(score=0, hyperparams=0)


def _freeze(old: LoopState, new: LoopState, memory) -> LoopState:
    """Keep a stopped run as it was. Its memory the learner has left alone."""
    kept = old._replace(learner=old.learner._replace(memory=()))
    # a key never changes, and a select would only copy it
    frozen = select(old.active, new._replace(key=()), kept._replace(key=()))
    return frozen._replace(key=old.key, learner=frozen.learner._replace(memory=memory))


def _bits(*events) -> jax.Array:
    total = jnp.int32(0)
    for holds, event in events:
        total |= jnp.where(holds, jnp.int32(event), 0)
    return total


def _limits(max_rounds, max_env_steps, target_score) -> Callable[[], Limits]:
    checks.positive_int("max_rounds", max_rounds)
    if max_env_steps is None:
        max_env_steps = MAX_INT32
    checks.positive_int("max_env_steps", max_env_steps)
    for name, value in {"max_rounds": max_rounds, "max_env_steps": max_env_steps}.items():
        if value > MAX_INT32:
            raise ValueError(f"{name} must be at most {MAX_INT32}, got {value}")
    target = float("inf") if target_score is None else float(target_score)
    return lambda: Limits(
        jnp.int32(max_rounds), jnp.int32(max_env_steps), jnp.float32(target)
    )
