"""The autonomous loop: a run as one pure function of one immutable state.

A round asks the tuner for hyperparameters, trains some windows in every lane, scores
each lane once on whole episodes, keeps the best policy, judges by the scores whether
learning still pays, tells the tuner, and says from which lane each lane goes on. Going
back to the best policy, be it because the scores fall or because something is not
finite, is only one more parent.
"""

from collections.abc import Callable, Mapping
from numbers import Real

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop import round as rounds
from optix.loop.convergence import initial_baseline, initial_history
from optix.loop.curve import initial_curve
from optix.loop.finish import finisher
from optix.loop.phases import Thresholds, initial_progress
from optix.loop.transforms import chain
from optix.loop.until_stopped import until_stopped
from optix.trees import repeat, take
from optix.types import (
    MAX_INT32,
    Best,
    Learner,
    LearnerState,
    Limits,
    Loop,
    LoopState,
    Policy,
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
    windows_per_round: int | None = None,
    max_rounds: int = 500,
    max_env_steps: int | None = None,
    target_score: float | None = None,
    plateau_threshold: int = 5,
    dormant_threshold: int = 65,
    min_rounds_before_dormant: int = 100,
    min_rounds_without_signal: int = 300,
    rollback: bool = True,
    max_non_finite: int = 5,
    final_scores: int = 8,
) -> Loop:
    """Return the autonomous loop around a learner.

    Args:
      learner: collects, learns and scores.
      tuner: chooses hyperparameters; `optix.tuners.fixed()` leaves them alone.
      transforms: pure callbacks on policy and rollout, composed by `chain`.
      score: `(policy, hyperparams, key) -> []`, a validation environment or any function,
        in place of `learner.evaluate`; it alone then decides on best, rollback and
        convergence.
      windows_per_round: windows between two scores; None takes the learner's.
      max_rounds: default budget; the state's limits are traced and may differ by seed.
      max_env_steps: default budget of environment steps over all lanes.
      target_score: default score at which a run is done.
      plateau_threshold: flat or degrading verdicts since an improving one until COOLING;
        undecided ones do not count.
      dormant_threshold: flat verdicts until DORMANT; smaller stops sooner and more
        often falsely. Forty scores that are all equal, and the best, count as 65.
      min_rounds_before_dormant: rounds before which no run goes dormant.
      min_rounds_without_signal: the same where the scores have not moved since the first
        rounds; such a run has not converged, and stops for want of a learning signal.
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
        remedy = "it takes (policy, hyperparams, key) and returns a number"
        checks.function("score", score, remedy)
    checks.boolean("rollback", rollback)
    thresholds = Thresholds(
        plateau=checks.positive_int("plateau_threshold", plateau_threshold),
        dormant=checks.positive_int("dormant_threshold", dormant_threshold),
        min_rounds=checks.positive_int(
            "min_rounds_before_dormant", min_rounds_before_dormant, 0
        ),
        min_rounds_without_signal=checks.positive_int(
            "min_rounds_without_signal", min_rounds_without_signal, 0
        ),
    )
    if windows_per_round is None:
        windows_per_round = learner.windows_per_round
    checks.positive_int("windows_per_round", windows_per_round)
    checks.positive_int("max_non_finite", max_non_finite)
    checks.positive_int("final_scores", final_scores)
    default_limits = _limits(max_rounds, max_env_steps, target_score)
    transform = chain() if transforms is None else transforms
    checks.record("transforms", transform, Transform, "compose several by chain(...)")
    defaults = {**learner.hyperparams, **transform.hyperparams}
    checks.known_names("tuned hyperparameter", tuner.bounds, defaults)
    _check_lanes(learner, tuner)
    _check_metrics(learner, tuner)
    parts = rounds.Parts(
        learner=learner,
        tuner=tuner,
        transform=transform,
        score=score or learner.evaluate,
        defaults=defaults,
        thresholds=thresholds,
        windows_per_round=windows_per_round,
        keep_trajectory=transform.trajectory,
        rollback=rollback,
        max_non_finite=max_non_finite,
    )

    def init(key, hyperparams=None):
        base = _overridden(parts.defaults, hyperparams, parts.defaults)
        return begin(key, base)

    @jax.jit  # else `best` would alias `params`
    def begin(key, base):
        return start(parts, default_limits(), key, base)

    def step(state):
        return rounds.step(parts, state)

    finish = finisher(parts.score, tuner, final_scores)
    played = until_stopped(lambda state: step(state)[0])

    return Loop(
        init=init,
        step=step,
        run=lambda state: finish(played(state)),
        finish=finish,
        restart=lambda state, policy, hyperparams, key: restart(
            parts, state, policy, hyperparams, key
        ),
        score=parts.score,
        learner=learner,
        tuner=tuner,
    )


def start(
    parts: rounds.Parts, limits: Limits, key: jax.Array, base: dict[str, jax.Array]
) -> LoopState:
    """Return a fresh run with the hyperparameters `base`."""
    run_key, learner_key, tuner_key = jax.random.split(key, 3)
    lanes, init = parts.tuner.lanes, parts.learner.init
    if parts.tuner.common_random_numbers:
        state = init(learner_key)
        learner_state = LearnerState(
            repeat(state.policy, lanes), repeat(state.rollout, lanes), state.memory
        )
    else:
        # one after another: some initialisers deadlock under vmap
        def one(memory, key):
            state = init(key)
            return state.memory, state._replace(memory=())

        # one memory of all, never one for each lane
        shapes = jax.eval_shape(init, learner_key).memory
        unseen = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        keys = jax.random.split(learner_key, lanes)
        memory, each = jax.lax.scan(one, unseen, keys)
        learner_state = each._replace(memory=memory)
    return _begin(parts, limits, run_key, learner_state, base, tuner_key)


def restart(
    parts: rounds.Parts,
    state: LoopState,
    policy: Policy,
    hyperparams: dict | None,
    key: jax.Array,
) -> LoopState:
    """Return a new run from a policy, with the limits and the memory of `state`."""
    run_key, begin_key, tuner_key = jax.random.split(key, 3)
    base = _overridden(state.best.hyperparams, hyperparams, parts.defaults)
    lanes, begin = parts.tuner.lanes, parts.learner.begin
    if parts.tuner.common_random_numbers:
        rollout = repeat(begin(policy, begin_key), lanes)
    else:
        keys = jax.random.split(begin_key, lanes)
        rollout = jax.lax.map(lambda key: begin(policy, key), keys)
    learner_state = LearnerState(repeat(policy, lanes), rollout, state.learner.memory)
    return _begin(parts, state.limits, run_key, learner_state, base, tuner_key)


def _overridden(base: Mapping, given: Mapping | None, known: Mapping) -> dict:
    """Return {name: [] float32} of `base`, with what is given in its place."""
    checks.known_names("hyperparameter", given or {}, known)
    values = {name: base[name] for name in known} | dict(given or {})
    hyperparams = {}
    for name, value in values.items():
        if isinstance(value, Real) and not isinstance(value, bool):
            value = float(value)  # an integer of Python may be beyond 64 bits
        number = isinstance(value, Real) or getattr(value, "shape", None) == ()
        if not number or jnp.issubdtype(jnp.result_type(value), jnp.bool_):
            raise checks.OptionError(
                f"{name} must be one number in each seed, got {value!r}; vmap init over "
                "seeds that differ"
            )
        hyperparams[name] = jnp.asarray(value, jnp.float32)
    return hyperparams


def _begin(
    parts: rounds.Parts,
    limits: Limits,
    key: jax.Array,
    learner_state: LearnerState,
    base: dict[str, jax.Array],
    tuner_key: jax.Array,
) -> LoopState:
    """Return the state before the first round; policy and rollout have lanes [L]."""
    lanes = parts.tuner.lanes
    transforms = jax.vmap(parts.transform.init)(learner_state.policy)
    curve, curve_stride = initial_curve()
    tuner_state = parts.tuner.init(base, tuner_key)
    best = Best(
        policy=take(learner_state.policy, 0),
        transforms=take(transforms, 0),
        hyperparams=parts.tuner.centre(tuner_state),
        score=jnp.float32(-jnp.inf),
        choice_score=jnp.float32(-jnp.inf),
        round=jnp.int32(0),
    )
    return LoopState(
        key=key,
        learner=learner_state,
        transforms=transforms,
        modulation={name: jnp.ones(lanes, jnp.float32) for name in base},
        tuner=tuner_state,
        best=best,
        history=initial_history(),
        baseline=initial_baseline(),
        curve=curve,
        curve_stride=curve_stride,
        limits=limits,
        round=jnp.int32(0),
        env_steps=jnp.int32(0),
        progress=initial_progress(),
        stop_reason=jnp.int32(StopReason.RUNNING),
        non_finite=jnp.int32(0),
    )


def _check_lanes(learner: Learner, tuner: Tuner) -> None:
    if learner.lanes is not None and learner.lanes != tuner.lanes:
        if learner.host is not None:
            raise checks.OptionError(
                f"the tuner has {tuner.lanes} lanes, but the learner's source of "
                f"experience can serve only {learner.lanes}: it can not be copied; take "
                "fixed(), or another tuner with lanes=1"
            )
        raise checks.OptionError(
            f"the learner must be made for the lanes of the tuner, {tuner.lanes}, but it "
            f"was made for {learner.lanes}; pass lanes={tuner.lanes} to off_policy(...)"
        )
    if tuner.judged is not None and not 1 <= tuner.judged <= tuner.lanes:
        raise checks.OptionError(
            f"judged must be between 1 and the tuner's lanes, {tuner.lanes}, got "
            f"{tuner.judged}"
        )


def _check_metrics(learner: Learner, tuner: Tuner) -> None:
    """Refuse a tuner that the agent does not tell what it needs, where that is known."""
    told = None if learner.agent is None else learner.agent.metrics
    if told is None:
        return
    for name in tuner.metrics:
        if name not in told:
            raise checks.OptionError(
                f"the tuner needs an agent that reports {name!r}, as PPO does, got one "
                f"of {', '.join(told)}; tuner='fixed' suits all, and 'spsa' tunes by "
                "scores alone"
            )


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
