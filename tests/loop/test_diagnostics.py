"""Detectors on streams whose faults are planted, and on noise in which there are none."""

from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix import BaseAgent, HyperparamSet, LoopCallback, RLOptimizer
from optix.checks import OptionError
from optix.host import BatchPipeline
from optix.loop.diagnostics import diagnostics, spike
from optix.loop.loop import loop
from optix.loop.round import diagnoses
from optix.loop.transforms import chain
from optix.make import make
from optix.tuners.fixed import fixed
from optix.types import (
    Box,
    Discrete,
    Event,
    Phase,
    Policy,
    Report,
    Signals,
    Transform,
)
from tests.optimised import jit
from tests.toys import report as reported
from tests.toys import scripted_learner

ROUNDS, HISTORIES = 200, 1000
SOME = [0, 1, 0, 1, 0]  # two as five, the size that is compiled
PPO = {"learning_rate": 1e-3, "entropy_coefficient": 0.01}
DQN = {"learning_rate": 1e-3, "epsilon_end": 0.05, "epsilon_steps": 1000.0}


def watch(transform, metrics, hyperparams=PPO, phases=None, env_steps=None):
    """Return events [N] and factors {name: [N]} of a stream of metrics {name: [N]}."""
    count = len(next(iter(metrics.values())))
    phases = jnp.zeros(count, jnp.int32) if phases is None else phases
    steps = jnp.zeros(count) if env_steps is None else env_steps

    def one(state, given):
        numbers, phase, done = given
        policy = Policy((), extras=_Counted(done))
        signals = Signals(
            *[jnp.float32(0)] * 2, phase, 0, 0.0, 0.0, False, hyperparams, numbers, None
        )
        told = Report(jnp.int32(1), jnp.bool_(True), numbers)
        state, _, _, factors = transform.update(state, policy, (), told, signals)
        return state, (transform.events(state), factors)

    start = transform.init(Policy(()))
    return jax.lax.scan(one, start, (metrics, phases, steps))[1]


class _Counted:
    def __init__(self, env_steps):
        self.env_steps = env_steps


def fired(events, event):
    return np.flatnonzero(np.asarray(events) & int(event)).tolist()


def noise(kind, shape=(ROUNDS,), seed=0):
    rng = np.random.default_rng(seed)
    if kind == "normal":
        return 1 + 0.2 * rng.normal(size=shape)
    if kind == "lognormal":
        return np.exp(0.5 * rng.normal(size=shape))
    if kind == "heavy":
        return 1 + 0.1 * rng.standard_t(3, size=shape)
    if kind == "about zero":
        return 0.01 * rng.normal(size=shape)
    steps = rng.normal(size=shape)  # autocorrelated
    out = np.empty(shape)
    out[..., 0] = steps[..., 0]
    for t in range(1, shape[-1]):
        out[..., t] = 0.9 * out[..., t - 1] + np.sqrt(1 - 0.81) * steps[..., t]
    return np.exp(0.5 * out)


@pytest.fixture(scope="module")
def loss_events():
    """Events of many histories of a loss at once."""
    transform = diagnostics(detectors=["loss"])
    return jit(jax.vmap(lambda x: watch(transform, {"value_loss": x})[0]))


def leaps(losses):
    """Whether each of the losses [histories, rounds] is a spike after those before."""

    def one(state, value):
        leaps, *state = spike(*state, value, 5.0, 8.0)
        return tuple(state), leaps

    start = jnp.full(32, jnp.nan), jnp.int32(0)
    return jax.vmap(lambda x: jax.lax.scan(one, start, x)[1])(losses)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_loss_that_leaps_fires_at_once_in_any_unit(loss_events, scale):
    kinds = ["normal", "lognormal", "heavy", "about zero", "autocorrelated"]
    losses = np.stack([noise(kind) for kind in kinds])
    spread = np.median(np.abs(losses - np.median(losses, 1, keepdims=True)), 1)
    losses[:, 120] = 20 * np.median(losses, 1) + 40 * spread
    found = loss_events(jnp.float32(scale * losses))
    for kind, events in zip(kinds, found, strict=True):
        assert 120 in fired(events, Event.LOSS_SPIKE), kind


