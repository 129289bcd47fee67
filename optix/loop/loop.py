"""The autonomous loop: a run as one pure function of one immutable state.

A round asks the tuner for hyperparameters, trains some windows in every lane, scores
each lane once on whole episodes, keeps the best policy, judges by the scores whether
learning still pays, tells the tuner, and says from which lane each lane goes on. Going
back to the best policy, be it because the scores fall or because something is not
finite, is only one more parent.
"""

from collections.abc import Callable
from numbers import Real

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop.convergence import initial_history
from optix.loop.curve import initial_curve, record
from optix.loop.finish import finisher
from optix.loop.judge import bits, judge, start_afresh, stop_reason
from optix.loop.lanes import fork, freeze, over_lanes
from optix.loop.phases import Thresholds, initial_progress
from optix.loop.transforms import chain
from optix.loop.until_stopped import until_stopped
from optix.trees import all_finite, differs, repeat, saturating_add
from optix.types import (
    MAX_INT32,
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
    dormant_threshold: int = 65,
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
      final_scores: calls of `score` on unseen keys whose mean is reported at the end; as
        many choose between the best and the last policy before.

    Raises:
      ValueError: sizes below one, names that neither learner nor transforms have, parts
        that are something else.
    """
    checks.record("learner", learner, Learner, "bind the agent to an environment")
    checks.record("tuner", tuner, Tuner, "call its factory, as in fixed()")
    if score is not None:
        checks.function("score", score, "it takes (policy, key) and returns a number")
    checks.boolean("rollback", rollback)
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
    checks.record("transforms", transform, Transform, "compose several by chain(...)")
    score = score or learner.evaluate
    defaults = {**learner.hyperparams, **transform.hyperparams}
    checks.known_names("tuned hyperparameter", tuner.bounds, defaults)

    def init(key, hyperparams=None):
        """A fresh run; `hyperparams` overrides defaults, traced."""
        checks.known_names("hyperparameter", hyperparams or {}, defaults)
        given = {**defaults, **(hyperparams or {})}
        return begin(key, {name: _scalar(name, x) for name, x in given.items()})

    @jax.jit  # else `best` would alias `params`
    def begin(key, base):
        run_key, learner_key, tuner_key = jax.random.split(key, 3)
        learner_state = learner.init(learner_key)
        return start(run_key, learner_state, base, tuner_key, default_limits())

    def start(key, learner_state, base, tuner_key, limits):
        policy, rollout, memory = learner_state
        transform_state = transform.init(policy)
        curve, curve_stride = initial_curve()
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
            modulation={name: jnp.ones(lanes, jnp.float32) for name in base},
            tuner=tuner_state,
            best=best,
            history=initial_history(),
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
            base[name] = _scalar(name, value)
        rollout = learner.begin(policy, begin_key)
        learner_state = LearnerState(policy, rollout, state.learner.memory)
        return start(run_key, learner_state, base, tuner_key, state.limits)

    def train(policy, rollout, memory, hyperparams, key, active):
        """The windows of a round in one lane; the last one's trajectory is kept."""

        def window(carry, key):
            learner_state, report = learner.step(carry[0], hyperparams, key, active)
            # a trajectory that no transform looks at is not carried along
            trajectory = report.trajectory if transforms is not None else ()
            return (learner_state, trajectory), report._replace(trajectory=())

        carry = LearnerState(policy, rollout, memory), ()
        if windows_per_round == 1:
            carry, report = window(carry, key)
        else:
            if transforms is not None:  # the scan wants to know a trajectory's shapes
                shapes = jax.eval_shape(window, carry, key)[0][1]
                unseen = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
                carry = carry[0], unseen
            keys = jax.random.split(key, windows_per_round)
            carry, reports = jax.lax.scan(window, carry, keys)
            report = Report(
                env_steps=reports.env_steps.sum(),
                finite=reports.finite.all(),
                metrics=jax.tree.map(lambda x: x.mean(0), reports.metrics),
            )
        learner_state, trajectory = carry
        return *learner_state, report._replace(trajectory=trajectory)

    def transformed(lane, report, signals, score, hyperparams):
        """The transforms' work on one lane, which sees its own score."""
        own = signals._replace(score=score, hyperparams=hyperparams)
        policy, rollout, transform_state = lane
        return transform.update(transform_state, policy, rollout, report, own)

    def step(state):
        """One round."""
        round_key = jax.random.fold_in(state.key, state.round)
        train_key, score_key, tell_key, begin_key = jax.random.split(round_key, 4)
        # train every lane and score it
        hyperparams = _modulate(tuner.ask(state.tuner), state.modulation, tuner.bounds)
        policies, rollouts, memory, reports = over_lanes(
            lanes, train, (0, 0, None, 0, None, None), (0, 0, None, 0)
        )(*state.learner, hyperparams, train_key, state.active)
        scores = over_lanes(lanes, score, (0, None), 0)(policies, score_key)
        scores = scores.astype(jnp.float32)
        sound = reports.finite & jnp.isfinite(scores)
        sound &= jax.vmap(all_finite)(policies)
        scores = jnp.where(sound, scores, -jnp.inf)

        # what the scores mean
        centre = tuner.centre(state.tuner)
        judged = judge(state, policies, scores, centre, thresholds, rollback)
        signals = Signals(
            score=scores,
            round=state.round,
            phase=judged.progress.phase,
            verdict=judged.assessment.verdict,
            gain_limit=judged.assessment.gain_limit,
            autocorrelation=judged.assessment.autocorrelation,
            improved=(judged.events & Event.IMPROVEMENT) > 0,
            hyperparams=hyperparams,
            key=jax.random.fold_in(round_key, MAX_INT32),  # none of the four above
        )

        # from where each lane goes on: the last row of the pool is the best policy
        tuner_state, parents = tuner.tell(state.tuner, signals, tell_key)
        usable = jnp.append(sound, True)[parents] & ~judged.rollback
        parents = jnp.where(usable, parents, lanes)
        best = judged.best
        fresh = learner.begin(best.policy, begin_key)
        forked = fork(
            parents,
            (policies, rollouts, state.transforms),
            (best.policy, fresh, best.transforms),
        )
        after = over_lanes(lanes, transformed, (0, 0, None, 0, 0), (0, 0, 0, 0))(
            forked, reports, signals, scores, hyperparams
        )
        transform_states, policies, rollouts, factors = after
        checks.known_names("modulated hyperparameter", factors, defaults)
        restructured = differs(forked[0].structure, policies.structure)
        judged = start_afresh(judged, judged.rollback | restructured)

        # whether the run goes on
        # a count beyond 32 bits stays at its end, so that the budget ends the run
        env_steps = saturating_add(state.env_steps, reports.env_steps.sum())
        reason = stop_reason(state, judged, env_steps, max_non_finite)
        stopped = reason != StopReason.RUNNING
        phase = jnp.where(stopped, Phase.STOPPED, judged.progress.phase)
        curve = record(state.curve, state.curve_stride, state.round, judged.score)
        new = LoopState(
            key=state.key,
            learner=LearnerState(policies, rollouts),
            transforms=transform_states,
            modulation={
                name: jnp.float32(factors.get(name, jnp.ones(lanes)))
                for name in defaults
            },
            tuner=tuner_state,
            best=best,
            history=judged.history,
            curve=curve[0],
            curve_stride=curve[1],
            limits=state.limits,
            round=state.round + 1,
            env_steps=env_steps,
            progress=judged.progress._replace(phase=phase),
            stop_reason=reason,
            non_finite=judged.non_finite,
        )
        new_centre = tuner.centre(tuner_state)
        events = judged.events | bits(
            (differs(centre, new_centre), Event.HYPERPARAMS),
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
            best_score=best.score,
            hyperparams=hyperparams,
            centre=new_centre,
            phase=phase,
            verdict=judged.assessment.verdict,
            events=jnp.where(state.active, events, 0),
            stop_reason=reason,
            metrics=jax.tree.map(jnp.mean, reports.metrics),
        )
        return freeze(state, new, memory), report

    finish = finisher(score, tuner, final_scores)
    rounds = until_stopped(lambda state: step(state)[0])

    return Loop(
        init=init,
        step=step,
        run=lambda state: finish(rounds(state)),
        finish=finish,
        restart=restart,
        learner=learner,
        tuner=tuner,
    )


def _scalar(name, value):
    """A hyperparameter of one seed, which may be traced."""
    number = isinstance(value, Real) or getattr(value, "shape", None) == ()
    if not number or jnp.issubdtype(jnp.result_type(value), jnp.bool_):
        raise checks.OptionError(
            f"{name} must be one number in each seed, got {value!r}; vmap init over "
            "seeds that differ"
        )
    # an integer of Python may be beyond 64 bits
    return jnp.asarray(float(value) if isinstance(value, Real) else value, jnp.float32)


def _modulate(asked, modulation, bounds):
    """Multiply what the tuner asked by the transforms' factors, within bounds."""
    hyperparams = {}
    for name, value in asked.items():
        value = jnp.float32(value * modulation[name])
        if name in bounds:
            value = jnp.clip(value, *bounds[name])
        hyperparams[name] = value
    return hyperparams


def _limits(max_rounds, max_env_steps, target_score) -> Callable[[], Limits]:
    checks.positive_int("max_rounds", max_rounds)
    if max_env_steps is None:
        max_env_steps = MAX_INT32
    checks.positive_int("max_env_steps", max_env_steps)
    infinity = float("inf")
    target = infinity if target_score is None else target_score
    checks.within("target_score", target, -infinity, infinity)
    return lambda: Limits(
        jnp.int32(max_rounds), jnp.int32(max_env_steps), jnp.float32(target)
    )
