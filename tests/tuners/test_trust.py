"""The rate steered by divergence, on laws of divergence that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.loop.loop import loop
from optix.tuners.trust import TARGET, trust
from optix.types import Signals
from tests.toys import target_learner

BOUNDS = {"rate": (1e-8, 1e2)}
BASE = {"rate": 0.1, "discount": 0.99}


def signals(divergence, hyperparams, metric="kl"):
    zero = jnp.float32(0)
    metrics = {metric: jnp.asarray(divergence, jnp.float32)[None]}
    return Signals(
        zero[None],
        *[zero] * 6,
        hyperparams=hyperparams,
        metrics=metrics,
        key=jax.random.key(0),
    )


def steer(tuner, law, start, rounds, key=None):
    """Rates asked for [rounds + 1] where `law(rate, round, key)` is the divergence."""
    keys = jax.random.split(jax.random.key(0) if key is None else key, rounds)

    def body(state, inputs):
        number, key = inputs
        asked = tuner.ask(state)
        divergence = law(asked["rate"][0], number, key)
        state, parents = tuner.tell(state, signals(divergence, asked), key)
        assert parents.shape == (1,)
        return state, tuner.centre(state)["rate"]

    state = tuner.init(BASE | {"rate": start}, key)
    rates = jax.lax.scan(body, state, (jnp.arange(rounds), keys))[1]
    return jnp.append(jnp.float32(start), rates)


def test_it_comes_to_the_target_from_a_thousand_times_off():
    """The divergence is `c rate^2` with noise, `c` and the start anything."""

    @jax.jit
    def gaps(factor, off, key):
        """Divergence over target without the noise, [8 and 24 rounds]."""
        right = jnp.sqrt(TARGET / factor)

        def law(rate, number, key):
            noise = jnp.exp(0.1 * jax.random.normal(key))
            return factor * rate**2 * noise

        rates = steer(trust(BOUNDS), law, right * off, 24, key)
        return factor * rates[jnp.array([8, 24])] ** 2 / TARGET

    for factor in 10.0 ** np.arange(-3, 4):
        for off in (1e-3, 1e3):
            keys = jax.random.split(jax.random.key(1), 20)
            gap = jax.vmap(gaps, (None, None, 0))(factor, off, keys)
            assert (gap > 1 / 1.3).all() and (gap < 1.3).all(), (factor, off)


def test_a_policy_that_has_converged_does_not_drive_it_up():
    """Nor does the way to the right rate, 0.1, say how far it may go later."""

    def law(rate, number, key):
        del key
        return rate**2 * jnp.where(number < 24, 1.0, 1e-6)

    for start in (1e-4, 0.01, 0.03, 0.1, 1.0):
        rates = steer(trust(BOUNDS, target=0.01, headroom=4.0), law, start, 60)
        np.testing.assert_allclose(rates[10], 0.1, rtol=0.05)
        np.testing.assert_allclose(rates[-1], 0.4, rtol=1e-3)
    free = steer(trust(BOUNDS, headroom=1e9), law, 0.01, 60)
    assert free[-1] > 50  # it would have gone to where the divergence is had again


def test_one_that_moves_less_and_less_does_not_either():
    """The rate that keeps to the target doubles every ten rounds, for ever."""

    def law(rate, number, key):
        del key
        return TARGET * rate**2 * 4.0 ** (-number / 10)

    rates = steer(trust(BOUNDS), law, 1.0, 200)
    assert rates[16] > 1.5  # it follows
    right = 2.0 ** (np.arange(16) / 10)  # of the first rounds
    np.testing.assert_allclose(rates[-1], 3.0 * np.exp(np.log(right).mean()), rtol=1e-3)


def test_moves_are_bounded_and_down_further_than_up():
    rates = steer(trust(BOUNDS), lambda *_: jnp.float32(1e9), 0.1, 3)
    np.testing.assert_allclose(rates, [1e-1, 1e-2, 1e-3, 1e-4], rtol=1e-4)
    rates = steer(trust(BOUNDS), lambda *_: jnp.float32(0), 0.1, 20)
    np.testing.assert_allclose(rates[:4], [0.1, 0.8, 6.4, 51.2], rtol=1e-4)
    assert rates[-1] == 100.0  # its bound
    rates = steer(trust(BOUNDS), lambda *_: jnp.float32(jnp.nan), 0.1, 20)
    np.testing.assert_allclose(rates[:3], [1e-1, 1e-2, 1e-3], rtol=1e-4)
    np.testing.assert_allclose(rates[-1], 1e-8, rtol=1e-4)


def test_what_it_can_not_steer_is_refused():
    for wrong, words in (
        (dict(bounds={"rate": (0.0, 1.0)}), "must be positive"),
        (dict(bounds={"a": (1.0, 2.0), "b": (1.0, 2.0)}), "one learning rate"),
        (dict(bounds={}), "one learning rate"),
        (dict(bounds=BOUNDS, target=0.0), "target must be"),
        (dict(bounds=BOUNDS, up=0.5), "up must be"),
        (dict(bounds=BOUNDS, down=jnp.nan), "down must be"),
        (dict(bounds=BOUNDS, headroom=0.9), "headroom must be"),
    ):
        with pytest.raises(ValueError, match=words):
            trust(**wrong)
    with pytest.raises(ValueError, match="tuned hyperparameter 'rate'"):
        trust(BOUNDS).init({"discount": 0.9}, None)


@pytest.mark.parametrize("agent", ["dqn", "rainbow", "sac", "td3"])
def test_an_agent_that_reports_no_divergence_is_refused_at_once(agent):
    env = "CartPole-v1" if agent in ("dqn", "rainbow") else "Pendulum-v1"
    with pytest.raises(ValueError, match="reports 'kl', as PPO.*value_loss.*fixed"):
        optix.make(env, agent, tuner="trust", hidden=(4,))


def test_a_learner_that_reports_no_divergence_is_named():
    run = loop(target_learner(), trust({"rate": (0.1, 1.0)}))
    with pytest.raises(ValueError, match="reports 'kl', as PPO does.*tuner='fixed'"):
        jax.eval_shape(lambda key: run.step(run.init(key)), jax.random.key(0))


def test_it_steers_ppo():
    """Of a rate that hardly moves the policy; the same program at another target."""
    tiny = dict(num_envs=4, num_steps=16, hidden=(8,), evaluation_episodes=2)

    @jax.jit
    def rates(target):
        tuner = trust({"learning_rate": (1e-6, 1e-1)}, target=target)
        run = optix.make("CartPole-v1", "ppo", tuner=tuner, learning_rate=1e-6, **tiny)
        state = run.init(jax.random.key(0))
        return jax.lax.scan(
            lambda state, _: (
                (after := run.step(state))[0],
                after[1].hyperparams["learning_rate"][0],
            ),
            state,
            length=6,
        )[1]

    low, high = rates(1e-9), rates(1e-2)
    assert low[-1] < 1e-4 < high[-1]
    np.testing.assert_allclose(high[:4], [1e-6, 8e-6, 6.4e-5, 5.12e-4], rtol=1e-4)