def test_stationary_losses_fire_seldom():
    """False alarms a thousand rounds; what is called normal has none."""
    limits = {
        "normal": 0.0,
        "lognormal": 1.0,
        "heavy": 0.3,
        "about zero": 0.05,
        "autocorrelated": 3.0,
    }
    found = jit(leaps)
    for kind, limit in limits.items():
        losses = jnp.float32(noise(kind, (HISTORIES, 100), seed=1))
        events = np.asarray(found(losses))
        rate = 1000 * np.mean(events[:, 16:])  # before, nobody knows what is usual
        print(f"{kind}: {rate:.3f} false alarms a thousand rounds")
        assert rate <= limit, kind
        # a unit that is a power of two changes no bit
        np.testing.assert_array_equal(events, found(losses * 2.0**20))


def test_losses_of_nothing_and_what_is_not_finite_do_not_count(loss_events):
    losses = np.concatenate([np.zeros(50), noise("normal", (150,))])
    broken = losses.copy()
    broken[100:110] = np.nan
    for found in loss_events(jnp.float32(np.stack([losses, broken])[SOME])):
        assert not fired(found, Event.LOSS_SPIKE)


@pytest.mark.parametrize(
    ("space", "start", "size"), [(Discrete(4), 1.38, 1), (Box((3,)), 4.2, 3)]
)
def test_an_entropy_that_collapses_fires_and_one_that_falls_as_it_should_does_not(
    space, start, size
):
    transform = diagnostics(space)
    run = jit(jax.vmap(lambda x: watch(transform, {"entropy": x})[0]))
    rng = np.random.default_rng(0)
    falls = np.linspace(start, start * 0.2, ROUNDS) + 0.01 * rng.normal(size=ROUNDS)
    if isinstance(space, Box):  # of a box it may become negative
        falls = np.linspace(start, start - 2.5 * size, ROUNDS)
    collapses = falls.copy()
    collapses[80:] = 0.02 if isinstance(space, Discrete) else start - 3.2 * size
    begins_low = np.full(ROUNDS, 0.05 if isinstance(space, Discrete) else -3.0)
    stationary = start + 0.1 * rng.normal(size=(HISTORIES, ROUNDS))
    rows = np.concatenate([[falls, collapses, begins_low], stationary])
    found = np.asarray(run(jnp.float32(rows)))
    assert not found[0].any() and not found[2].any()
    assert fired(found[1], Event.ENTROPY_COLLAPSE)[0] == 80
    assert np.diff(fired(found[1], Event.ENTROPY_COLLAPSE)).min() > 10
    assert not found[3:].any()


def test_a_divergence_that_is_too_high_fires_and_its_factor_comes_back():
    transform = diagnostics()
    run = jit(jax.vmap(lambda x: watch(transform, {"kl": x})))
    rng = np.random.default_rng(0)
    usual = 0.01 * np.exp(0.6 * rng.normal(size=(HISTORIES, ROUNDS)))
    usual[0, 50] = 0.3
    usual[1, 100:] = 0.3
    events, factors = run(jnp.float32(usual))
    events, rate = np.asarray(events), np.asarray(factors["learning_rate"])
    assert 50 in fired(events[0], Event.DIVERGENCE)
    assert rate[0, 50] == pytest.approx(0.5)
    assert (np.diff(rate[0, 50:80]) >= 0).all() and (rate[0, 95:100] == 1).all()
    assert (rate >= 0.25 - 1e-6).all() and (rate <= 1).all()
    again = fired(events[1], Event.DIVERGENCE)
    assert again[0] == 100 and set(np.diff(again)) == {11}
    rate_of_alarms = 1000 * np.mean(events[2:] > 0)
    print(f"divergence: {rate_of_alarms:.3f} false alarms a thousand rounds")
    assert rate_of_alarms < 0.2  # 3.8 standard deviations: 0.06
    assert (factors["entropy_coefficient"] == 1).all()


