"""The loop on learners whose course is known."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from jax.experimental import io_callback

from optix.loop.loop import loop
from optix.loop.transforms import chain
from optix.run.programs import with_limits
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import (
    Event,
    Learner,
    LearnerState,
    Limits,
    Phase,
    Policy,
    StopReason,
    Transform,
)
from tests.devices import in_two_devices
from tests.toys import replay_learner, report, scripted_learner, target_learner


def rising(windows, key):
    return windows + 0.1 * jax.random.normal(key)


def run(run_loop, seed=0, **overrides):
    state = run_loop.init(jax.random.key(seed), overrides or None)
    return jit(run_loop.run)(state)


def reports(run_loop, rounds, seed=0):
    """Every report of a run, stacked [rounds]."""
    state = run_loop.init(jax.random.key(seed))

    def body(state, _):
        return run_loop.step(state)

    return jit(lambda s: jax.lax.scan(body, s, length=rounds))(state)


# --- stopping ---------------------------------------------------------------------


def test_rising_scores_end_on_the_budget_of_rounds_with_the_last_policy_best():
    state = run(loop(scripted_learner(rising), fixed(), max_rounds=150))
    assert state.stop_reason == StopReason.MAX_ROUNDS
    assert state.round == 150
    assert state.phase == Phase.STOPPED
    assert state.best.policy.params["windows"] >= 148
    np.testing.assert_allclose(state.best.score, 150, atol=3)


@pytest.mark.parametrize(
    ("best", "last", "kept"),
    [
        (3.0, 8.0, 8.0),  # its score was luck
        (8.0, 3.0, 8.0),
        (8.0, np.nan, 8.0),
        (np.nan, 3.0, 3.0),
        (np.nan, -np.inf, np.nan),  # in doubt the best
    ],
)
def test_at_the_end_the_last_policy_challenges_the_best(best, last, kept):
    keys = []

    def course(value, key):
        io_callback(
            lambda key: keys.append(key.tolist()), None, jax.random.key_data(key)
        )
        return value + 0.1 * jax.random.normal(key)

    run_loop = loop(scripted_learner(course), fixed(), final_scores=5)
    state = run_loop.init(jax.random.key(0))

    def policy(value):
        return state.best.policy._replace(params={"windows": jnp.float32(value)})

    luck = jnp.float32(1e6)
    lucky = state.best._replace(policy=policy(best), score=luck, choice_score=luck)
    lanes = jax.tree.map(lambda x: x[None], policy(last))
    learner = state.learner._replace(policy=lanes)
    end = state._replace(best=lucky, learner=learner, round=jnp.int32(9))
    end = jit(run_loop.finish)(end)
    np.testing.assert_array_equal(end.best.policy.params["windows"], kept)
    assert int(end.best.round) == (8 if kept is last else 0)
    # by the mean of five scores, on keys that have not chosen; without any, the run's
    score = kept if np.isfinite(kept) else 1e6
    np.testing.assert_allclose(end.best.score, score, atol=0.2)
    np.testing.assert_allclose(end.best.choice_score, score, atol=0.2)
    jax.effects_barrier()
    drawn = {tuple(key) for key in keys}
    assert len(keys) == 15 and len(drawn) == 10


def test_a_run_whose_end_had_no_score_may_improve_when_it_goes_on():
    def course(windows, key):
        return jnp.where(windows == 5, jnp.nan, windows)

    run_loop = loop(scripted_learner(course), fixed(), max_rounds=4, final_scores=1)
    state = run(run_loop)
    fifth = state.best.policy._replace(params={"windows": jnp.float32(5)})
    lanes = jax.tree.map(lambda x: x[None], fifth)
    end = state._replace(
        best=state.best._replace(policy=fifth),
        learner=state.learner._replace(policy=lanes),
    )
    end = jit(run_loop.finish)(end)
    assert end.best.score == 4  # that of the run stays
    assert jit(run_loop.run)(with_limits(end, {"max_rounds": 6})).best.score == 7


def test_a_run_that_goes_on_from_its_end_is_scored_on_unseen_keys_again():
    """All policies are worth 0, and each has its own luck on each key."""

    def luck(windows, key):
        return jax.random.normal(jax.random.fold_in(key, windows.astype(jnp.int32)))

    run_loop = loop(scripted_learner(luck), fixed(), max_rounds=5, final_scores=1)

    def twice(key):
        state = run_loop.run(run_loop.init(key))
        return run_loop.run(with_limits(state, {"max_rounds": 6})).best.score

    scores = jit(jax.vmap(twice))(jax.random.split(jax.random.key(0), 2000))
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(2000)


def test_constant_scores_after_a_rise_converge():
    flat = scripted_learner(lambda windows, key: jnp.where(windows > 3, 7.0, 0.0))
    state = run(loop(flat, fixed(), max_rounds=1000))
    assert state.stop_reason == StopReason.CONVERGED
    assert 100 <= state.round < 200
    assert state.best.score == 7


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_scores_that_never_moved_are_no_convergence(noise):
    flat = scripted_learner(lambda _, key: -200.0 + noise * jax.random.normal(key))
    quiet = loop(flat, fixed(), max_rounds=2000, min_rounds_without_signal=150)
    state = run(quiet)
    assert state.stop_reason == StopReason.NO_SIGNAL
    assert 150 <= state.round < 600
    assert "no learning signal" in StopReason(int(state.stop_reason)).describe()


def test_one_final_score_that_is_not_finite_leaves_the_others():
    """A validation that fails on some keys: the mean is of those it does not fail on."""

    def course(windows, key):
        return jnp.where(jax.random.bernoulli(key, 0.3), jnp.nan, windows)

    run_loop = loop(scripted_learner(lambda w, key: w), fixed(), final_scores=32)
    state = run_loop.init(jax.random.key(0))
    for _ in range(3):
        state, _ = run_loop.step(state)
    spoilt = loop(scripted_learner(course), fixed(), final_scores=32)
    assert jit(spoilt.finish)(state).best.score == 3


def test_a_last_policy_of_nan_is_no_challenger():
    """Its action is the first of all, whose score may be finite."""
    learner = scripted_learner(lambda w, key: jnp.where(jnp.isnan(w), 9.0, w))
    run_loop = loop(learner, fixed(), final_scores=2)
    state, _ = run_loop.step(run_loop.init(jax.random.key(0)))
    broken = state.learner.policy._replace(params={"windows": jnp.full(1, jnp.nan)})
    state = state._replace(learner=state.learner._replace(policy=broken))
    best = jit(run_loop.finish)(state).best
    assert best.policy.params["windows"] == 1 and best.score == 1


def test_a_run_on_the_budget_of_environment_steps():
    state = run(loop(scripted_learner(rising), fixed(), max_env_steps=95))
    assert state.stop_reason == StopReason.MAX_ENV_STEPS
    assert state.env_steps == 100


@pytest.mark.parametrize("budget", [None, 2**31 - 2])
def test_a_count_of_steps_beyond_32_bits_stays_and_is_no_budget(budget):
    run_loop = loop(scripted_learner(rising), fixed(), max_env_steps=budget)
    state = run_loop.init(jax.random.key(0))
    state, _ = jit(run_loop.step)(state._replace(env_steps=jnp.int32(2**31 - 5)))
    assert state.env_steps == 2**31 - 1
    ends = StopReason.RUNNING if budget is None else StopReason.MAX_ENV_STEPS
    assert state.stop_reason == ends


def test_the_target_must_hold_for_three_rounds():
    def spike(windows, key):
        return jnp.where(windows == 5, 100.0, windows)

    state = run(loop(scripted_learner(spike), fixed(), target_score=40.0))
    assert state.stop_reason == StopReason.TARGET_REACHED
    assert state.round == 41  # the mean of 39, 40 and 41


def test_limits_are_traced_and_differ_between_seeds():
    run_loop = loop(scripted_learner(rising), fixed())
    states = jax.vmap(run_loop.init)(jax.random.split(jax.random.key(0), 3))
    limits = Limits(
        jnp.array([5, 9, 13]), states.limits.max_env_steps, states.limits.target_score
    )
    states = jit(jax.vmap(run_loop.run))(states._replace(limits=limits))
    assert states.round.tolist() == [5, 9, 13]


def test_a_stopped_state_stays_as_it_is():
    run_loop = loop(replay_learner(100), fixed(), max_rounds=3)
    state = run(run_loop)
    again, _ = jit(run_loop.step)(state)
    chex.assert_trees_all_equal(
        jax.tree.map(as_data, again), jax.tree.map(as_data, state)
    )


def as_data(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


# --- what goes wrong --------------------------------------------------------------


def test_a_collapse_is_rolled_back_to_the_best_policy():
    def collapse(windows, key):
        return jnp.where(windows <= 80, windows, 0.0) + 0.1 * jax.random.normal(key)

    state, history = reports(loop(scripted_learner(collapse), fixed()), 140)
    rolled_back = np.flatnonzero(history.events & Event.ROLLBACK)
    assert rolled_back.size >= 1
    assert 80 < rolled_back[0] < 110
    assert state.best.policy.params["windows"] == 80
    # the window after the rollback is the best policy's next one
    assert state.learner.policy.params["windows"][0] < 80 + 60


def test_without_rollback_a_collapsed_run_goes_on_and_still_offers_the_best():
    def collapse(windows, key):
        return jnp.where(windows <= 80, windows, 0.0) + 0.1 * jax.random.normal(key)

    run_loop = loop(scripted_learner(collapse), fixed(), rollback=False)
    state, history = reports(run_loop, 140)
    assert not np.any(history.events & Event.ROLLBACK)
    assert state.learner.policy.params["windows"][0] == 140
    assert state.best.policy.params["windows"] == 80


@pytest.mark.parametrize("where", ["policy", "score", "report", "data"])
def test_what_is_not_finite_goes_back_to_the_best_and_then_stops(where):
    def step(state, hyperparams, key, active):
        windows = state.policy.params["windows"] + 1
        bad = windows > 5
        value = jnp.where(bad & (where == "policy"), jnp.nan, windows)
        policy = Policy({"windows": value})
        finite = ~(bad & (where in ("report", "data")))
        data_finite = ~(bad & (where == "data"))
        told = report(finite)._replace(data_finite=data_finite)
        return LearnerState(policy, state.rollout), told

    def evaluate(policy, hyperparams, key):
        windows = policy.params["windows"]
        return jnp.where((windows > 5) & (where == "score"), jnp.nan, windows)

    base = scripted_learner(rising)
    learner = base._replace(step=step, evaluate=evaluate)
    run_loop = loop(learner, fixed(), max_rounds=100)
    state = run(run_loop)
    reasons = {"score": StopReason.NON_FINITE_SCORE, "data": StopReason.NON_FINITE_DATA}
    assert state.stop_reason == reasons.get(where, StopReason.NON_FINITE)
    assert state.round == 10
    assert state.best.score == 5
    assert state.best.policy.params["windows"] == 5
    chex.assert_tree_all_finite(state.learner)
    _, history = reports(run_loop, 10)
    assert (history.events[5:] & Event.ROLLBACK).all()
    assert (history.events[5:] & Event.NON_FINITE).all()


def test_a_run_that_never_is_finite_reports_no_score():
    bad = scripted_learner(lambda windows, key: jnp.float32(jnp.nan))
    state = run(loop(bad, fixed(), max_rounds=100))
    assert state.stop_reason == StopReason.NON_FINITE_SCORE
    assert state.best.score == -jnp.inf


# --- jit, vmap, scan, devices -----------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 2])
def test_vmapped_seeds_equal_single_runs(lanes):
    tuner = fixed() if lanes == 1 else spsa({"rate": (0.01, 0.1)})
    run_loop = loop(replay_learner(500, lanes), tuner, max_rounds=12)
    keys = jax.random.split(jax.random.key(1), 5)
    whole_run = lambda key: run_loop.run(run_loop.init(key))  # noqa: E731
    together = jit(jax.vmap(whole_run))(keys)
    run_alone = jit(whole_run)
    for i in range(5):
        alone = run_alone(keys[i])
        row = jax.tree.map(lambda x, i=i: x[i], together)
        chex.assert_trees_all_close(
            jax.tree.map(as_data, alone),
            jax.tree.map(as_data, row),
            rtol=2e-4,
            atol=1e-5,
        )


def test_nested_vmap_over_seeds_and_rates():
    run_loop = loop(replay_learner(200), fixed(), max_rounds=15)
    keys = jax.random.split(jax.random.key(0), 3)
    rates = jnp.array([0.001, 0.05])

    def one(key, rate):
        return run_loop.run(run_loop.init(key, {"rate": rate}))

    grid = jit(jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None)))(
        keys, rates
    )
    assert grid.best.score.shape == (3, 2)
    assert (grid.best.score[:, 1] > grid.best.score[:, 0]).all()
    np.testing.assert_allclose(
        grid.best.score[1, 1], jit(one)(keys[1], rates[1]).best.score, rtol=1e-3
    )


def test_step_is_traced_once_whatever_the_floats():
    run_loop = loop(replay_learner(200), fixed())
    step = jit(chex.assert_max_traces(run_loop.step, n=1))
    for rate in (0.01, 0.02, 0.03):
        state = run_loop.init(jax.random.key(0), {"rate": jnp.float32(rate)})
        limits = state.limits._replace(target_score=jnp.float32(rate))
        state, _ = step(state._replace(limits=limits))
        step(state)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_large_replay_is_never_copied(lanes, seeds):
    rows = 1_000_000
    tuner = fixed() if lanes == 1 else spsa({"rate": (0.01, 0.1)})
    run_loop = loop(
        replay_learner(rows, lanes), tuner, max_rounds=5, windows_per_round=2
    )
    keys = jax.random.split(jax.random.key(0), seeds)
    states = jax.eval_shape(jax.vmap(run_loop.init), keys)
    compiled = jax.jit(jax.vmap(run_loop.run), donate_argnums=0).lower(states).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 0.1 * seeds * rows * 16 * 4


def test_two_devices_equal_one():
    script = """
        import jax, jax.numpy as jnp, numpy as np
        from optix.loop.loop import loop
        from optix.tuners.spsa import spsa
        from tests.toys import replay_learner
        assert jax.local_device_count() == 2
        run_loop = loop(
            replay_learner(200, lanes=2), spsa({"rate": (0.01, 0.1)}), max_rounds=9
        )
        run = lambda key: run_loop.run(run_loop.init(key))
        keys = jax.random.split(jax.random.key(0), 6)
        keys = keys.reshape(2, 3)
        one = jax.lax.map(jax.vmap(run), keys)
        two = jax.pmap(jax.vmap(run))(keys)
        pairs = zip(jax.tree.leaves(one._replace(key=0)),
                    jax.tree.leaves(two._replace(key=0)), strict=True)
        for a, b in pairs:
            a, b = np.asarray(a), np.asarray(b)
            np.testing.assert_array_equal(a, b)
        print("equal")
    """
    out = in_two_devices(script)
    assert "equal" in out


def test_a_host_callback_runs_in_a_vmapped_run_and_only_while_active():
    calls = []

    def host(windows, active):
        calls.append((float(windows), bool(active)))
        return np.float32(windows + 1)

    def step(state, hyperparams, key, active):
        windows = state.policy.params["windows"]
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        windows = io_callback(host, shape, windows, active)
        return LearnerState(Policy({"windows": windows}), state.rollout), report()

    learner = scripted_learner(rising)._replace(step=step)
    run_loop = loop(learner, fixed())
    states = jax.vmap(run_loop.init)(jax.random.split(jax.random.key(0), 2))
    limits = states.limits._replace(max_rounds=jnp.array([2, 4]))
    states = jit(jax.vmap(run_loop.run))(states._replace(limits=limits))
    assert states.learner.policy.params["windows"][:, 0].tolist() == [2, 4]
    assert sum(active for _, active in calls) == 6


# --- tuning -----------------------------------------------------------------------


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_spsa_in_the_loop_finds_the_optimum(lanes, scale, validated):
    learner = target_learner(scale)
    score = None
    if validated:  # the learner's own score points the other way
        score = learner.evaluate
        learner = learner._replace(evaluate=lambda p, k: p.params["rate"])
    tuner = spsa({"rate": (0.0, 1.0)}, lanes=lanes)
    run_loop = loop(
        learner, tuner, score=score, max_rounds=200, min_rounds_before_dormant=200
    )
    keys = jax.random.split(jax.random.key(0), 20)
    states = jit(jax.vmap(lambda k: run_loop.run(run_loop.init(k))))(keys)
    rates = jax.vmap(tuner.centre)(states.tuner)["rate"]
    np.testing.assert_allclose(rates, 0.8, atol=0.05)


def test_spsa_in_the_loop_under_noise():
    # the initial gap of the score is 0.09
    learner = target_learner(noise=0.09 / 4)
    tuner = spsa({"rate": (0.0, 1.0)})
    run_loop = loop(
        learner, tuner, max_rounds=200, min_rounds_before_dormant=200, rollback=False
    )
    keys = jax.random.split(jax.random.key(0), 20)
    states = jit(jax.vmap(lambda k: run_loop.run(run_loop.init(k))))(keys)
    rates = jax.vmap(tuner.centre)(states.tuner)["rate"]
    assert (abs(rates - 0.8) < 0.1).sum() >= 18


def test_forks_share_their_keys_and_the_better_one_goes_on():
    tuner = spsa({"rate": (0.0, 1.0)})
    run_loop = loop(target_learner(), tuner)
    state = run_loop.init(jax.random.key(0))
    new, told = jit(run_loop.step)(state)
    rates = told.hyperparams["rate"]
    assert rates[0] != rates[1]
    winner = rates[jnp.argmax(told.lane_scores)]
    np.testing.assert_array_equal(new.learner.policy.params["rate"], [winner, winner])
    np.testing.assert_allclose(told.score, told.lane_scores.mean())
    # what is handed over is the centre, never a probe
    np.testing.assert_allclose(new.best.hyperparams["rate"], 0.5)


# --- transforms -------------------------------------------------------------------


def modulating(factor, name="rate"):
    def update(state, policy, rollout, report, signals):
        del report
        return state + 1, policy, rollout, {name: jnp.float32(factor)}

    return Transform(lambda policy: jnp.int32(0), update, {})


def test_modulation_multiplies_what_was_asked_within_bounds_and_is_not_told():
    tuner = spsa({"rate": (0.4, 0.7)}, lanes=1)
    transforms = chain(modulating(3.0), modulating(2.0))
    run_loop = loop(target_learner(), tuner, transforms=transforms)
    state, history = reports(run_loop, 3)
    assert history.hyperparams["rate"][0] < 0.7
    np.testing.assert_allclose(history.hyperparams["rate"][1:], 0.7)
    assert (history.centre["rate"] < 0.7).all()
    assert state.transforms[0].tolist() == [3]
    assert state.modulation["rate"].tolist() == [6.0]


def test_a_transform_that_modulates_an_unknown_name_is_refused():
    run_loop = loop(target_learner(), fixed(), transforms=modulating(1.0, "rat"))
    state = run_loop.init(jax.random.key(0))
    with pytest.raises(ValueError, match="'rat'; did you mean 'rate'"):
        run_loop.step(state)


def test_a_structural_change_restarts_the_history_and_travels_with_the_best():
    def init(key):
        policy = Policy({"windows": jnp.float32(0)}, structure=jnp.uint8(0))
        return LearnerState(policy, jnp.int32(0))

    def update(count, policy, rollout, report, signals):
        grown = policy.structure + (count % 10 == 9).astype(jnp.uint8)
        return count + 1, policy._replace(structure=grown), rollout, {}

    grow = Transform(lambda policy: jnp.int32(0), update, {})
    learner = scripted_learner(rising)._replace(init=init)
    state, history = reports(loop(learner, fixed(), transforms=grow), 25)
    assert np.flatnonzero(history.events & Event.STRUCTURE).tolist() == [9, 19]
    assert state.history.count == 5
    assert state.best.policy.structure == 2
    assert state.best.transforms == 24  # as it was when the policy was scored


def test_a_transform_sees_the_last_trajectory_of_the_round():
    def step(state, hyperparams, key, active):
        new, told = base.step(state, hyperparams, key, active)
        return new, told._replace(trajectory=new.policy.params["windows"])

    def update(seen, policy, rollout, told, signals):
        return told.trajectory, policy, rollout, {}

    base = scripted_learner(rising)
    watch = Transform(lambda policy: jnp.float32(0), update, {})
    run_loop = loop(
        base._replace(step=step), fixed(), transforms=watch, windows_per_round=4
    )
    state, _ = reports(run_loop, 3)
    assert state.transforms.tolist() == [12.0]


# --- the curve and restarts -------------------------------------------------------


def test_the_curve_keeps_its_size():
    line = scripted_learner(lambda windows, key: windows)
    state, _ = reports(loop(line, fixed(), max_rounds=5000), 3000)
    assert state.curve.shape == (1024,)
    assert state.curve_stride == 4
    drawn = state.curve[jnp.isfinite(state.curve)]
    np.testing.assert_array_equal(drawn, 1 + 4 * np.arange(750))


def test_restart_goes_on_from_a_policy_with_the_limits_of_the_old_run():
    run_loop = loop(scripted_learner(rising), fixed(), max_rounds=30)
    old = run(run_loop)
    new = run_loop.restart(old, old.best.policy, {"rate": 0.25}, jax.random.key(9))
    assert new.round == 0
    assert new.limits.max_rounds == 30
    assert new.learner.policy.params["windows"].tolist() == [30.0]
    assert new.best.hyperparams["rate"] == 0.25
    assert jit(run_loop.run)(new).best.policy.params["windows"] >= 58


def test_unknown_hyperparameters_are_refused():
    run_loop = loop(scripted_learner(rising), fixed())
    with pytest.raises(ValueError, match="'rte'; did you mean 'rate'"):
        run_loop.init(jax.random.key(0), {"rte": 1.0})
    with pytest.raises(ValueError, match="unknown tuned hyperparameter"):
        loop(scripted_learner(rising), spsa({"discount": (0.9, 0.99)}))


def test_a_learner_is_a_record_of_functions():
    assert isinstance(scripted_learner(rising), Learner)