def test_exploration_that_is_over_while_nothing_improves_is_raised():
    transform = diagnostics(stale_rounds=15, pause=20)
    steps = jnp.arange(ROUNDS) * 20.0  # epsilon is at its end in round 50
    rng = np.random.default_rng(0)
    # improvement comes at least every 14 rounds in the first, never in the second
    alive = rng.random((HISTORIES, ROUNDS)) < 0.1
    alive[:, ::14] = True
    alive[0] = False
    phases = jnp.where(jnp.asarray(alive), Phase.ACTIVE, Phase.COOLING)
    none = {"value_loss": jnp.full(ROUNDS, jnp.nan)}
    events, factors = jit(
        jax.vmap(lambda phase: watch(transform, none, DQN, phase, steps))
    )(phases)
    assert fired(events[0], Event.STALE_EXPLORATION)[0] == 50 + 15 - 1
    assert factors["epsilon_end"][0, 64] == pytest.approx(2)
    assert factors["epsilon_end"].max() <= 4
    assert not np.asarray(events[1:]).any()
    assert set(factors) == {"learning_rate", "epsilon_end"}


def test_detectors_are_off_where_they_are_not_asked_for_or_have_no_metric():
    wild = {
        "value_loss": jnp.float32(noise("normal")).at[150].set(1e9),
        "kl": jnp.full(ROUNDS, 9.0),
        "entropy": jnp.where(jnp.arange(ROUNDS) > 50, 0.0, 1.0),
        "unknown": jnp.full(ROUNDS, 1e9),
    }
    cooling = jnp.full(ROUNDS, Phase.COOLING)
    every = {
        "loss": Event.LOSS_SPIKE,
        "entropy": Event.ENTROPY_COLLAPSE,
        "divergence": Event.DIVERGENCE,
        "exploration": Event.STALE_EXPLORATION,
    }
    settings = {**PPO, "exploration_noise": 0.1}
    for name, event in every.items():
        only = diagnostics(Discrete(2), detectors=[name])
        events = np.asarray(watch(only, wild, settings, cooling)[0])
        assert set(np.unique(events)) == {0, int(event)}, name
    nothing = {"unknown": wild["unknown"]}
    both = diagnostics(Discrete(2))
    assert not np.asarray(watch(both, nothing, {"rate": 1.0}, cooling)[0]).any()
    # no space is known, so nobody knows what an entropy means
    unknown = {"entropy": wild["entropy"]}
    assert not np.asarray(watch(diagnostics(), unknown)[0]).any()


def faulty_learner():
    """A learner whose policy moves too far in its fifth window, and then as it should."""
    learner = scripted_learner(lambda windows, key: windows)

    def step(state, hyperparams, key, active):
        state, _ = learner.step(state, hyperparams, key, active)
        far = state.policy.params["windows"] == 5
        return state, reported(kl=jnp.where(far, 1.0, 0.01))

    return learner._replace(step=step, hyperparams={"learning_rate": 0.5})


@pytest.fixture(scope="module")
def run_loop():
    transforms = diagnostics(detectors=["divergence"], recovery=0.5)
    return loop(faulty_learner(), fixed(), transforms=transforms)


def test_in_a_loop_the_next_round_trains_by_less_and_the_report_says_why(run_loop):
    """Two seeds in one program; resumed from the middle, bit for bit."""

    def rounds(states, count):
        def step(states, _):
            states, report = jax.vmap(run_loop.step)(states)
            return states, report

        return jax.lax.scan(step, states, None, length=count)

    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.jit(jax.vmap(run_loop.init))(keys)
    four = jax.jit(lambda states: rounds(states, 6))
    middle, first = four(states)
    last, second = four(jax.tree.map(jnp.copy, middle))
    whole, all_ = jax.jit(lambda states: rounds(states, 12))(states)
    for x, y in zip(jax.tree.leaves(last), jax.tree.leaves(whole), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(x, y)
    events = np.concatenate([first.events, second.events])
    np.testing.assert_array_equal(events, all_.events)
    for seed in range(2):
        assert fired(events[:, seed], Event.DIVERGENCE) == [4]
    rate = np.asarray(all_.hyperparams["learning_rate"])[:, 0, 0]
    half = 0.5 * np.exp(-np.log(2) * 0.5 ** np.arange(7))
    np.testing.assert_allclose(rate[:5], 0.5)
    np.testing.assert_allclose(rate[5:12], half, rtol=1e-5)
    np.testing.assert_array_equal(all_.centre["learning_rate"], 0.5)


def test_a_host_agent_is_watched_by_what_it_reports(capsys):
    class Wild(BaseAgent):
        """Its rate, by which it moves far in every window."""

        rate = 0.5

        def act(self, observation):
            return 0

        def learn(self, episode_data):
            return {"kl": self.rate}

        def get_hyperparams(self):
            return HyperparamSet({"learning_rate": self.rate})

        def set_hyperparams(self, hyperparams):
            self.rate = hyperparams.params["learning_rate"]

        def save_weights(self, path):
            Path(path).touch()

        def load_weights(self, path):
            pass

    seen = []

    class Watcher(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            report = eval_metrics.report
            rate = float(report.hyperparams["learning_rate"][0])
            seen.append((Event.DIVERGENCE in Event(int(report.events)), rate))

    optimizer = RLOptimizer(
        Wild(),
        BatchPipeline(gymnasium.make("CartPole-v1"), window_size=4),
        diagnostics=True,
        metrics=("kl",),
        max_episodes=3,
        windows_per_round=1,
        evaluation_episodes=1,
        callbacks=[Watcher()],
        progress=False,
        verbose=True,
    )
    optimizer.run()
    assert [fired for fired, _ in seen] == [True, False, False]
    np.testing.assert_allclose([rate for _, rate in seen][:2], [0.5, 0.25])
    assert "round 1: divergence too high" in capsys.readouterr().out
    with pytest.raises(OptionError, match="diagnostics must be True or False"):
        RLOptimizer(Wild(), optimizer.pipeline, diagnostics="yes")


def test_only_lanes_that_count_say_what_they_found():
    one = Transform(
        lambda policy: (), None, {}, lambda state: jnp.where(state > 0, 4096, 0)
    )
    states = jnp.array([0, 1])
    found = [int(diagnoses(one, states, jnp.array(x))) for x in ([1, 1], [1, 0])]
    assert found == [4096, 0]
    both = chain(
        one,
        one._replace(events=lambda state: jnp.int32(8192)),
        Transform(lambda policy: (), None, {}),
    )
    assert int(both.events((jnp.int32(1), jnp.int32(0), ()))) == 4096 | 8192
    assert both.trajectory and not chain(diagnostics()).trajectory


@pytest.mark.parametrize("agent", ["ppo", "dqn", "sac", "td3"])
def test_every_agent_can_be_watched(agent):
    environment = "Pendulum-v1" if agent in ("sac", "td3") else "CartPole-v1"
    run = make(environment, agent, diagnostics=True, num_envs=4, num_steps=8)
    state = jax.eval_shape(run.init, jax.random.key(0))
    new, report = jax.eval_shape(run.step, state)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert report.events.shape == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"action_space": 3},
            "action_space must be a Discrete, MultiDiscrete, Box or None",
        ),
        ({"detectors": "loss"}, "detectors must be names"),
        ({"detectors": ["los"]}, "did you mean 'loss'"),
        ({"loss_factor": 0.5}, "loss_factor must be in"),
        ({"entropy_share": 2.0}, "entropy_share must be in"),
        ({"divergence_limit": 0.0}, "divergence_limit must be in"),
        ({"stale_rounds": 0}, "stale_rounds must be an integer"),
        ({"pause": 0}, "pause must be an integer"),
        ({"step": 0.5}, "step must be in"),
        ({"largest": float("nan")}, "largest must be in"),
        ({"recovery": 1.1}, "recovery must be in"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        diagnostics(**options)
    with pytest.raises(OptionError, match="diagnostics must be True or False"):
        make("CartPole-v1", diagnostics=1)
